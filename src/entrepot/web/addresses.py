"""Whose address a request comes from, and what one address may do.

Many devices share an address behind a NAT, so what an address may do is far more than what a device may; the limits
only keep one address from holding all that a server has. Rules:

- An IPv6 customer has a whole network: its /64 counts as one address.
- Behind a front of the cloud the peer is the front; it appends the address that it saw to ``X-Forwarded-For``. What
  stands before that was written by the client, and counts for nothing.
- Tokens that are not good are counted for each address. Where there were too many, tokens that are not known to be good
  already are refused unread (429), so that guessing costs us nothing; whoever has shown a good one goes on with it.
"""

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from entrepot.protocol.control import AddressLimits
from entrepot.web.asgi import Scope
from entrepot.web.throttle import Throttle

FAILURE_BURST_SECONDS = 10.0
"""Tokens of many devices behind one address may end together."""
AddressOf = Callable[[Scope], str]


def peer_address(scope: Scope) -> str:
    """The address at the other end of the connection; empty when it is not known."""
    client = scope.get("client")
    return network_of(client[0]) if client else ""


def forwarded_address(scope: Scope) -> str:
    """The address that the front saw; the front's own when it does not tell."""
    told = ""
    for name, value in scope["headers"]:  # several headers are one list
        if name == b"x-forwarded-for":
            told = value.decode("latin-1").rpartition(",")[2].strip() or told
    return network_of(told) if told else peer_address(scope)


@lru_cache(maxsize=4096)
def network_of(text: str) -> str:
    """What counts as one address: an IPv4 address, an IPv6 customer's whole /64."""
    host = text.partition("]")[0].removeprefix("[") if text.startswith("[") else text
    if host.count(":") == 1:  # address:port, as some fronts write it
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return text[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))


class AddressGate:
    """Counts what addresses do. Memory: two tables of bounded size.

    Attributes:
        limits: what one address may do; may be replaced at any time.
    """

    def __init__(self, limits: AddressLimits = AddressLimits()) -> None:  # noqa: B008  # frozen
        self.limits = limits
        self._requests = Throttle("one address")
        self._failures = Throttle("one address", what="failed requests", burst_seconds=FAILURE_BURST_SECONDS)

    def enter(self, address: str, *, now: float) -> None:
        """Count a request.

        Raises:
            LimitedError: too many from this address.
        """
        self._requests.take(address, rate=self.limits.requests_per_second, now=now)

    def trust(self, address: str, *, now: float) -> None:
        """Before a token is verified that is not known.

        Raises:
            LimitedError: too many from this address were not good.
        """
        self._failures.check(address, rate=self.limits.failures_per_second, now=now)

    def failed(self, address: str, *, now: float) -> None:
        """Count a token that was not good."""
        self._failures.count(address, rate=self.limits.failures_per_second, now=now)
