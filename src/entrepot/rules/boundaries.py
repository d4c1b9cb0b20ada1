"""Boundaries: which points stand near a client, by its addresses (domain page, section 2).

A range is a subnet (``10.0.0.0/8``), an interval (``10.0.0.1-10.0.0.9``) or one address; IPv4 and IPv6. A client is
in every group one of whose ranges holds one of its addresses; where groups overlap it gets the points of all of them,
and a fast link wins over a slow one to the same point.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from entrepot.core.errors import BadInputError

MAX_TEXT: Final = 100
MAX_ADDRESSES: Final = 64
"""More addresses of one client than this are not looked at."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Speed(StrEnum):
    """Connection speed of a point in a boundary group."""

    FAST = "fast"
    SLOW = "slow"


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses from ``first`` to ``last``, as integers, of one IP version."""

    version: int
    first: int
    last: int

    def holds(self, address: Address) -> bool:
        """Whether an address lies within."""
        return address.version == self.version and self.first <= int(address) <= self.last


class BoundaryGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Ranges, and the points that serve them."""

    id: str
    ranges: tuple[Range, ...]
    points: tuple[tuple[str, Speed], ...]


def parse_range(text: str) -> Range:
    """Read a subnet, an interval, or one address.

    Raises:
        BadInputError: none of these, or an interval that ends before it begins.
    """
    advice = "Write for example 10.0.0.0/8, 10.0.0.1-10.0.0.9 or 2001:db8::/32."
    clean = text.strip()
    if len(clean) > MAX_TEXT:
        raise BadInputError("The address range is too long.", next_step=advice)
    try:
        if "-" in clean:
            first, last = (ipaddress.ip_address(part.strip()) for part in clean.split("-", 1))
        else:
            network = ipaddress.ip_network(clean)
            first, last = network.network_address, network.broadcast_address
    except ValueError:
        raise BadInputError(f"{clean!r} is not an address range.", next_step=_advice(clean, advice)) from None
    if first.version != last.version or int(last) < int(first):
        raise BadInputError(f"The address range {clean!r} ends before it begins.", next_step=advice)
    if getattr(first, "scope_id", None) or getattr(last, "scope_id", None):
        raise BadInputError(f"The address range {clean!r} names an interface.", next_step=advice)
    return Range(version=first.version, first=int(first), last=int(last))


def _advice(text: str, otherwise: str) -> str:
    """A subnet whose host bits are set is the usual mistake: name the subnet that was probably meant."""
    try:
        return f"Did you mean {ipaddress.ip_network(text, strict=False)}?"
    except ValueError:
        return otherwise


def parse_addresses(texts: Iterable[str]) -> tuple[Address, ...]:
    """The addresses that a client names, as far as they are addresses: a client must not break its own request.

    IPv4 addresses mapped into IPv6 count as IPv4; interface scopes are dropped; at most 64 are looked at.
    """
    found: list[Address] = []
    for index, text in enumerate(texts):
        if index >= MAX_ADDRESSES:
            break
        try:
            address = ipaddress.ip_address(text.split("%", 1)[0] if len(text) <= MAX_TEXT else "")
        except ValueError:
            continue
        mapped = getattr(address, "ipv4_mapped", None)
        found.append(mapped if mapped is not None else address)
    return tuple(found)


def groups_of(addresses: Sequence[Address], groups: Iterable[BoundaryGroup]) -> tuple[BoundaryGroup, ...]:
    """The boundary groups that a client is in."""
    return tuple(
        group for group in groups if any(span.holds(address) for span in group.ranges for address in addresses)
    )


def reach(addresses: Sequence[Address], groups: Iterable[BoundaryGroup]) -> dict[str, Speed]:
    """The points of all of a client's boundary groups, each with its best speed."""
    found: dict[str, Speed] = {}
    for group in groups_of(addresses, groups):
        for point, speed in group.points:
            if found.get(point) is not Speed.FAST:
                found[point] = speed
    return found
