"""Budgets of cloud points, contents and collections on each database (R23)."""

import msgspec
import pytest

from entrepot.core.times import HOUR, hour_of
from entrepot.database import budgets, collection, device_collections, devices, granting, grants, usage
from entrepot.database.budgets import Budget, Scope
from entrepot.database.collection import BucketRow, SegmentRow
from entrepot.database.device_collections import ALL_DEVICES_ID
from entrepot.database.devices import Device
from entrepot.database.granting import Refusal
from entrepot.database.grants import Grant
from entrepot.protocol.deviceapi import DeviceState

NOW = 1_790_000_000
THIS_HOUR = hour_of(NOW)


def _grant(jti: str, content: str = "pkg-1") -> Grant:
    return Grant(jti=jti, point="pt-1", device=f"dev-{jti}", content=content, version=1, bytes=60, expires=NOW + 7200)


def _device(name: str) -> Device:
    return Device(
        id=name,
        name=name,
        public_key=name.encode().ljust(32),
        state=DeviceState.APPROVED,
        changed=NOW,
        site="PS1",
        enrolled=NOW,
        seen=NOW,
        address="10.0.0.1",
    )


def _sent(connection, number: int, *rows: tuple[int, str, str, int]) -> None:
    """A segment with these figures (hours ago, device, content, bytes) is collected."""
    segment = SegmentRow(
        point="pt-1",
        name=f"tx/{number}",
        instance="gw-1",
        sequence=number,
        digest=bytes(32),
        previous=bytes(32),
        records=1,
        bytes=1,
    )
    buckets = [
        BucketRow(hour=THIS_HOUR - ago * HOUR, device=device, content=content, status="2xx", requests=1, bytes=count)
        for ago, device, content, count in rows
    ]
    assert collection.add_segment(connection, segment, buckets, NOW)


@pytest.mark.parametrize(
    ("scope", "subject"), [(Scope.POINT, "pt-1"), (Scope.CONTENT, "pkg-1"), (Scope.COLLECTION, ALL_DEVICES_ID)]
)
def test_every_budget_that_applies_is_charged_and_the_tightest_is_named(database, scope, subject):
    with database.transaction() as connection:
        usage.set_collected(connection, "pt-1", now=NOW)
        budgets.put_budget(connection, Budget(scope=Scope.POINT, subject="pt-1", bytes=1000))
        budgets.put_budget(connection, Budget(scope=scope, subject=subject, bytes=100))
        assert isinstance(granting.grant(connection, _grant("a"), NOW), Grant)
        refused = granting.grant(connection, _grant("b"), NOW)
        assert isinstance(refused, Refusal)
        assert (refused.budget.scope, refused.budget.subject) == (scope, subject)
        assert grants.standing(connection, refused.budget, NOW) == (0, 60)
        assert budgets.delete_budget(connection, scope, subject)
        assert not budgets.delete_budget(connection, scope, subject)


def test_a_collection_charges_its_members_alone(database):
    with database.transaction() as connection:
        budgets.put_budget(connection, Budget(scope=Scope.COLLECTION, subject="col-none", bytes=1))
        assert isinstance(granting.grant(connection, _grant("a"), NOW), Grant)
        [one] = budgets.budgets(connection)
        assert grants.standing(connection, one, NOW) == (0, 0)
        budgets.note_change(connection, one.scope, one.subject, at=NOW, by="anna", what="set")
        assert [change.by for change in budgets.changes(connection)] == ["anna"]


def _used(connection) -> dict[str, int]:
    return {one.subject: grants.standing(connection, one, NOW)[0] for one in budgets.budgets(connection)}


def test_what_contents_and_collections_used_is_counted_before_and_after_their_budgets_are_set(database):
    with database.transaction() as connection:
        device_collections.add_built_in(connection)
        made = device_collections.add(connection, "col-pilots", "Pilots")
        for name in ("dev-1", "dev-2"):
            devices.add_device(connection, _device(name))
        device_collections.add_member(connection, "Pilots", "dev-1")
        _sent(connection, 0, (0, "dev-1", "pkg-1", 1), (5, "dev-2", "pkg-1", 10), (24 * 31, "dev-1", "pkg-1", 9999))
        for scope, subject in (
            (Scope.CONTENT, "pkg-1"),
            (Scope.COLLECTION, made.id),
            (Scope.COLLECTION, ALL_DEVICES_ID),
        ):
            budgets.put_budget(connection, Budget(scope=scope, subject=subject, bytes=10**6))
        assert _used(connection) == {"pkg-1": 11, made.id: 1, ALL_DEVICES_ID: 11}
        _sent(connection, 1, (0, "dev-1", "pkg-1", 100), (1, "dev-1", "pkg-2", 1000), (1, "dev-3", "", 10_000))
        assert _used(connection) == {"pkg-1": 111, made.id: 1101, ALL_DEVICES_ID: 11_111}
        device_collections.add_member(connection, "Pilots", "dev-2")
        assert _used(connection)[made.id] == 1111, "what its present members were sent"
        device_collections.remove_member(connection, "Pilots", "dev-1")
        assert _used(connection)[made.id] == 10


def test_an_existing_budget_keeps_when_it_was_created(database):
    with database.transaction() as connection:
        budgets.put_budget(connection, Budget(subject="pt-1", bytes=1, created=5))
        budgets.put_budget(connection, Budget(subject="pt-1", bytes=2, created=9))
        [one] = budgets.budgets(connection)
        assert (one.bytes, one.created) == (2, 5)
        assert budgets.bounded_since(connection, "pt-1") == 5
        assert budgets.bounded_since(connection, "pt-2") is None


@pytest.mark.parametrize(
    ("scope", "subject"), [(Scope.POINT, "pt-1"), (Scope.CONTENT, "pkg-1"), (Scope.COLLECTION, ALL_DEVICES_ID)]
)
def test_a_budget_is_shown_as_used_up_exactly_when_no_more_is_granted(database, scope, subject):
    with database.transaction() as connection:
        device_collections.add_built_in(connection)
        usage.set_collected(connection, "pt-1", now=NOW)
        budgets.put_budget(connection, Budget(scope=scope, subject=subject, bytes=1000))
        _sent(connection, 0, (0, "dev-1", "pkg-1", 100), (5, "dev-2", "pkg-1", 20), (24 * 31, "dev-1", "pkg-1", 9999))
        for jti in ("open", "closed"):
            assert isinstance(granting.grant(connection, _grant(jti), NOW), Grant)
        grants.close(connection, {"closed": {"gw-1": 40}})
        [one] = budgets.budgets(connection)
        assert grants.standing(connection, one, NOW) == (120, 60 + 40)
        exactly = msgspec.structs.replace(_grant("rest"), bytes=1000 - 120 - 100)
        beyond = msgspec.structs.replace(exactly, bytes=exactly.bytes + 1)
        assert isinstance(granting.grant(connection, beyond, NOW), Refusal)
        assert isinstance(granting.grant(connection, exactly, NOW), Grant)
        assert grants.standing(connection, one, NOW) == (120, 880)
