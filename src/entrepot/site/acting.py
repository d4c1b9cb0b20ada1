"""On whose behalf the site acts: of the administrator whose request is being answered, else on its own.

Kept with everything that is done in the course of a request, threads included; each request has its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from entrepot.rules.alerts import SYSTEM

_behalf: ContextVar[str] = ContextVar("behalf", default=SYSTEM)


def act_for(administrator: str) -> None:
    """What is done from now on in this request is done for an administrator, by this name."""
    _behalf.set(administrator)


@contextmanager
def acting_alone() -> Iterator[None]:
    """What is done in here the site has decided, whoever's request it is that made it look."""
    before = _behalf.set(SYSTEM)
    try:
        yield
    finally:
        _behalf.reset(before)


def behalf() -> str:
    """The administrator's name; ``SYSTEM`` when the site acts on its own."""
    return _behalf.get()
