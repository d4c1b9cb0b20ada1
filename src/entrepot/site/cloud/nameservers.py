"""Asks name servers themselves: loaded by ``dns`` when it is needed, and by nobody else."""

import asyncio
from collections.abc import Sequence
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from entrepot.site.cloud.dns import Resolved, same_name

DNS_SECONDS: Final = 3.0


class NameServers:
    """Name servers to ask.

    Args:
        servers: address and port of each; empty: the system's.
    """

    def __init__(self, servers: Sequence[tuple[str, int]]) -> None:
        self._servers = servers

    async def addresses(self, name: str) -> Resolved | None:
        """What they say about a name; None when it has neither addresses nor an alias, or none of them answers."""
        try:
            return await _both_families(self._asking(), name)
        except (dns.exception.DNSException, OSError, UnicodeError):
            return None

    async def texts(self, name: str) -> tuple[str, ...] | None:
        """The TXT records of a name; None when none of them answers."""
        try:
            answer = await self._asking().resolve(name, "TXT", raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return ()
        except (dns.exception.DNSException, OSError, UnicodeError):
            return None
        return tuple(b"".join(entry.strings).decode("ascii", "replace") for entry in answer.rrset or ())

    def _asking(self) -> dns.asyncresolver.Resolver:
        asking = dns.asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            asking.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in self._servers]
        asking.lifetime = DNS_SECONDS
        return asking


async def _both_families(asking: dns.asyncresolver.Resolver, name: str) -> Resolved | None:
    """None when the name has neither addresses nor an alias."""
    canonical, found = "", set[str]()
    asked = (asking.resolve(name, kind, raise_on_no_answer=False) for kind in ("A", "AAAA"))
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, dns.resolver.NXDOMAIN):
            canonical = canonical or _alias(name, answer)
            continue
        if isinstance(answer, BaseException):
            raise answer
        canonical = answer.canonical_name.to_text() if answer.canonical_name else canonical
        found |= {entry.to_text() for entry in answer.rrset or ()}
    if not found and not canonical:
        return None
    return Resolved(canonical=canonical or name, addresses=tuple(sorted(found)))


def _alias(name: str, missing: dns.resolver.NXDOMAIN) -> str:
    """The name at the end of an alias that leads nowhere; empty when there is no alias."""
    try:
        canonical = missing.canonical_name.to_text()
    except (TypeError, dns.exception.DNSException):
        return ""
    return "" if same_name(canonical, name) else canonical
