"""What an order would affect is read first, however long that takes. Only then is the order given, in a transaction
that is rolled back: that one keeps every writer waiting."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from sqlalchemy import Connection

from entrepot.database.engine import Database
from entrepot.protocol.removalapi import Removal, refused_or_not

P = ParamSpec("P")

Foreseen = tuple[Removal, Callable[[Connection], object]]
"""What is affected, and the order, to be given in a rehearsal."""


async def foresee(
    database: Database, look: Callable[Concatenate[Connection, P], Foreseen], /, *args: P.args, **kwargs: P.kwargs
) -> Removal:
    """What an order would do, and whether it would be refused.

    Args:
        look: reads what is affected, in a read transaction.

    Raises:
        NotFoundError: what the order names is not there.
    """
    removal, order = await database.read(look, *args, **kwargs)
    return await database.rehearse(lambda connection: refused_or_not(removal, lambda: order(connection)))
