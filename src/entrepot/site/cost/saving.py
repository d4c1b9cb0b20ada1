"""Savings as the API shows them (R28)."""

from sqlalchemy import Connection

from entrepot.core.errors import BadInputError
from entrepot.core.times import DAY
from entrepot.database import charges, savings
from entrepot.protocol.costapi import SavingsBy, SavingsLine, SavingsReport
from entrepot.rules.savings import COMPRESSION, DEDUPE, DELTA, INSTALLED, OWN_CACHE, PEER, TRANSFERRED

_DOWNLOADS = "downloads"


def savings_report(connection: Connection, *, by: SavingsBy, days: int, now: float) -> SavingsReport:
    """What was transferred and what was not, the most transferred first.

    Raises:
        BadInputError: not 1 to 3,650 days.
    """
    if not 1 <= days <= 3650:
        raise BadInputError("Savings are told of 1 to 3,650 days.")
    since = (int(now) // DAY - days + 1) * DAY
    names = charges.names(connection) if by is SavingsBy.CONTENT else charges.point_names(connection)
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for subject, kind, count, downloads in savings.sums(connection, since=since, by=by.value):
        found.setdefault(subject, {})[kind] = (count, downloads)
    lines = [_line(subject, names, kinds) for subject, kinds in found.items() if subject or by is SavingsBy.CONTENT]
    return SavingsReport(
        by=by, since=since, lines=tuple(sorted(lines, key=lambda line: (-line.transferred, line.subject)))
    )


def _line(subject: str, names: dict[str, str], kinds: dict[str, tuple[int, int]]) -> SavingsLine:
    def count(kind: str) -> int:
        return kinds.get(kind, (0, 0))[0]

    downloads = kinds.get(_DOWNLOADS, kinds.get(TRANSFERRED, (0, 0)))[1]
    return SavingsLine(
        subject=subject,
        name=names.get(subject, subject),
        downloads=downloads,
        plain=count(_DOWNLOADS),
        transferred=count(TRANSFERRED),
        dedupe=count(DEDUPE),
        compression=count(COMPRESSION),
        own_cache=count(OWN_CACHE),
        installed=count(INSTALLED),
        peers=count(PEER),
        deltas=count(DELTA),
    )
