"""More gateway instances than a budget's tokens have slots for (``rules.allowance``).

An instance sends only from slots that it has won, so no more instances than slots can serve one token; the others
refuse it. A budget that is set on such a cloud point only says so: it bounds cost, and must be possible at once. To add
instances is to serve clients better, which they would not: so that is refused, unless it is meant.
"""

from sqlalchemy import Connection

from entrepot.core.errors import RefusedError
from entrepot.database import budgets, cloud
from entrepot.database.cloud import CloudPoint
from entrepot.rules.allowance import SLOTS


def check_instances(connection: Connection, point: str, instances: int, *, before: int = 0) -> None:
    """Refuse more instances than a budget's tokens have slots for; fewer than ``before`` are always allowed.

    Raises:
        RefusedError: why.
    """
    if instances > max(SLOTS, before) and budgets.touches(connection, point):
        raise RefusedError(
            f"A budget is active for this cloud point: at most {SLOTS} instances can serve one client then, and with "
            f"{instances} many of its requests would be refused.",
            next_step=f"Stay at {SLOTS} instances or fewer, or lift the budget (`entrepot budget list`); "
            "`entrepot cloud scale NAME NUMBER --force` does it all the same.",
        )


def note_on(connection: Connection, point: CloudPoint) -> str:
    """What a budget means for a cloud point with so many instances, for people; empty when there is nothing to say."""
    crowded = point.instances_wanted > SLOTS and budgets.touches(connection, point.point)
    return _note(point) if crowded else ""


def note_of(connection: Connection, one: budgets.Budget) -> str:
    """The same of every cloud point that a budget bounds or, before it is set, would bound."""
    crowded = cloud.larger_than(connection, SLOTS)
    return " ".join(
        _note(each) for each in crowded if one.scope is not budgets.Scope.POINT or one.subject == each.point
    )


def _note(point: CloudPoint) -> str:
    return (
        f"{point.name} has {point.instances_wanted} instances, but under a budget at most {SLOTS} can serve one "
        "client: the others refuse it (429), and it must ask again. "
        f"Better: entrepot cloud scale {point.name} {SLOTS}"
    )
