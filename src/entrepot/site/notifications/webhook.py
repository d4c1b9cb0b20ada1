"""Webhooks: a signed POST over TLS to an address that was checked at the moment of the call.

The signature is ``v1=`` HMAC-SHA-256 (hexadecimal) over the timestamp, a full stop and the body, under the
subscription's secret; a receiver refuses old timestamps and takes each ``Idempotency-Key`` once. The name is resolved
by us, every address it has is checked, and the connection goes to exactly those addresses: a name that changes its mind
between check and call gains nothing. Redirects are not followed and no proxy is asked.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from entrepot import __version__
from entrepot.core.errors import BadInputError, EntrepotError, RefusedError, TrustError, UnavailableError
from entrepot.core.secret import Secret
from entrepot.rules.notifying import check_destination, check_webhook
from entrepot.web.tls import TlsTrust

TIMEOUT: Final = 30.0
MAX_ANSWER: Final = 64 * 1024
_LATER: Final = frozenset({408, 409, 421, 423, 425, 429})


def signature(secret: Secret, timestamp: int, body: bytes) -> str:
    """The value of ``Entrepot-Signature``."""
    return "v1=" + hmac.new(secret.reveal(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


async def post(
    url: str, body: bytes, *, key: str, secret: Secret, timestamp: int, private_networks: bool, authority: str = ""
) -> str:
    """Deliver a webhook; what the receiver answered, in short.

    Args:
        key: the idempotency key.
        authority: PEM, trusted besides the public ones.

    Raises:
        BadInputError: the address may not be called.
        UnavailableError: the receiver does not answer, or not now.
        TrustError: its certificate is not trusted.
        RefusedError: it refuses the message for good.
    """
    check_webhook(url, private_networks=private_networks)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"entrepot/{__version__}",
        "Idempotency-Key": key,
        "Entrepot-Timestamp": str(timestamp),
        "Entrepot-Signature": signature(secret, timestamp, body),
    }
    connector = aiohttp.TCPConnector(
        ssl=TlsTrust.system(authority).verifier(), resolver=_Checked(private_networks), use_dns_cache=False, limit=1
    )
    try:
        return await _post(connector, url, body, headers)
    except aiohttp.ClientSSLError as error:
        raise TrustError(
            f"The receiver of the webhook is not trusted: {error}.", next_step="Give its authority with --authority."
        ) from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if (refused := _refusal(error)) is not None:
            raise refused from None
        raise UnavailableError(f"The receiver of the webhook does not answer: {type(error).__name__}.") from None


async def _post(connector: aiohttp.TCPConnector, url: str, body: bytes, headers: Mapping[str, str]) -> str:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
        session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
    ):
        await answer.content.read(MAX_ANSWER)
        status = answer.status
    if 200 <= status < 300:
        return f"HTTP {status}"
    if status >= 500 or status in _LATER:
        raise UnavailableError(f"The receiver of the webhook answers {status}.")
    raise RefusedError(f"The receiver of the webhook refuses the message: it answers {status}.")


def _refusal(error: BaseException) -> EntrepotError | None:
    """Our own error, where aiohttp wrapped it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, EntrepotError):
        cause = cause.__cause__ or cause.__context__
    return cause if isinstance(cause, EntrepotError) else None


class _Checked(AbstractResolver):
    """The system's resolver; a name with a single address that may not be called is refused whole."""

    def __init__(self, private_networks: bool) -> None:
        self._private_networks = private_networks
        self._system = aiohttp.ThreadedResolver(loop=asyncio.get_running_loop())

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        for one in found:
            try:
                ipaddress.ip_address(one["host"])
            except ValueError:
                raise BadInputError("The webhook's name resolves to something that is no address.") from None
            check_destination(one["host"], private_networks=self._private_networks)
        return found

    async def close(self) -> None:
        await self._system.close()
