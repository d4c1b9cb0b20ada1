"""Who is told of alerts, and the outbox: messages enter in the transaction that changes the alert, and leave it when
they are delivered. So an alert that is known is told, whenever the process ends, at least once; the message's id stays
the same, so that a receiver can take it once."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, or_, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import NotFoundError
from entrepot.core.ids import prefixed_id
from entrepot.core.names import name_key
from entrepot.core.times import MINUTE
from entrepot.database.engine import insert_into
from entrepot.database.names import refuse_taken
from entrepot.database.tables.alerts import alert_message, alert_subscription, mail_server
from entrepot.protocol.alertapi import AlertMessage, Channel, Language, Security, Severity
from entrepot.rules import notifying
from entrepot.rules.alerts import ALERT_TYPES, Alert, Event
from entrepot.rules.sentences import Said

WAITING: Final = "waiting"
SENT: Final = "sent"
FAILED: Final = "failed"
TOLD: Final = frozenset({Event.OPENED, Event.RESUMED, Event.CLOSED})


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is told. ``sealed``: a webhook's secret, opened only by the site's vault."""

    id: str
    name: str
    channel: Channel
    target: str
    language: Language
    types: tuple[str, ...]
    severities: tuple[Severity, ...]
    digest_minutes: int
    private_networks: bool
    authority: str
    sealed: bytes
    site: str
    created: int
    delivered: int = 0
    error: str = ""

    def __repr__(self) -> str:
        return f"Subscription({self.id}, {self.name!r})"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the outbox. ``said`` becomes its words when it is sent; one of an earlier version has them already
    (``body.message``)."""

    id: str
    attempts: int
    at: int
    body: AlertMessage
    said: tuple[Said, ...] = ()


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    """The mail server of a site; ``sealed``: its password, empty without one."""

    host: str
    port: int
    security: Security
    account: str
    sealed: bytes
    sender: str
    authority: str
    changed: int

    def __repr__(self) -> str:
        return f"MailServer({self.host!r})"


def enqueue(connection: Connection, alert: Alert, *, alert_id: str, subject_name: str, event: Event) -> int:
    """Put what happened to an alert into the outbox, for everyone who wants it; how many do."""
    kind = ALERT_TYPES.get(alert.type)
    if kind is None or event not in TOLD:
        return 0
    wanted = [
        one
        for one in subscriptions(connection)
        if notifying.matches(
            one.types, tuple(each.value for each in one.severities), type_=alert.type, severity=kind.severity
        )
    ]
    for one in wanted:
        message = AlertMessage(
            id=prefixed_id("msg", secrets.token_bytes(8)),
            alert=alert_id,
            type=alert.type,
            severity=Severity(kind.severity.value),
            event=event.value,
            subject=alert.subject,
            subject_name=subject_name,
            message="",
            at=alert.changed,
            occurrences=alert.occurrences,
        )
        connection.execute(
            insert(alert_message).values(
                id=message.id,
                subscription=one.id,
                body=to_json(message).decode(),
                said=to_json(alert.said).decode(),
                state=WAITING,
                at=alert.changed,
                due=alert.changed + one.digest_minutes * MINUTE,
                attempts=0,
                error="",
                settled=0,
            )
        )
    return len(wanted)


def due_subscriptions(connection: Connection, *, site: str, now: int) -> list[Subscription]:
    """Those of a site for whom a message is due."""
    table = alert_message
    due = select(table.c.subscription).where(table.c.state == WAITING, table.c.due <= now).distinct()
    query = select(alert_subscription).where(alert_subscription.c.site == site, alert_subscription.c.id.in_(due))
    return [_subscription(row) for row in connection.execute(query).mappings()]


def take(connection: Connection, subscription: Subscription, *, now: int, until: int, limit: int) -> list[Waiting]:
    """Take messages to deliver now, the oldest first; until ``until`` nobody else takes them.

    A digest takes everything that waits for its subscriber as soon as one message is due.
    """
    table = alert_message
    query = select(table).where(table.c.subscription == subscription.id, table.c.state == WAITING)
    first = connection.execute(query.where(table.c.due <= now).limit(1).with_for_update(skip_locked=True)).first()
    if first is None:
        return []
    if not subscription.digest_minutes:
        query = query.where(table.c.due <= now)
    rows = connection.execute(query.order_by(table.c.at, table.c.id).limit(limit)).mappings().all()
    ids = [row["id"] for row in rows]
    connection.execute(update(table).where(table.c.id.in_(ids)).values(due=until))
    return [
        Waiting(
            id=row["id"],
            attempts=row["attempts"],
            at=row["at"],
            body=from_json(row["body"], AlertMessage, "alert message"),
            said=from_json(row["said"], tuple[Said, ...], "alert message"),
        )
        for row in rows
    ]


def settle(connection: Connection, subscription: str, ids: Sequence[str], *, now: int) -> None:
    """They were delivered."""
    table = alert_message
    connection.execute(update(table).where(table.c.id.in_(ids)).values(state=SENT, settled=now, error=""))
    changes = {"delivered": now, "error": ""}
    connection.execute(update(alert_subscription).where(alert_subscription.c.id == subscription).values(changes))


def put_back(
    connection: Connection, subscription: str, ids: Sequence[str], *, due: int | None, error: str, now: int
) -> None:
    """An attempt failed: try again at ``due``, or, when that is None, give up."""
    table = alert_message
    values: dict[str, Any] = {"attempts": table.c.attempts + 1, "error": error}
    values |= {"state": FAILED, "settled": now} if due is None else {"due": due}
    connection.execute(update(table).where(table.c.id.in_(ids)).values(values))
    connection.execute(update(alert_subscription).where(alert_subscription.c.id == subscription).values(error=error))


def prune(connection: Connection, *, before: int) -> int:
    """Forget what was delivered or given up before that time."""
    table = alert_message
    return connection.execute(delete(table).where(table.c.state != WAITING, table.c.settled < before)).rowcount


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """Messages by subscription and state."""
    table = alert_message
    query = select(table.c.subscription, table.c.state, func.count()).group_by(table.c.subscription, table.c.state)
    return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}


def add_subscription(connection: Connection, new: Subscription) -> None:
    """Keep a subscription.

    Raises:
        ConflictError: the name is taken.
    """
    refuse_taken(connection, alert_subscription, new.name, "subscription")
    connection.execute(insert(alert_subscription).values(_values(new)))


def change_subscription(connection: Connection, before: Subscription, new: Subscription, *, now: int) -> None:
    """Keep what ``new`` has other than ``before``; the rest, such as what a delivery has noted meanwhile, stays. What
    could not be delivered before is due at once: that may be why it was changed.

    Raises:
        ConflictError: another has that name.
    """
    if name_key(before.name) != name_key(new.name):
        refuse_taken(connection, alert_subscription, new.name, "subscription")
    old = _values(before)
    changes = {name: value for name, value in _values(new).items() if value != old[name]}
    if changes:
        connection.execute(update(alert_subscription).where(alert_subscription.c.id == new.id).values(changes))
    table = alert_message
    late = (table.c.subscription == new.id, table.c.state == WAITING, table.c.attempts > 0, table.c.due > now)
    connection.execute(update(table).where(*late).values(due=now))


def _values(new: Subscription) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(new, builtin_types=(bytes,))
    return values | {
        "name_key": name_key(new.name),
        "types": to_json(new.types).decode(),
        "severities": to_json(new.severities).decode(),
    }


def subscriptions(connection: Connection) -> list[Subscription]:
    """All subscriptions, by name."""
    query = select(alert_subscription).order_by(alert_subscription.c.name_key)
    return [_subscription(row) for row in connection.execute(query).mappings()]


def get_subscription(connection: Connection, name_or_id: str, *, locked: bool = False) -> Subscription:
    """One subscription.

    Args:
        locked: nobody else changes it until the transaction ends: for what is decided by what is there.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    table = alert_subscription
    query = select(table).where(or_(table.c.id == name_or_id, table.c.name_key == name_key(name_or_id)))
    row = connection.execute(query.with_for_update(key_share=True) if locked else query).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no subscription {name_or_id!r}.")
    return _subscription(row)


