"""How fast long work goes, and how long it will take: the rate of the last while, not that of all the time."""

from collections import deque
from typing import Final

from entrepot.core.times import HOUR, MINUTE

WINDOW_SECONDS: Final = 20.0
LEAST_SECONDS: Final = 1.0
"""Sooner nothing is said."""


class Pace:
    """Is told now and then how much is done, and tells the rate. An amount that falls begins anew."""

    def __init__(self) -> None:
        self._told: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> int:
        """Units a second over the last while, as far as that is known: 0 at first, and while nothing moves.

        Args:
            now: seconds that only grow.
        """
        if self._told and done < self._told[-1][1]:
            self._told.clear()
        self._told.append((now, done))
        while len(self._told) > 2 and now - self._told[1][0] >= WINDOW_SECONDS:
            self._told.popleft()
        begun, before = self._told[0]
        seconds = now - begun
        return round((done - before) / seconds) if seconds >= LEAST_SECONDS else 0


def seconds_left(done: int, total: int, rate: int) -> int:
    """How long the rest takes at this rate; 0 where that is not known."""
    return -(-(total - done) // rate) if rate > 0 and total > done else 0


def format_seconds(seconds: float) -> str:
    """Readable: ``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / MINUTE), HOUR // MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
