"""What an order that destroys would do, told before it is given.

========= ================================================ ========================================================
GET       the address of what would be deleted ``/removal``  :class:`Removal`: what ``DELETE`` there would do
GET       the address of the order                           :class:`Removal`: what ``POST`` there would do, such as
                                                             ``/devices/{id}/block``
========= ================================================ ========================================================

Nothing is changed. What ``DELETE`` or ``POST`` would refuse is no error here: it is told in ``refusal``. Contents and
versions have ``…/uses`` (``protocol.libraryapi``), the library ``GET /library/sweep``. A cloud host and a device tell
the same of what is removed on them.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from entrepot.core.errors import ConflictError, RefusedError
from entrepot.protocol.siteapi import Model

MAX_NAMES: Final = 20


class Effect(Model, frozen=True, kw_only=True):
    """One thing that comes of it. ``count``: how many there are; ``names``: the first 20 of them, where they have
    names; ``bytes``: what they come to, where that is known."""

    what: str
    count: int
    bytes: int | None = None
    names: tuple[str, ...] = ()


class Removal(Model, frozen=True, kw_only=True):
    """What an order would do to one thing. ``what``: its kind, in words. ``refusal``: why the order would be refused
    now, empty where it would not; ``next_step``: what to do then."""

    what: str
    id: str
    name: str
    effects: tuple[Effect, ...]
    refusal: str = ""
    next_step: str = ""


def named(what: str, names: Iterable[str]) -> Effect:
    """Things that have names."""
    found = list(names)
    return Effect(what=what, count=len(found), names=tuple(found[:MAX_NAMES]))


def counted(what: str, count: int, size: int | None = None) -> Effect:
    """Things without names; ``size``: their bytes together."""
    return Effect(what=what, count=count, bytes=size)


def refused_or_not(removal: Removal, order: Callable[[], object]) -> Removal:
    """Give the very order, where it will be undone, and note what it is refused for: nothing says that twice.

    Raises:
        EntrepotError: it fails otherwise, as when what it names is not there.
    """
    try:
        order()
    except (ConflictError, RefusedError) as error:
        return msgspec.structs.replace(removal, refusal=error.message, next_step=error.next_step)
    return removal
