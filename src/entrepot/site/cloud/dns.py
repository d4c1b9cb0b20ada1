"""The DNS alias of a cloud point: what to create, and whether it leads where it must (R6)."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

import msgspec

from entrepot.protocol.siteapi import DnsRecord


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What a resolver says about a name: its canonical name, and its addresses (none: it does not exist)."""

    canonical: str
    addresses: tuple[str, ...]


Resolver = Callable[[str], Awaitable[Resolved]]


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


async def problem_with(fqdn: str, address: str, resolver: Resolver) -> str:
    """Why clients that ask for ``fqdn`` would not reach ``address``; empty when they would."""
    record = record_for(fqdn, address)
    if record is None:
        return "The cloud has not given the service an address yet."
    found = await resolver(fqdn)
    if not found.addresses:
        return f"{fqdn} cannot be resolved: create the record {record.name} {record.type} {record.value}."
    if _same_name(found.canonical, record.value) or record.value in found.addresses:
        return ""
    target = await resolver(record.value) if record.type == "CNAME" else Resolved(canonical="", addresses=())
    if set(target.addresses) & set(found.addresses):
        return ""
    return f"{fqdn} leads to {', '.join(found.addresses)}, not to {record.value}: correct its {record.type} record."


def _same_name(one: str, other: str) -> bool:
    return one.rstrip(".").lower() == other.rstrip(".").lower()
