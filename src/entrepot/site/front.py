"""The page at ``/``: what a person sees who types the site's address into a browser.

It says what this is and where to go on. It needs no session, so it shows nothing that a stranger may not know: the
site's code, which ``/healthz`` tells as well. One answer without scripts, cookies or anything from elsewhere.
"""

from html import escape
from typing import Final

from entrepot.protocol.siteapi import PREFIX
from entrepot.site.api.documentation import DOCS
from entrepot.web.asgi import Receive, Scope, Send, send_response

_POLICY: Final = b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_HEADERS: Final = (
    (b"cache-control", b"max-age=300"),
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Entrepôt site {site}</title>
<link rel="icon" href="data:,">
<style>
  :root {{ --ink: #1b1f24; --quiet: #57606a; --paper: #ffffff; --line: #d0d7de; --link: #0b57d0; --soft: #f3f5f7 }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ink: #e6e8eb; --quiet: #a3adb8; --paper: #16191d; --line: #3a4149; --link: #8ab4f8; --soft: #20252b }}
  }}
  body {{ margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.6 system-ui, sans-serif }}
  main {{ max-width: 42rem; margin: 0 auto; padding: 3rem 1.25rem }}
  h1 {{ margin: 0; font-size: 1.75rem; line-height: 1.2 }}
  p.what {{ margin: .5rem 0 2rem; color: var(--quiet) }}
  h2 {{ margin: 2rem 0 .5rem; font-size: 1.1rem }}
  ul {{ list-style: none; margin: 0; padding: 0; border-top: 1px solid var(--line) }}
  li {{ padding: .75rem 0; border-bottom: 1px solid var(--line) }}
  li span {{ display: block; color: var(--quiet) }}
  a {{ color: var(--link); text-underline-offset: .2em }}
  a:focus-visible {{ outline: 3px solid var(--link); outline-offset: 3px; border-radius: 2px }}
  pre {{ margin: 0; padding: .75rem 1rem; overflow-x: auto; background: var(--soft); border-radius: 6px }}
  code {{ font: .95em/1.6 ui-monospace, monospace }}
</style>
</head>
<body>
<main>
<h1>Entrepôt site {site}</h1>
<p class="what">This server distributes software to managed devices. It is administered by its API and the command line.</p>
<h2 id="here">Here</h2>
<ul aria-labelledby="here">
<li><a href="{docs}">API documentation</a><span>Every route, with its requests, answers and refusals.</span></li>
<li><a href="{docs}/openapi.json">OpenAPI document</a><span>The same for programs. The API lies below <code>{prefix}</code>.</span></li>
<li><a href="/healthz">Health</a><span>Whether the site works, for load balancers and monitoring.</span></li>
</ul>
<h2>From the command line</h2>
<pre tabindex="0"><code>entrepot login {url} --fingerprint …
entrepot --help</code></pre>
<p>The fingerprint of the hierarchy's root is printed by <code>entrepot site fingerprint</code> on the site server: ask its administrator, and do not take it from a page.</p>
</main>
</body>
</html>
"""  # noqa: E501 - sentences of the page


class FrontPage:
    """An ASGI application that answers ``GET`` and ``HEAD`` with the page.

    Args:
        site: code of the site.
        url: how everyone reaches it.
    """

    def __init__(self, *, site: str, url: str) -> None:
        text = _PAGE.format(site=escape(site), url=escape(url), docs=DOCS, prefix=PREFIX)
        self._body: Final = text.encode()

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        headers = (*_HEADERS, (b"content-type", b"text/html; charset=utf-8"))
        if scope["method"] != "HEAD":
            await send_response(send, 200, self._body, headers=headers)
            return
        start = [(b"content-length", b"%d" % len(self._body)), *headers]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
