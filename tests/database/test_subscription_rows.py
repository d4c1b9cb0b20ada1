"""Subscriptions to alerts in SQL, on both kinds of database."""

import msgspec
import pytest

from entrepot.core.errors import UnavailableError
from entrepot.database import notifications
from entrepot.database.notifications import Subscription
from entrepot.protocol.alertapi import Channel, Language

PAGER = Subscription(
    id="asub-1",
    name="pager",
    channel=Channel.WEBHOOK,
    target="https://hooks.example/a",
    language=Language.ENGLISH,
    types=(),
    severities=(),
    digest_minutes=0,
    private_networks=False,
    authority="",
    sealed=b"sealed",
    site="PS1",
    created=1,
)


def test_a_change_leaves_what_a_delivery_and_another_change_wrote_meanwhile(database) -> None:
    with database.transaction() as connection:
        notifications.add_subscription(connection, PAGER)
        read = notifications.get_subscription(connection, "pager")
    with database.transaction() as connection:
        notifications.settle(connection, "asub-1", [], now=7)
        other = msgspec.structs.replace(read, target="https://hooks.example/b")
        notifications.change_subscription(connection, read, other, now=8)
        notifications.put_back(connection, "asub-1", [], due=9, error="The receiver answers 503.", now=8)
    renamed = msgspec.structs.replace(read, name="duty")
    with database.transaction() as connection:
        notifications.change_subscription(connection, read, renamed, now=9)
        notifications.change_subscription(connection, read, read, now=9)
    with database.reading() as connection:
        found = notifications.get_subscription(connection, "duty")
    assert (found.target, found.delivered, found.error) == (other.target, 7, "The receiver answers 503.")


@pytest.mark.postgres
def test_two_changes_of_one_subscription_are_checked_one_after_the_other(postgres_database) -> None:
    """SQLite's writers queue anyway."""
    with postgres_database.transaction() as connection:
        notifications.add_subscription(connection, PAGER)
    with postgres_database.transaction() as first:
        notifications.get_subscription(first, "pager", locked=True)
        with pytest.raises(UnavailableError), postgres_database.transaction() as second:
            second.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")
            notifications.get_subscription(second, "pager", locked=True)
        with postgres_database.reading() as reader:
            assert notifications.get_subscription(reader, "pager").name == "pager"
