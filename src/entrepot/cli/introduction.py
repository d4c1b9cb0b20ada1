"""The first word with a site: its trust document, fetched before its TLS certificate can be verified.

This is the one request of the command line whose TLS is not verified. It needs no protection: the document is
signed by the hierarchy root, whose fingerprint the administrator gave, and nothing secret is sent.
"""

import asyncio
import ssl

import aiohttp

from entrepot.core.errors import TrustError
from entrepot.core.sizes import MIB
from entrepot.web.failures import network_failures

MAX_TRUST_BYTES = MIB
SECONDS = 15.0


def fetch_trust(url: str) -> bytes:
    """``GET /mp/trust`` from a site that is not trusted yet; the caller verifies what comes.

    Raises:
        UnavailableError: the site does not answer.
        TrustError: what answers is no site.
    """
    return asyncio.run(_fetch(f"{url}/mp/trust"))


async def _fetch(url: str) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    with network_failures(url):
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, ssl=context) as response:
            data = b""
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > MAX_TRUST_BYTES:
                    break
            if response.status != 200 or len(data) > MAX_TRUST_BYTES:
                raise TrustError(
                    f"{url} gives no trust document (HTTP status {response.status}).",
                    next_step="Check that the address is that of a site.",
                )
            return data