def delete_subscription(connection: Connection, name_or_id: str) -> None:
    """Forget a subscription and what waits for it.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    found = get_subscription(connection, name_or_id)
    connection.execute(delete(alert_subscription).where(alert_subscription.c.id == found.id))


def get_mail_server(connection: Connection, site: str) -> MailServer | None:
    """The site's mail server."""
    columns = [mail_server.c[name] for name in MailServer.__struct_fields__]
    row = connection.execute(select(*columns).where(mail_server.c.site == site)).mappings().first()
    return None if row is None else MailServer(**{**row, "security": Security(row["security"])})


def set_mail_server(connection: Connection, site: str, server: MailServer) -> None:
    """Keep it; there is one a site."""
    values = msgspec.structs.asdict(server) | {"security": server.security.value}
    statement = insert_into(connection, mail_server).values(site=site, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[mail_server.c.site], set_=values))


def _subscription(row: Mapping[Any, Any]) -> Subscription:
    values = {name: row[name] for name in Subscription.__struct_fields__}
    values |= {
        "channel": Channel(row["channel"]),
        "language": Language(row["language"]),
        "types": from_json(row["types"], tuple[str, ...], "subscription"),
        "severities": from_json(row["severities"], tuple[Severity, ...], "subscription"),
    }
    return Subscription(**values)
