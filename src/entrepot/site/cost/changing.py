"""Changes of a budget that leave what they do not name."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError
from entrepot.database import budgets, budgetsums, contents
from entrepot.database.budgets import Budget, Scope
from entrepot.protocol.costapi import BudgetInfo, BudgetPatch, BudgetRequest
from entrepot.rules.budgets import Shares
from entrepot.rules.throttle import kept_rate
from entrepot.site.cost.budgets import put
from entrepot.site.cost.naming import subject_of


def change(connection: Connection, name: str, patch: BudgetPatch, *, by: str, now: float) -> BudgetInfo:
    """Change what is given of a budget; the rest stays, or is as by default where there is none yet.

    Raises:
        NotFoundError: there is no such cloud point, content or collection.
        BadInputError: there is no budget yet and no bytes are given; shares, zone or rate that do not fit.
    """
    scope = Scope(patch.scope)
    budgetsums.lock(connection)  # before it is read: another change would be lost
    before = budgets.find(connection, scope, subject_of(connection, scope, name))
    if before is None and patch.bytes is None:
        raise BadInputError(
            f"The {patch.scope.replace('-', ' ')} {name} has no budget yet.", next_step="Give its bytes, such as 500GB."
        )
    given = {key: value for key, value in msgspec.structs.asdict(patch).items() if value is not None}
    if patch.throttle_percent == 0:
        given.setdefault("rate", 0)
    kept = {} if before is None else _kept(connection, before)
    return put(connection, name, BudgetRequest(**(kept | given)), by=by, now=now)


def _kept(connection: Connection, one: Budget) -> dict[str, Any]:
    """What stays of a budget; critical contents by their names, without those that were deleted since."""
    named = {each.id: each.name for each in contents.list_contents(connection)} if one.critical else {}
    values = {key: getattr(one, key) for key in ("bytes", "zone", *Shares.__struct_fields__)}
    return values | {
        "rate": kept_rate(one.rate),
        "critical": tuple(named[each] for each in one.critical if each in named),
    }
