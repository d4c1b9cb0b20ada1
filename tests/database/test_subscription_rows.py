"""Subscriptions to alerts in SQL, on both kinds of database."""

import msgspec

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
