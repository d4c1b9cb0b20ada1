"""A process's start and end, without a look for garbage: next to nothing of what modules make when they load is any.

To look costs up to a third of a start: Python looks after every 700 new objects, and a site server's modules make some
230 000 that stay. A server then leaves what it loaded out of every later look, each of which would hold its loop up.
"""

import gc
from typing import Final

UNTIL_A_LOOK: Final = 500_000
"""New objects until garbage is looked for: more than any command loads, and yet a bound for one that runs for long."""

_USUAL: Final = gc.get_threshold()


def load_without_a_look() -> None:
    """Put the look for garbage off; the first thing that a program does."""
    gc.set_threshold(UNTIL_A_LOOK, *_USUAL[1:])


def all_is_loaded() -> None:
    """Look for garbage as usual from now on, but never again at what there is: it stays until the process ends. Nothing
    happens where the look was not put off: what such a process holds need not stay."""
    if gc.get_threshold()[0] == UNTIL_A_LOOK:
        gc.freeze()
        gc.set_threshold(*_USUAL)


def end_without_a_look() -> None:
    """The last thing that a program does: Python's own end looks for garbage several times, a fifth of a short command,
    though the system takes all of it back at once. What must be closed is closed before, by whoever opened it."""
    gc.freeze()
