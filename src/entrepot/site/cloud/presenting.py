"""What a service shows its clients: the certificate that answers at its address, asked for as clients ask (R37).

The cloud says how its instances are; this looks at the way between. Nobody need be able to go it from the site's
server: where nothing answers, or something else does (an address that leads back into one's own network), that is told,
and is no fault of the service. Only a certificate for the service's own name that is not the one kept here is.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from entrepot.core.errors import EntrepotError
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudapi import HealthDetail
from entrepot.site.cloud.waiting import Sleep
from entrepot.trust.inspection import covers, dns_names, load_cer, thumbprint

PATIENCE: Final = 5.0
"""Seconds for a connection with its handshake."""
PAUSES: Final = (2.0, 4.0)
"""Seconds before another look: an instance that was replaced just now may still have had a connection in its queue."""
WAY: Final = "way of clients"

Ask = Callable[[str, str], Awaitable[bytes]]
"""Asks an address (``host:port``) for the certificate of a name; DER, empty where nobody shows one."""


async def ask_nobody(_address: str, _fqdn: str) -> bytes:
    """Where the site reaches nothing but through a proxy."""
    return b""


async def ask(address: str, fqdn: str) -> bytes:
    """Ask as :data:`Ask` says; nothing is sent but the handshake, and nothing is believed."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whatever is shown is compared with what is kept
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=context, server_hostname=fqdn, ssl_handshake_timeout=PATIENCE
            )
    except (OSError, ValueError):  # TimeoutError and those of TLS among them
        return b""
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return bytes(shown or b"")


async def look_at_way(point: CloudPoint, asks: Ask, sleep: Sleep) -> HealthDetail:
    """What clients are shown at the point's address; whatever is bad is looked at again before it is told."""
    for pause in (*PAUSES, None):
        found = judge_shown(point, await asks(point.address, point.fqdn))
        if found.state != "bad" or pause is None:
            return found
        await sleep(pause)
    raise AssertionError("unreachable")


def judge_shown(point: CloudPoint, shown: bytes) -> HealthDetail:
    """What a certificate at the point's address means; empty: nobody showed one."""
    if not shown:
        return _way("unknown", f"This server gets no answer at {point.address}: clients may, or not.")
    try:
        certificate = load_cer(shown)
        names = dns_names(certificate)
    except (EntrepotError, ValueError):
        return _way("unknown", f"What answers at {point.address} shows no certificate that can be read.")
    found = thumbprint(certificate).hex()
    if found == point.certificate_thumbprint:
        return _way("good", f"The service certificate is shown at {point.address}.")
    if not any(covers(name, point.fqdn) for name in names):
        return _way("unknown", f"Seen from this server, something else than the service answers at {point.address}.")
    return _way("bad", f"Another certificate for {point.fqdn} is shown at {point.address} (thumbprint {found}).")


def _way(state: str, message: str) -> HealthDetail:
    return HealthDetail(name=WAY, state=state, message=message)
