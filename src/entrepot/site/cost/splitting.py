"""What cloud points cost, split by content, collection or device.

Egress and requests are split by what was transferred, storage by what a content's sets weigh; the rest belongs to cloud
points as a whole, and is said in words. A report has at most :data:`LINES` lines; what further ones come to is one line
more.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.database import charges
from entrepot.database.charges import Portion
from entrepot.protocol.costapi import CostBy, CostLine
from entrepot.rules.prices import ZERO, Cost, PriceSheet, Usage, shares

LINES: Final = 1000
NO_COLLECTION: Final = "devices in no collection"
_UNSPLIT: Final = (
    "In the total and in no line: {amount} {currency} for {what}, which belong to cloud points as a whole."
)
_REST: Final = "\0"  # no subject has such an id


class Charged(msgspec.Struct, frozen=True, kw_only=True):
    """The month of a cloud point, which may have been deleted in it; ``point`` is its id."""

    point: str
    name: str
    sheet: PriceSheet
    usage: Usage
    cost: Cost
    month_end: Decimal


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of a report, the dearest first; ``count`` further subjects come to ``rest``. ``unsplit``: what no line
    has, in words."""

    lines: tuple[CostLine, ...]
    rest: CostLine | None = None
    count: int = 0
    unsplit: str = ""


def line_of(subject: str, name: str, sent: int, requests: int, amounts: Cost) -> CostLine:
    return CostLine(
        subject=subject,
        name=name,
        bytes=sent,
        requests=requests,
        total=amounts.total,
        storage=amounts.storage,
        egress=amounts.egress,
        uploads=amounts.uploads,
        requests_cost=amounts.requests,
        instances=amounts.instances,
        overhead=amounts.overhead,
        fetched=amounts.fetched,
    )


def split(connection: Connection, charged: Sequence[Charged], by: CostBy, since: int, *, most: int = LINES) -> Lines:
    """The lines by content, collection or device."""
    sums: dict[str, CostLine] = {}
    shown: list[str] = []
    subjects = 0
    if by is CostBy.DEVICE:
        shown, subjects = charges.busiest_devices(connection, [one.point for one in charged], since=since, limit=most)
    for one in charged:
        weights = charges.held_sizes(connection, one.point) if by is CostBy.CONTENT else {}
        storage = shares(one.cost.storage, weights)
        for portion in _portions(connection, one.point, by, since, shown):
            egress = _part(one.cost.egress, portion.bytes, one.usage.sent)
            requests = _part(one.cost.requests, portion.requests, one.usage.client_reads)
            amounts = Cost(egress=egress, requests=requests, storage=storage.pop(portion.subject, ZERO))
            _add(sums, line_of(portion.subject, "", portion.bytes, portion.requests, amounts))
        for subject, amount in storage.items():
            _add(sums, line_of(subject, "", 0, 0, Cost(storage=amount)))
    unsplit = _unsplit(charged, list(sums.values()))
    rest = sums.pop(_REST, None)
    lines = sorted(sums.values(), key=lambda line: (-line.total, line.subject))
    count = max(subjects, len(lines)) - len(lines[:most])
    for line in lines[most:]:
        rest = line if rest is None else _sum(rest, line)
    names = _names(connection, by, [line.subject for line in lines[:most]])
    return Lines(
        lines=tuple(msgspec.structs.replace(one, name=names.get(one.subject, one.subject)) for one in lines[:most]),
        rest=msgspec.structs.replace(rest, subject="", name=f"others ({count:,})") if rest and count else None,
        count=count,
        unsplit=unsplit,
    )


def _names(connection: Connection, by: CostBy, ids: list[str]) -> dict[str, str]:
    if by is CostBy.DEVICE:
        return charges.device_names(connection, ids)
    names = charges.names(connection)
    return names | {"": NO_COLLECTION} if by is CostBy.COLLECTION else names


def _unsplit(charged: Sequence[Charged], lines: Sequence[CostLine]) -> str:
    """What no content, device or collection is charged with."""
    kinds = {
        "uploads": sum((one.cost.uploads for one in charged), ZERO),
        "the site's own downloads": sum((one.cost.fetched for one in charged), ZERO),
        "instances": sum((one.cost.instances for one in charged), ZERO),
        "our own overhead": sum((one.cost.overhead for one in charged), ZERO),
        "storage": sum((one.cost.storage for one in charged), ZERO) - sum((line.storage for line in lines), ZERO),
    }
    there = [name for name, amount in kinds.items() if round(amount, 2)]
    if not there:
        return ""
    what = ", ".join(there[:-1]) + f" and {there[-1]}" if there[1:] else there[0]
    amount = sum(kinds.values(), ZERO)
    return _UNSPLIT.format(amount=f"{amount:,.2f}", currency=charged[0].sheet.currency, what=what)


def _portions(connection: Connection, point: str, by: CostBy, since: int, shown: Sequence[str]) -> list[Portion]:
    """What each subject used of a cloud point; of devices the ``shown`` ones, and what all others did together."""
    if by is CostBy.CONTENT:
        return charges.by_content(connection, point, since=since)
    if by is CostBy.DEVICE:
        found = charges.by_device(connection, point, since=since, devices=shown)
        whole = charges.whole(connection, point, since=since)
        others = Portion(
            subject=_REST,
            bytes=whole.bytes - sum(one.bytes for one in found),
            requests=whole.requests - sum(one.requests for one in found),
        )
    else:
        found = charges.by_collection(connection, point, since=since)
        others = charges.outside_collections(connection, point, since=since)
    return [*found, others] if others.requests else found


def _part(amount: Decimal, part: int, whole: int) -> Decimal:
    return amount * part / whole if whole else ZERO


def _add(sums: dict[str, CostLine], line: CostLine) -> None:
    before = sums.get(line.subject)
    sums[line.subject] = line if before is None else _sum(before, line)


def _sum(one: CostLine, other: CostLine) -> CostLine:
    """Both together, by the first one's name."""
    return msgspec.structs.replace(
        one,
        bytes=one.bytes + other.bytes,
        requests=one.requests + other.requests,
        total=one.total + other.total,
        storage=one.storage + other.storage,
        egress=one.egress + other.egress,
        requests_cost=one.requests_cost + other.requests_cost,
    )
