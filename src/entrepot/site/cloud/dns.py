"""The DNS alias of a cloud point: what to create, and whether it leads where it must (R6)."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from entrepot.core.addresses import ip_and_port
from entrepot.protocol.cloudpointapi import DnsRecord
from entrepot.rules import sentences
from entrepot.rules.sentences import Said, Telling, say

if TYPE_CHECKING:
    from entrepot.site.cloud.nameservers import NameServers

_PORT: Final = 53


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What a resolver says about a name: its canonical name, and its addresses (none: it does not exist)."""

    canonical: str
    addresses: tuple[str, ...]


Resolver = Callable[[str], Awaitable[Resolved]]
Texts = Callable[[str], Awaitable[tuple[str, ...] | None]]
"""The TXT records of a name; None when DNS does not answer."""


async def no_texts(_: str) -> tuple[str, ...] | None:
    """Nobody to ask."""
    return None


async def system_resolver(name: str) -> Resolved:
    """Ask the operating system's resolver."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, 443, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except (OSError, UnicodeError):
        return Resolved(canonical="", addresses=())
    return Resolved(
        canonical=next((entry[3] for entry in found if entry[3]), name),
        addresses=tuple(sorted({str(entry[4][0]) for entry in found})),
    )


def dns_resolver(servers: Sequence[str] = (), *, fallback: Resolver = system_resolver) -> Resolver:
    """A resolver that asks DNS itself, so that the alias can be seen, and not only where it ends.

    Args:
        servers: ``address`` or ``address:port`` (``[v6]:port``) of name servers; empty: the system's.
        fallback: asked for names that DNS does not have, such as those of a hosts file, unless servers are given.

    Raises:
        BadInputError: a server that is no address.
    """
    chosen = [ip_and_port(text, _PORT) for text in servers]

    async def resolve(name: str) -> Resolved:
        found = await (await asyncio.to_thread(_name_servers, chosen)).addresses(name)
        if found is None and not chosen:
            return await fallback(name)
        return found or Resolved(canonical="", addresses=())

    return resolve


def dns_texts(servers: Sequence[str] = ()) -> Texts:
    """Asks DNS for TXT records; the servers are as in :func:`dns_resolver`.

    Raises:
        BadInputError: a server that is no address.
    """
    chosen = [ip_and_port(text, _PORT) for text in servers]

    async def texts(name: str) -> tuple[str, ...] | None:
        return await (await asyncio.to_thread(_name_servers, chosen)).texts(name)

    return texts


def _name_servers(chosen: Sequence[tuple[str, int]]) -> "NameServers":
    """Loaded when the first is asked: that takes a tenth of a second, for which no start waits, nor any request."""
    from entrepot.site.cloud.nameservers import NameServers

    return NameServers(chosen)


def host_of(address: str) -> str:
    """The host in ``host:port`` or ``[v6]:port``."""
    host, _, port = address.rpartition(":")
    return (host if port.isdigit() and host else address).strip("[]")


def record_for(fqdn: str, address: str) -> DnsRecord | None:
    """The record to create so that ``fqdn`` leads to the provider's address; None while that is not known."""
    host = host_of(address)
    if not host:
        return None
    try:
        kind = {4: "A", 6: "AAAA"}[ipaddress.ip_address(host).version]
    except ValueError:
        kind = "CNAME"
    return DnsRecord(name=fqdn, type=kind, value=host)


class Verdict(Telling, frozen=True, kw_only=True):
    """Whether a name exists for this computer, and what is wrong with it, if anything is."""

    found: bool


async def problem_with(fqdn: str, address: str, resolver: Resolver) -> str:
    """Why clients that ask for ``fqdn`` would not reach ``address``; empty when they would."""
    return (await check_name(fqdn, address, resolver)).message


async def check_name(fqdn: str, address: str, resolver: Resolver) -> Verdict:
    """Look where ``fqdn`` leads, and compare that with ``address``."""
    record = record_for(fqdn, address)
    if record is None:
        return Verdict(found=False, said=(say(sentences.NO_ADDRESS),))
    found = await resolver(fqdn)
    if not found.addresses and not same_name(found.canonical, record.value):
        needed = {"name": record.name, "type": record.type, "value": record.value}
        return Verdict(found=False, said=(say(sentences.UNRESOLVED, fqdn=fqdn, **needed),))
    if same_name(found.canonical, record.value):
        return Verdict(found=True)
    if record.value in found.addresses:
        return Verdict(found=True, said=_besides(record, found.addresses))
    target = await resolver(record.value) if record.type == "CNAME" else Resolved(canonical="", addresses=())
    if set(target.addresses) & set(found.addresses):
        return Verdict(found=True)
    leads = ", ".join(found.addresses)
    told = say(sentences.LEADS_ELSEWHERE, fqdn=fqdn, addresses=leads, value=record.value, type=record.type)
    return Verdict(found=True, said=(told,))


def _besides(record: DnsRecord, addresses: Sequence[str]) -> tuple[Said, ...]:
    """Other addresses beside the right one: clients take any. Those of the other family may be the same machine's."""
    version = ipaddress.ip_address(record.value).version
    others = [one for one in addresses if one != record.value and ipaddress.ip_address(one).version == version]
    if not others:
        return ()
    figures = {"name": record.name, "others": ", ".join(others), "value": record.value, "type": record.type}
    return (say(sentences.LEADS_BESIDES, **figures),)


def same_name(one: str, other: str) -> bool:
    """Whether two names in DNS are one: neither case nor the root's dot counts."""
    return one.rstrip(".").lower() == other.rstrip(".").lower()
