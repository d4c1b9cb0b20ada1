"""When failed work is tried again: quickly at first, then like the reference product, every 30 minutes, 100 times.

Its fixed 30 minutes make a point that was restarted wait half an hour for nothing; the first tries here come sooner and
are spread, so that all work that failed together does not return together.
"""

from typing import Final

import msgspec


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """``quick`` are the first pauses in seconds, ``pause`` every further one; ``attempts`` tries in all.

    ``spread`` is the share by which a pause may be longer.
    """

    quick: tuple[float, ...] = (5, 15, 60, 180, 600)
    pause: float = 1800
    attempts: int = 100
    spread: float = 0.2


DEFAULT: Final = Schedule()


def next_pause(failed: int, draw: float, schedule: Schedule = DEFAULT) -> float | None:
    """Seconds until the next try.

    Args:
        failed: how many tries have failed so far, at least 1.
        draw: a random number, 0 ≤ draw < 1.
        schedule: how often and how soon.

    Returns:
        the pause, or None when every attempt is used up.
    """
    if failed >= schedule.attempts:
        return None
    base = schedule.quick[failed - 1] if 1 <= failed <= len(schedule.quick) else schedule.pause
    return base * (1 + schedule.spread * min(max(draw, 0.0), 1.0))
