"""Load drills that were permitted, and their reports."""

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.core.times import iso
from entrepot.database.tables.drills import drill as table
from entrepot.database.tables.points import point as points
from entrepot.protocol.drillapi import DrillRecord, DrillReport

MOST_LISTED = 200


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    id: str
    point: str
    point_name: str
    by: str
    begun: int
    expires: int
    content_name: str
    version: int
    devices: int
    bytes: int


def begin(connection: Connection, new: Drill) -> None:
    """Note a drill, before its first token is made. Call it in a write transaction.

    Raises:
        ConflictError: another one of this cloud point has neither ended nor expired; two would measure each other.
    """
    connection.execute(select(points.c.id).where(points.c.id == new.point).with_for_update())
    running = select(table.c.expires).where(
        table.c.point == new.point, table.c.report == "", table.c.expires > new.begun
    )
    until = connection.execute(running.limit(1)).scalar()
    if until is not None:
        raise ConflictError(
            f"A load drill of {new.point_name} is under way.",
            next_step=f"Wait for its report; without one it is over at {iso(until)}.",
        )
    connection.execute(insert(table).values(**msgspec.structs.asdict(new), report=""))


def report(connection: Connection, drill: str, found: DrillReport) -> None:
    """Keep what came of a drill.

    Raises:
        NotFoundError: there is no such drill.
        ConflictError: it has been reported already.
    """
    text = to_json(found).decode()
    mine = (table.c.id == drill, table.c.report == "")
    if connection.execute(update(table).where(*mine).values(report=text)).rowcount:
        return
    if connection.execute(select(table.c.id).where(table.c.id == drill)).first() is None:
        raise NotFoundError(f"There is no load drill {drill!r}.")
    raise ConflictError("This load drill has been reported already.")


def listed(connection: Connection, point: str) -> list[DrillRecord]:
    """The drills of a cloud point, the newest first."""
    query = select(table).where(table.c.point == point).order_by(table.c.begun.desc(), table.c.id).limit(MOST_LISTED)
    return [_record(row) for row in connection.execute(query).mappings()]


def prune(connection: Connection, *, before: int) -> int:
    """Forget drills of before that time; how many."""
    return connection.execute(delete(table).where(table.c.begun < before)).rowcount


def _record(row: RowMapping) -> DrillRecord:
    same = {name: row[name] for name in ("by", "begun", "expires", "content_name", "version", "devices", "bytes")}
    told = from_json(row["report"], DrillReport, "report of a drill") if row["report"] else None
    return DrillRecord(drill=row["id"], cloud_point=row["point_name"], report=told, **same)
