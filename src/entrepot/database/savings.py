"""What clients saved and transferred, by day, content and point: sums of their reports, kept when the reports go."""

from sqlalchemy import Connection, func, select

from entrepot.core.times import DAY
from entrepot.database import devices
from entrepot.database.engine import insert_into
from entrepot.database.tables.content import content_version
from entrepot.database.tables.cost import saving_day
from entrepot.protocol.policy import DownloadReport
from entrepot.rules.savings import Piece, is_plausible, savings

_COUNT = "downloads"


def take_report(connection: Connection, device: str, report: DownloadReport, *, now: float) -> bool:
    """Keep a device's report and add it up, once; False when it was reported before.

    What claims more than can be is kept, so that it shows, and not added up.
    """
    if not devices.add_download(connection, device, report, now=now):
        return False
    table = content_version
    query = select(table.c.plain_size, table.c.stored_size, table.c.distinct_size).where(
        table.c.content == report.content, table.c.number == report.version
    )
    version = connection.execute(query).first()
    if version is None:
        return True
    pieces = [Piece(kind=one.kind, form=one.form, point=one.point, bytes=one.bytes) for one in report.sources]
    if not is_plausible(pieces, plain=version.plain_size, sealed=version.stored_size):
        return True
    success = report.outcome == "success"
    sizes = {"plain": version.plain_size, "sealed": version.stored_size, "distinct": version.distinct_size}
    found = savings(pieces, **sizes, success=success)
    day = int(now) // DAY * DAY
    for one in found:
        _add(connection, day, report.content, one.point, one.kind, count=one.bytes)
    if success:
        _add(connection, day, report.content, "", _COUNT, count=version.plain_size)
    return True


def _add(connection: Connection, day: int, content: str, point: str, kind: str, *, count: int) -> None:
    table = saving_day
    key = {"day": day, "content": content, "point": point[:40], "kind": kind, "form": ""}
    statement = insert_into(connection, table).values(**key, bytes=count, downloads=1)
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c[name] for name in key],
            set_={"bytes": table.c.bytes + new.bytes, "downloads": table.c.downloads + new.downloads},
        )
    )


def sums(connection: Connection, *, since: int, by: str) -> list[tuple[str, str, int, int]]:
    """(content or point id, kind, bytes, downloads) since a day; ``by`` is ``content`` or ``point``.

    Whole downloads are of kind ``downloads``, with their plain bytes.
    """
    table = saving_day
    column = table.c.content if by == "content" else table.c.point
    query = (
        select(column, table.c.kind, func.sum(table.c.bytes), func.sum(table.c.downloads))
        .where(table.c.day >= since)
        .group_by(column, table.c.kind)
        .order_by(column, table.c.kind)
    )
    return [(row[0], row[1], int(row[2]), int(row[3])) for row in connection.execute(query)]
