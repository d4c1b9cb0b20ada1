"""``entrepot login`` and ``logout``: a session with a site."""

import asyncio
from typing import Annotated

import typer

from entrepot.cli.credentials import SiteLogin, forget_login, load_credentials, save_login, trust_file
from entrepot.cli.options import AsJson, PasswordFile, PasswordStdin
from entrepot.cli.output import print_done, print_json, say, when
from entrepot.cli.secrets import read_secret
from entrepot.cli.session import (
    FINGERPRINT_SOURCE,
    SiteSession,
    chosen_site,
    fingerprint_from,
    hierarchy_trust,
    site_session,
)
from entrepot.core.errors import BadInputError, EntrepotError, TrustError
from entrepot.durable.files import make_folder
from entrepot.protocol.siteapi import LoginRequest, Session


def login(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="Address of the site, https://…; default: of the last login.")] = "",
    fingerprint: Annotated[
        str | None,
        typer.Option(help="Of the hierarchy root; needed the first time. `entrepot site fingerprint` prints it."),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="Administrator; default: of the last login there, or admin.")
    ] = "",
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Log in to a site; commands go there from now on.

    The fingerprint pins the hierarchy: it verifies the site's trust document, which names the CA that the site's TLS
    certificate must come from. No certificate is ever accepted by hand.

    \b
    Examples:
      entrepot login https://site.contoso.com:8443 --fingerprint 5F1C-…
      entrepot login
    """
    url, name = _where_and_who(url or chosen_site(ctx) or "", name)
    if not url.startswith("https://"):
        raise BadInputError(f"{url!r} is no site address.", next_step="It begins with https://")
    pinned = _pin(url, fingerprint)
    password = read_secret(f"Password of {name} at {url}", file=password_file, stdin=password_stdin)
    with SiteSession(url, hierarchy_trust(pinned)) as session:
        reply = session.post("/login", LoginRequest(name=name, password=password.reveal_text()), Session)
    save_login(SiteLogin(url=url, fingerprint=pinned, name=reply.name, token=reply.token, expires=reply.expires))
    if as_json:
        print_json({"url": url, "name": reply.name, "expires": reply.expires})
    else:
        say(f"Logged in to {url} as {reply.name} until {when(reply.expires)}.")


def _where_and_who(url: str, name: str) -> tuple[str, str]:
    """The site and the administrator; what is not said is that of the last login."""
    known = load_credentials()
    url = (url or known.current).rstrip("/")
    if not url:
        raise BadInputError(
            "Nobody has logged in to a site yet.", next_step="Give its address: entrepot login https://…"
        )
    return url, name or next((site.name for site in known.sites if site.url == url), "admin")


def _pin(url: str, fingerprint: str | None) -> str:
    """Verify the site's trust document against the fingerprint, and keep it; give the fingerprint's canonical text."""
    from entrepot.trust.pins import TrustStore
    from entrepot.web.introduction import fetch_trust

    known = next((site.fingerprint for site in load_credentials().sites if site.url == url), None)
    if fingerprint is None and known is None:
        raise BadInputError(
            f"This is the first login to {url}: give the fingerprint of its hierarchy.",
            next_step=f"Add --fingerprint HEX. {FINGERPRINT_SOURCE} prints it.",
        )
    wanted = fingerprint_from(fingerprint if fingerprint is not None else known or "")
    path = trust_file(wanted.hex())
    make_folder(path.parent, mode=0o700)
    try:
        document = asyncio.run(fetch_trust(url, wanted))
    except TrustError as error:
        raise TrustError(
            f"This is not the hierarchy of that fingerprint. {error.message}",
            next_step=f"{FINGERPRINT_SOURCE} prints the right one: never take it from here or from a page. "
            "If it is the one that you gave, somebody stands in between.",
        ) from None
    TrustStore(path, fingerprint=wanted).accept(document)
    return wanted.hex()


def logout(ctx: typer.Context, as_json: AsJson = False) -> None:
    """End the session at the current site and forget it.

    \b
    Example:
      entrepot logout
    """
    with site_session(ctx) as session:
        url = session.url
        try:
            session.post("/logout", None, type(None))
        except EntrepotError as error:
            say(f"[yellow]Warning:[/] the site was not told: {error.message}")
    forget_login(url)
    print_done({"logged_out": url}, f"Logged out of {url}.", as_json=as_json)
