"""Which instances of a service to start, drain or kill: a pure decision (no clock, no process).

Rules:

- As many *current* instances (of the wanted revision, neither draining nor finished) run as are wanted.
- An instance of an older revision is drained only when all wanted current ones are ready: replacing drops nobody.
- Too many current ones: the youngest are drained first; those that are not ready yet are killed outright.
- After a crash the next start waits: 0 s, 0.5 s, 1 s, 2 s … 30 s; an instance that ran a minute clears the account.
- An instance without heartbeat for ``SILENT_SECONDS`` is killed; one that never becomes ready, after ``START_SECONDS``.
- A service that is to stop loses all instances at once (they cut their clients off): no draining.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

SILENT_SECONDS: Final = 30.0
START_SECONDS: Final = 60.0
STEADY_SECONDS: Final = 60.0
_BACKOFF_FIRST: Final = 0.5
_BACKOFF_LONGEST: Final = 30.0


class Phase(StrEnum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"  # told to cut its clients off


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one running instance. ``started`` and ``heard`` in seconds of a monotonic clock."""

    id: str
    revision: int
    phase: Phase
    started: float
    heard: float


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now. ``stop``: cut clients off and end; ``drain``: take no more, finish; ``kill``: it is hung."""

    start: int = 0
    drain: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()


class Crashes(msgspec.Struct, frozen=True, kw_only=True):
    """The account of a service's crashes: how many without a steady run in between, and when the last was."""

    count: int = 0
    last: float = 0.0

    def after(self, *, ran: float, now: float) -> "Crashes":
        """The account after another instance ended unasked, having run ``ran`` seconds."""
        return Crashes(count=1 if ran >= STEADY_SECONDS else self.count + 1, last=now)

    def may_start(self, now: float) -> bool:
        """Tell whether the wait after the last crash is over."""
        return now >= self.last + backoff(self.count)


def backoff(crashes: int) -> float:
    """Seconds to wait after that many crashes in a row."""
    return 0.0 if crashes < 2 else min(_BACKOFF_LONGEST, _BACKOFF_FIRST * 2.0 ** min(crashes - 2, 10))


def plan(wanted: int, revision: int, views: Sequence[View], *, crashes: Crashes, now: float) -> Steps:
    """Decide what to do about one service.

    Args:
        wanted: how many instances shall run; 0 stops the service.
        revision: that they shall have.
        views: the instances that run, oldest first.
        now: seconds of the same clock as in the views.
    """
    hung = tuple(view.id for view in views if _hung(view, now))
    alive = [view for view in views if view.id not in hung]
    if wanted == 0:
        return Steps(stop=tuple(view.id for view in alive if view.phase is not Phase.STOPPING), kill=hung)
    serving = [view for view in alive if view.phase in (Phase.STARTING, Phase.READY)]
    current = [view for view in serving if view.revision == revision]
    ready = [view for view in current if view.phase is Phase.READY]
    # The youngest go first; one that serves nobody yet goes before one that does.
    spare = sorted(current, key=lambda view: (view.phase is Phase.READY, -view.started))[
        : max(0, len(current) - wanted)
    ]
    leaving = [view for view in spare if view.phase is Phase.READY]
    if len(ready) - len(leaving) >= wanted:
        leaving += [view for view in serving if view.revision != revision]
    return Steps(
        start=max(0, wanted - len(current)) if crashes.may_start(now) else 0,
        drain=tuple(view.id for view in leaving),
        stop=tuple(view.id for view in spare if view.phase is Phase.STARTING),
        kill=hung,
    )


def _hung(view: View, now: float) -> bool:
    if view.phase is Phase.STARTING:
        return now - view.started > START_SECONDS
    return view.phase is Phase.READY and now - view.heard > SILENT_SECONDS
