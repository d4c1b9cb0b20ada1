"""Two writers at once on PostgreSQL; the embedded database has one writer."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection, event

from entrepot.core.errors import NotFoundError
from entrepot.core.times import HOUR
from entrepot.database import budgets, budgetsums, cloud, collection, contents, tasks, usage
from entrepot.database.budgets import Scope
from entrepot.database.collection import SegmentRow
from entrepot.database.engine import Database
from entrepot.protocol.costapi import BudgetPatch, BudgetRequest
from entrepot.site.cloud import standing
from entrepot.site.cost.budgets import put
from entrepot.site.cost.changing import change
from tests.rows import content_row

from .test_cloud_repositories import CERTIFICATE, POINT

pytestmark = pytest.mark.postgres
PATIENCE = 60.0
NOW = 1_774_267_200


def _begin(
    database: Database, work: Callable[[Connection], Any], *, until: Callable[[str, Any], bool]
) -> tuple[threading.Thread, list[Exception]]:
    """Begin work in a transaction of its own; come back when it is about to say the statement that ``until`` knows by
    text and parameters, or has ended. What it failed with is in the list."""
    there, failed = threading.Event(), []

    def said(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if until(statement, parameters):
            there.set()

    def run() -> None:
        try:
            with database.transaction() as connection:
                event.listen(connection, "before_cursor_execute", said)
                work(connection)
        except Exception as error:  # noqa: BLE001  # the test looks at it
            failed.append(error)
        finally:
            there.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert there.wait(PATIENCE)
    return thread, failed


def test_two_who_change_a_budget_at_once_lose_nothing_of_each_other(postgres_hierarchy) -> None:
    database = postgres_hierarchy
    with database.transaction() as connection:
        contents.add_content(connection, content_row("pkg-app", "app", source="", created=NOW))
        put(connection, "app", BudgetRequest(bytes=10, scope="content"), by="anna", now=NOW)
    patch = BudgetPatch(scope="content", peers_percent=70)
    with database.transaction() as connection:
        budgetsums.lock(connection)
        other, failed = _begin(
            database,
            lambda connection: change(connection, "app", patch, by="ben", now=NOW),
            until=lambda statement, _: statement.endswith("FOR UPDATE"),
        )
        change(connection, "app", BudgetPatch(scope="content", bytes=20), by="anna", now=NOW)
    other.join(PATIENCE)
    assert failed == []
    with database.reading() as connection:
        found = budgets.find(connection, Scope.CONTENT, "pkg-app")
    assert (found.bytes, found.peers_percent) == (20, 70)


class _Figure(NamedTuple):
    hour: int
    device: str
    content: str
    bytes: int


FIGURE = _Figure(hour=10 * HOUR, device="dev-1", content="pkg-app", bytes=5)


@pytest.fixture
def budgeted(postgres_hierarchy: Database) -> Database:
    """A content with a budget, of which something was sent."""
    with postgres_hierarchy.transaction() as connection:
        contents.add_content(connection, content_row("pkg-app", "app", source="", created=NOW))
        put(connection, "app", BudgetRequest(bytes=10, scope="content"), by="anna", now=NOW)
        budgetsums.add(connection, [FIGURE])
    return postgres_hierarchy


def _lift(database: Database) -> tuple[threading.Thread, list[Exception]]:
    """Lift the budget, in another transaction, as far as that goes now."""

    def waits(statement: str, _: Any) -> bool:
        return statement.endswith("FOR UPDATE") or statement.startswith("DELETE FROM budget_hour")

    def lift(connection: Connection) -> None:
        assert budgets.delete_budget(connection, Scope.CONTENT, "pkg-app")

    return _begin(database, lift, until=waits)


def test_who_lifts_a_budget_and_who_sets_it_at_once_do_not_block_each_other(budgeted) -> None:
    with budgeted.transaction() as connection:
        budgetsums.count_anew(connection, "content", "pkg-app")
        other, failed = _lift(budgeted)
        put(connection, "app", BudgetRequest(bytes=20, scope="content"), by="ben", now=NOW)
    other.join(PATIENCE)
    assert failed == []
    with budgeted.reading() as connection:
        assert budgets.find(connection, Scope.CONTENT, "pkg-app") is None


def test_nothing_stays_of_a_budget_that_is_lifted_while_its_figures_come_in(budgeted) -> None:
    with budgeted.transaction() as connection:
        budgetsums.add(connection, [FIGURE._replace(hour=11 * HOUR)])
        other, failed = _lift(budgeted)
    other.join(PATIENCE)
    assert failed == []
    with budgeted.reading() as connection:
        assert connection.execute(budgetsums.used("content", "pkg-app", since=0)).scalar_one() == 0


def test_who_notes_an_earlier_measurement_and_who_counts_several_hours_do_not_wait_for_each_other(
    postgres_hierarchy,
) -> None:
    database = postgres_hierarchy
    with database.transaction() as connection:
        usage.add_to_hours(connection, "pt-1", {10 * HOUR: {"sent": 1}, 12 * HOUR: {"sent": 1}})
    with database.transaction() as connection:
        usage.add_to_hour(connection, "pt-1", 10 * HOUR, uploaded=5)
        other, failed = _begin(
            database,
            lambda connection: usage.set_stored(
                connection, "pt-1", stored=7, objects=1, now=12 * HOUR + 60, at=10 * HOUR + 60, instances=2
            ),
            until=lambda statement, values: (
                statement.startswith("UPDATE usage_hour") and 10 * HOUR in dict(values).values()
            ),
        )
        usage.add_to_hour(connection, "pt-1", 12 * HOUR, uploaded=6)
    other.join(PATIENCE)
    assert failed == []
    with database.reading() as connection:
        assert usage.course(connection, "pt-1", since=0).stored == {10 * HOUR: 7}
        uploaded = [row.uploaded for row in usage.hours(connection, "pt-1", since=0, until=20 * HOUR, limit=9)]
    assert uploaded == [5, 6]


def _counts(connection: Connection, sequence: int = 1) -> None:
    segment = SegmentRow(
        point=POINT.point,
        name=f"tx/1/gw/{sequence}",
        instance="gw",
        sequence=sequence,
        digest=bytes([sequence]) * 32,
        previous=bytes(32),
        records=1,
        bytes=10,
    )
    assert collection.add_segment(connection, segment, (), NOW)


def _prunes(connection: Connection) -> None:
    collection.prune_segments(connection, NOW + 1, chains_before=NOW + 1)


@pytest.mark.parametrize("collects", [_counts, _prunes])
def test_who_forgets_a_cloud_point_and_who_collects_from_it_do_not_wait_for_each_other(
    postgres_hierarchy, collects: Callable[[Connection], None]
) -> None:
    database = postgres_hierarchy
    with database.transaction() as connection:
        cloud.add_certificate(connection, CERTIFICATE)
        cloud.add_cloud_point(connection, POINT)
        task = tasks.create(connection, site="PS1", kind="cloud-delete", subject=POINT.point, title="D", now=NOW)
        cloud.update_cloud_point(connection, POINT.point, task=task.id)
        usage.set_collected(connection, POINT.point, now=NOW)
        _counts(connection, 0)
    with database.transaction() as connection:
        usage.set_collected(connection, POINT.point, now=NOW)
        other, failed = _begin(
            database,
            lambda connection: standing.forget(connection, task, NOW),
            until=lambda statement, _: statement.startswith("DELETE FROM cloud_usage"),
        )
        collects(connection)
    other.join(PATIENCE)
    assert failed == []
    with database.reading() as connection, pytest.raises(NotFoundError):
        cloud.get_cloud_point(connection, POINT.point)
