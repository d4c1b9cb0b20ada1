"""The first word with a site: its trust document, fetched before the site's TLS certificate can be verified.

The document is signed by the hierarchy root, whose fingerprint came with the enrolment code, and nothing secret is
sent. All that follows is verified by the CA that the document names.
"""

from collections.abc import Mapping

from entrepot.core.errors import FormatError
from entrepot.core.sizes import MIB
from entrepot.trust.root import verify_trust_by_fingerprint
from entrepot.web.http import HttpClient
from entrepot.web.tls import TlsTrust

MAX_TRUST_BYTES = 4 * MIB


async def fetch_trust(
    url: str, fingerprint: bytes, *, resolve: Mapping[str, str] | None = None, proxy: str | None = None
) -> str:
    """``GET /mp/trust``, verified by the root's fingerprint; in its signed form.

    Raises:
        UnavailableError: the site does not answer.
        TrustError: the document is not signed by this root: another hierarchy, or somebody in between.
        FormatError: what answers is no site.
    """
    async with HttpClient(TlsTrust.introduction(), resolve, proxy) as http:
        answer = await http.request("GET", f"{url.rstrip('/')}/mp/trust", limit=MAX_TRUST_BYTES)
    try:
        text = answer.body.decode("ascii").strip()
    except UnicodeDecodeError:
        raise FormatError("The site's trust document is not text.") from None
    verify_trust_by_fingerprint(text, fingerprint)
    return text
