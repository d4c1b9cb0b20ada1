"""Control documents of distribution points: their counters, what they say, and where each was brought."""

import msgspec
from sqlalchemy import Connection, case, select, update

from entrepot.database import points
from entrepot.database.engine import insert_into
from entrepot.database.tables.cloud import cloud_point, control_document
from entrepot.database.tables.points import point
from entrepot.protocol.control import ServiceState


class ControlRow(msgspec.Struct, frozen=True, kw_only=True):
    """The last control document of a point, and the last that its holder took (``pushed``, a counter)."""

    epoch: int = 0
    counter: int = 0
    issued: int = 0
    digest: bytes = b""
    pushed: int = 0
    pushed_at: int = 0
    trust_number: int = 0
    error: str = ""


def control(connection: Connection, point_id: str) -> ControlRow:
    """The last control document."""
    columns = [control_document.c[name] for name in ControlRow.__struct_fields__]
    row = connection.execute(select(*columns).where(control_document.c.point == point_id)).mappings().first()
    return ControlRow() if row is None else ControlRow(**row)


def controls(connection: Connection) -> dict[str, ControlRow]:
    """The last control document of every point that has had one."""
    columns = [control_document.c[name] for name in ControlRow.__struct_fields__]
    rows = connection.execute(select(control_document.c.point, *columns)).mappings()
    return {row["point"]: ControlRow(**{name: row[name] for name in ControlRow.__struct_fields__}) for row in rows}


def wanted_state(connection: Connection, point_id: str) -> ServiceState:
    """Whether clients are to be served; points on premises serve until they are removed."""
    wanted = connection.execute(select(cloud_point.c.wanted).where(cloud_point.c.point == point_id)).scalar()
    if wanted is not None:
        return ServiceState(wanted)
    state = connection.execute(select(point.c.state).where(point.c.id == point_id)).scalar()
    return ServiceState.STOPPED if state == points.REMOVED else ServiceState.RUNNING


def next_control(connection: Connection, point_id: str, *, epoch: int, issued: int) -> int:
    """Take the counter of the next control document, durably before it is signed; it never goes back.

    Nobody else takes one until the transaction ends. So what the document says is read after this call: then the
    highest counter says what is wanted last, whichever process signs it. :func:`describe_control` notes what that is.
    """
    table = control_document
    fresh = msgspec.structs.asdict(ControlRow()) | {"epoch": epoch, "counter": 1, "issued": issued}
    statement = insert_into(connection, table).values(point=point_id, **fresh)
    raised = {
        "epoch": case((table.c.epoch > epoch, table.c.epoch), else_=epoch),
        "counter": table.c.counter + 1,
        "issued": issued,
        "digest": b"",
    }
    taken = statement.on_conflict_do_update(index_elements=[table.c.point], set_=raised)
    return int(connection.execute(taken.returning(table.c.counter)).scalar_one())


def describe_control(connection: Connection, point_id: str, digest: bytes) -> None:
    """Note what the control document says whose counter was taken in this transaction."""
    mine = update(control_document).where(control_document.c.point == point_id)
    connection.execute(mine.values(digest=digest))


def note_push(connection: Connection, point_id: str, *, counter: int, now: int) -> None:
    """The holder took the control document. Which trust document it has, only :func:`note_trust` says."""
    table = control_document
    connection.execute(
        update(table)
        .where(table.c.point == point_id, table.c.pushed <= counter)
        .values(pushed=counter, pushed_at=now, error="")
    )


def note_trust(connection: Connection, point_id: str, trust_number: int) -> None:
    """The holder took this trust document; noted before anything is sent that only the new one allows."""
    statement = insert_into(connection, control_document).values(
        point=point_id, **(msgspec.structs.asdict(ControlRow()) | {"trust_number": trust_number})
    )
    again = {"trust_number": trust_number}
    connection.execute(statement.on_conflict_do_update(index_elements=[control_document.c.point], set_=again))


def note_push_error(connection: Connection, point_id: str, error: str) -> None:
    """The holder did not take it; it will be tried again."""
    connection.execute(update(control_document).where(control_document.c.point == point_id).values(error=error))
