"""Budgets of cloud points, contents and collections on each database (R23)."""

import pytest

from entrepot.database import budgets
from entrepot.database.budgets import Budget, Grant, Refusal, Scope
from entrepot.database.device_collections import ALL_DEVICES_ID

NOW = 1_790_000_000


def _grant(jti: str, content: str = "pkg-1") -> Grant:
    return Grant(jti=jti, point="pt-1", device=f"dev-{jti}", content=content, version=1, bytes=60, expires=NOW + 7200)


@pytest.mark.parametrize(
    ("scope", "subject"), [(Scope.POINT, "pt-1"), (Scope.CONTENT, "pkg-1"), (Scope.COLLECTION, ALL_DEVICES_ID)]
)
def test_every_budget_that_applies_is_charged_and_the_tightest_is_named(database, scope, subject):
    with database.transaction() as connection:
        budgets.put_budget(connection, Budget(scope=Scope.POINT, subject="pt-1", bytes=1000))
        budgets.put_budget(connection, Budget(scope=scope, subject=subject, bytes=100))
        assert isinstance(budgets.grant(connection, _grant("a"), NOW), Grant)
        refused = budgets.grant(connection, _grant("b"), NOW)
        assert isinstance(refused, Refusal)
        assert (refused.budget.scope, refused.budget.subject) == (scope, subject)
        assert budgets.standing(connection, refused.budget, NOW) == (0, 60)
        assert budgets.delete_budget(connection, scope, subject)
        assert not budgets.delete_budget(connection, scope, subject)


def test_a_collection_charges_its_members_alone(database):
    with database.transaction() as connection:
        budgets.put_budget(connection, Budget(scope=Scope.COLLECTION, subject="col-none", bytes=1))
        assert isinstance(budgets.grant(connection, _grant("a"), NOW), Grant)
        [one] = budgets.budgets(connection)
        assert budgets.standing(connection, one, NOW) == (0, 0)
        budgets.note_change(connection, one.scope, one.subject, at=NOW, by="anna", what="set")
        assert [change.by for change in budgets.changes(connection)] == ["anna"]
