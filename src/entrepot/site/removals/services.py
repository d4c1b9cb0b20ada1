"""Removals around the cloud: certificates, budgets, alerts' recipients; and orders that end what is under way. All
only read, and tell the order (:mod:`.foreseeing`)."""

from sqlalchemy import Connection

from entrepot.core.errors import NotFoundError
from entrepot.core.sizes import format_size
from entrepot.database import budgets, cloud, distribution, grants, maintenance, notifications, tasks, usage
from entrepot.database.budgets import Scope
from entrepot.protocol.alertapi import Channel
from entrepot.protocol.removalapi import Effect, Removal, counted, named
from entrepot.rules.notifying import mail_addresses
from entrepot.site.acting import behalf
from entrepot.site.cloud.orders import Orders
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cost.budgets import delete as lift
from entrepot.site.cost.naming import name_of, subject_of
from entrepot.site.removals.foreseeing import Foreseen


def certificate(connection: Connection, name_or_id: str) -> Foreseen:
    """A management certificate.

    Raises:
        NotFoundError: no such certificate.
    """
    known = cloud.certificate(connection, name_or_id)
    removal = Removal(
        what="management certificate",
        id=known.id,
        name=known.name,
        effects=(
            named("private key that is destroyed", [f"{known.subject}, {known.thumbprint}"]),
            named("cloud points that use it", cloud.users_of(connection, known.id)),
        ),
    )
    return removal, lambda writing: cloud.delete_certificate(writing, known.id)


def stop(connection: Connection, name_or_id: str, orders: Orders) -> Foreseen:
    """A cloud point that is stopped.

    Raises:
        NotFoundError: no such cloud point.
    """
    known = cloud.get_cloud_point(connection, name_or_id)
    held = [row for row in distribution.described(connection, point=known.point) if row.held]
    present, _ = usage.stored_usage(connection, known.point).present()
    removal = Removal(
        what=f"cloud point, {known.state.value}",
        id=known.point,
        name=known.name,
        effects=(
            counted("instances that end", len(known.instances)),
            named("contents that clients get elsewhere, or not", (row.content_name for row in held)),
            Effect(what="cloud point that stays stored, and is paid for", count=1, bytes=present),
        ),
    )
    return removal, lambda writing: orders.give(writing, CloudAction.STOP, known.point)


def deletion(connection: Connection, name_or_id: str, orders: Orders, *, forget: bool) -> Foreseen:
    """A cloud point that is deleted or, after a deletion that failed, forgotten.

    Raises:
        NotFoundError: no such cloud point.
    """
    known = cloud.get_cloud_point(connection, name_or_id)
    present, _ = usage.stored_usage(connection, known.point).present()
    stays = "cloud point that may stay stored, and be paid for"
    removal = Removal(
        what=f"cloud point, {known.state.value}",
        id=known.point,
        name=known.name,
        effects=(Effect(what=stays if forget else "cloud point that is stored no more", count=1, bytes=present),),
    )
    action = CloudAction.FORGET if forget else CloudAction.DELETE
    return removal, lambda writing: orders.give(writing, action, known.point)


def budget(connection: Connection, name: str, scope: str, now: float) -> Foreseen:
    """A budget that is lifted.

    Raises:
        NotFoundError: there is none, or no such cloud point, content or collection.
    """
    which = Scope(scope)
    subject = subject_of(connection, which, name)
    found = budgets.find(connection, which, subject)
    if found is None:
        raise NotFoundError(f"The {scope.replace('-', ' ')} {name} has no budget.")
    used, granted = grants.standing(connection, found, now)
    removal = Removal(
        what=f"budget of a {scope.replace('-', ' ')}",
        id=subject,
        name=name_of(connection, found),
        effects=(
            Effect(what="bound that is lifted", count=1, bytes=found.bytes),
            Effect(what="sum of what was sent in this period", count=1, bytes=used),
            Effect(what="sum of what is granted, which may still be sent", count=1, bytes=granted),
        ),
    )
    return removal, lambda writing: lift(writing, name, scope=scope, by="", now=now)


def subscription(connection: Connection, name_or_id: str) -> Foreseen:
    """Somebody who is told of alerts.

    Raises:
        NotFoundError: no such subscription.
    """
    known = notifications.get_subscription(connection, name_or_id)
    waiting = notifications.counts(connection).get((known.id, notifications.WAITING), 0)
    addresses = mail_addresses(known.target) if known.channel is Channel.MAIL else (known.target,)
    removal = Removal(
        what=f"alert subscription by {known.channel.value}",
        id=known.id,
        name=known.name,
        effects=(
            named("addresses that are told no more", addresses),
            counted("messages that wait, and are dropped", waiting),
        ),
    )
    return removal, lambda writing: notifications.delete_subscription(writing, known.id)


def window(connection: Connection, name_or_id: str) -> Foreseen:
    """A maintenance window.

    Raises:
        NotFoundError: no such window.
    """
    known = maintenance.get_window(connection, name_or_id)
    covered = cloud.get_cloud_point(connection, known.subject).name if known.subject else "every cloud point"
    removal = Removal(
        what="maintenance window",
        id=known.id,
        name=known.name,
        effects=(
            named("cloud point whose alerts it holds back", [covered]),
            named("types of alerts that it is for; none: all", known.window.types),
        ),
    )
    return removal, lambda writing: maintenance.delete_window(writing, known.id)


def task(connection: Connection, task_id: str, now: float) -> Foreseen:
    """A task that is cancelled.

    Raises:
        NotFoundError: no such task.
    """
    known = tasks.get(connection, task_id)
    in_bytes = known.unit == "bytes"
    total = f" of {format_size(known.total) if in_bytes else f'{known.total:,}'}" if known.total else ""
    done = f"{'work' if in_bytes else known.unit or 'steps'} done{total}"
    removal = Removal(
        what=f"task, {known.state.value.replace('_', ' ')}{f': {known.step}' if known.step else ''}",
        id=known.id,
        name=known.title,
        effects=(counted(done, 1, known.done) if in_bytes else counted(done, known.done),),
    )
    return removal, lambda writing: tasks.request_cancel(writing, known.id, now=now, tidy=True, by=behalf())
