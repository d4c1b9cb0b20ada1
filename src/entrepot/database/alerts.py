"""Alerts and their history. What becomes of an alert is decided by ``rules.alerts``; here it is kept, and what happens
is put into the outbox of those who want to be told."""

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, case, delete, or_, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import NotFoundError
from entrepot.core.ids import prefixed_id
from entrepot.database import maintenance, notifications
from entrepot.database.engine import insert_into
from entrepot.database.tables.alerts import alert as table
from entrepot.database.tables.alerts import alert_history
from entrepot.rules.alerts import SYSTEM, Alert, AlertState, Condition, Event, Step
from entrepot.rules.sentences import REMOVED, Said, Telling, quoted, say

OPEN = (AlertState.ACTIVE.value, AlertState.POSTPONED.value)


class StoredAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert with what only the database knows."""

    id: str
    subject_name: str
    created: int
    alert: Alert


class HistoryRow(Telling, frozen=True, kw_only=True):
    """Something that happened to an alert, and what was said then."""

    at: int
    event: Event
    state: AlertState
    by: str


def ensure(connection: Connection, *, type_: str, subject: str, subject_name: str, now: int) -> None:
    """Make the alert of this type for this subject, never triggered, unless it is there."""
    values = _values(Alert(type=type_, subject=subject))
    values |= {
        "id": prefixed_id("alert", secrets.token_bytes(8)),
        "subject_name": subject_name,
        "created": now,
        "changed": now,
    }
    connection.execute(insert_into(connection, table).values(values).on_conflict_do_nothing())


def change(connection: Connection, alert_id: str, move: Callable[[Alert], Step], *, by: str = SYSTEM) -> StoredAlert:
    """Let ``move`` decide what becomes of an alert, and keep it with its history.

    Raises:
        NotFoundError: there is none with this id.
        EntrepotError: what ``move`` raises; then nothing changes.
    """
    row = connection.execute(select(table).where(table.c.id == alert_id).with_for_update()).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no alert {alert_id!r}.")
    return _moved(connection, _stored(row), move, by)


def decide(
    connection: Connection, subject: str, subject_name: str, moves: Mapping[str, Callable[[Alert], Step]], *, now: int
) -> None:
    """Let each of ``moves``, by the alert's type, decide what becomes of the subject's alert; one that is missing is
    made first. They are read in one query: all rules of all cloud points are evaluated every minute."""
    found = _locked(connection, subject, moves)
    if len(found) < len(moves):
        for type_ in moves.keys() - {one.alert.type for one in found}:
            ensure(connection, type_=type_, subject=subject, subject_name=subject_name, now=now)
        found = _locked(connection, subject, moves)
    for one in found:
        _moved(connection, one, moves[one.alert.type], SYSTEM)


def _locked(connection: Connection, subject: str, types: Iterable[str]) -> list[StoredAlert]:
    """In the order of their types, so that nobody who locks several waits for one who waits for them."""
    query = select(table).where(table.c.subject == subject, table.c.type.in_(list(types))).order_by(table.c.type)
    return [_stored(row) for row in connection.execute(query.with_for_update()).mappings()]


def _moved(connection: Connection, before: StoredAlert, move: Callable[[Alert], Step], by: str) -> StoredAlert:
    step = move(before.alert)
    if step.alert != before.alert:
        connection.execute(update(table).where(table.c.id == before.id).values(**_values(step.alert)))
    if step.event is not None:
        connection.execute(
            alert_history.insert().values(
                alert=before.id,
                at=step.at,
                event=step.event.value,
                state=step.alert.state.value,
                by=by,
                said=to_json(quoted(step.alert.comment) if by != SYSTEM else step.alert.said).decode(),
            )
        )
        notifications.enqueue(
            connection, step.alert, alert_id=before.id, subject_name=before.subject_name, event=step.event
        )
    return msgspec.structs.replace(before, alert=step.alert)


def find(connection: Connection, *, type_: str, subject: str) -> StoredAlert:
    """The alert of a type for a subject.

    Raises:
        NotFoundError: there is none.
    """
    query = select(table).where(table.c.type == type_, table.c.subject == subject)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"{subject} has no alert of type {type_!r}.")
    return _stored(row)


def get(connection: Connection, alert_id: str) -> StoredAlert:
    """One alert.

    Raises:
        NotFoundError: there is none with this id.
    """
    row = connection.execute(select(table).where(table.c.id == alert_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no alert {alert_id!r}.")
    return _stored(row)


def listed(
    connection: Connection,
    *,
    only_open: bool = False,
    state: AlertState | None = None,
    subject: str = "",
    types: Collection[str] | None = None,
    limit: int = 10_000,
) -> list[StoredAlert]:
    """Alerts: open ones first, so that the limit hides none of them, then those that changed last."""
    rank = case((table.c.state == AlertState.ACTIVE.value, 0), (table.c.state.in_(OPEN), 1), else_=2)
    query = select(table).order_by(rank, table.c.changed.desc(), table.c.id).limit(limit)
    if only_open:
        query = query.where(table.c.state.in_(OPEN))
    if state is not None:
        query = query.where(table.c.state == state.value)
    if subject:
        query = query.where(or_(table.c.subject == subject, table.c.subject_name == subject))
    if types is not None:
        query = query.where(table.c.type.in_(types))
    return [_stored(row) for row in connection.execute(query).mappings()]


def subjects(connection: Connection, type_: str) -> set[str]:
    """What there are alerts of this type about."""
    return set(connection.scalars(select(table.c.subject).where(table.c.type == type_)))


def postponed(connection: Connection, *, until: int) -> list[StoredAlert]:
    """Postponed alerts whose pause has ended by then."""
    query = select(table).where(table.c.state == AlertState.POSTPONED.value, table.c.skip_until <= until)
    return [_stored(row) for row in connection.execute(query.order_by(table.c.id)).mappings()]


def history(connection: Connection, alert_id: str, *, limit: int = 200) -> list[HistoryRow]:
    """What happened to an alert, oldest first; the last ``limit`` events."""
    query = select(alert_history).where(alert_history.c.alert == alert_id).order_by(alert_history.c.id.desc())
    rows = connection.execute(query.limit(limit)).mappings().all()
    return [
        HistoryRow(
            at=row["at"],
            event=Event(row["event"]),
            state=AlertState(row["state"]),
            by=row["by"],
            said=_said(row),
        )
        for row in reversed(rows)
    ]


def end_subject(connection: Connection, subject: str, *, now: int) -> None:
    """The subject is gone: forget what never triggered, close the rest; its history stays."""
    connection.execute(delete(table).where(table.c.subject == subject, table.c.occurrences == 0))
    maintenance.forget_subject(connection, subject)
    for row in connection.execute(select(table.c.id, table.c.state).where(table.c.subject == subject)).all():
        if row.state in OPEN:
            change(connection, row.id, lambda alert: _ended(alert, now))


def _ended(alert: Alert, now: int) -> Step:
    closed = msgspec.structs.replace(
        alert,
        state=AlertState.CANCELED,
        changed=now,
        skip_until=0,
        closed_by=SYSTEM,
        said=(say(REMOVED),),
    )
    return Step(alert=closed, event=Event.CLOSED, at=now)


def _values(alert: Alert) -> dict[str, Any]:
    return msgspec.structs.asdict(alert) | {"said": to_json(alert.said).decode()}


def _said(row: RowMapping) -> tuple[Said, ...]:
    return from_json(row["said"], tuple[Said, ...], "alert")


def _stored(row: RowMapping) -> StoredAlert:
    values = {name: row[name] for name in Alert.__struct_fields__}
    values |= {"state": AlertState(row["state"]), "condition": Condition(row["condition"]), "said": _said(row)}
    return StoredAlert(id=row["id"], subject_name=row["subject_name"], created=row["created"], alert=Alert(**values))
