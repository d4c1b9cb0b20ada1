"""What a load drill's figures mean. Pure: figures in, words out; bytes per second, milliseconds.

The yardstick is the load that the reference product is planned for: 100 MB to each of 50,000 clients in 24 hours.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from entrepot.core.sizes import MB, format_size
from entrepot.core.times import DAY

DOWNLOAD: Final = 100 * MB
CLIENTS: Final = 50_000
BUSY_PERCENT: Final = 85.0
LATE: Final = 25.0
"""Milliseconds: a machine that is idle enough is late by one or two."""
_STEP: Final = 1.05
_NEARLY: Final = 0.9


class Times:
    """How long things took, in bounded memory: classes of a width of 5 %. Milliseconds."""

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()
        self.most = 0.0

    def add(self, milliseconds: float) -> None:
        """Count one."""
        self._classes[round(math.log(max(milliseconds, 0.01), _STEP))] += 1
        self.most = max(self.most, milliseconds)

    @property
    def count(self) -> int:
        """How many."""
        return self._classes.total()

    def within(self, share: float) -> float:
        """The time that this share (0 to 1) did not exceed, to 2.5 %; 0 where there is none."""
        wanted = max(1, math.ceil(self.count * share))
        seen = 0
        for number, count in sorted(self._classes.items()):
            seen += count
            if seen >= wanted:
                return min(_STEP**number, self.most)
        return 0.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; ``rate``: what each device was held to, 0: nothing. ``instance_cpu``: percent of a core, only
    of instances that tell; ``own_cpu``: of the drill itself; ``own_delay``: what nine tenths of its steps were late at
    most, milliseconds."""

    devices: int
    rate: int
    bytes_per_second: float
    steady_seconds: float
    requests: int
    whole: int
    failed: int
    damaged: int
    limited: int
    unavailable: int
    refused: int
    instances: int
    instance_cpu: tuple[float, ...]
    own_cpu: float
    own_delay: float


def failed(errors: Mapping[str, int]) -> int:
    """Requests that were not answered as they should be, but for those that met a limit (429, 503).

    Args:
        errors: by kind; an answer's kind is ``HTTP`` and its status.
    """
    return sum(errors.values()) - errors.get("HTTP 429", 0) - errors.get("HTTP 503", 0)


def clients_per_day(bytes_per_second: float) -> int:
    """How many clients with :data:`DOWNLOAD` each are served in 24 hours."""
    return int(bytes_per_second * DAY / DOWNLOAD)


def conclusions(load: Load) -> tuple[str, ...]:
    """What an administrator should take from it, the most important first."""
    found = list(_wrong(load))
    if load.bytes_per_second > 0:
        found.append(_capacity(load))
        found.append(_bottleneck(load))
    elif not found:
        found.append("Nothing was measured: the drill ended before anything came. Give it more seconds or bytes.")
    if 0 < load.steady_seconds < 10:
        found.append(f"The steady part lasted {load.steady_seconds:.1f} s only: more bytes or seconds tell more.")
    return tuple(found)


def _wrong(load: Load) -> Sequence[str]:
    found = []
    if load.damaged:
        found.append(
            f"{load.damaged:,} objects were not what their name says. Validate the content on this cloud point "
            "(entrepot point validate) and repair it."
        )
    if load.refused:
        found.append(f"{load.refused:,} of {load.devices:,} devices were refused: see the errors.")
    if load.failed:
        share = 100 * load.failed / max(1, load.requests)
        found.append(f"{load.failed:,} of {load.requests:,} requests failed ({share:.1f} %).")
    if load.limited:
        found.append(f"{load.limited:,} requests were over a limit (429) of one device, or of this machine's address.")
    if load.unavailable:
        found.append(f"{load.unavailable:,} requests met a service that had no room or was stopped (503).")
    return found


def _capacity(load: Load) -> str:
    clients = clients_per_day(load.bytes_per_second)
    each = f", {clients // load.instances:,} per instance" if load.instances > 1 else ""
    share = clients / CLIENTS
    against = f"{share:.1f} times" if share >= 1 else f"{100 * share:.0f} % of"
    return (
        f"{format_size(int(load.bytes_per_second))}/s are about {clients:,} clients at 100 MB in 24 hours{each}: "
        f"{against} the {CLIENTS:,} that the reference product is planned for."
    )


def _bottleneck(load: Load) -> str:
    """What held the throughput where it was, as far as can be known."""
    if load.rate and load.bytes_per_second >= _NEARLY * load.rate * load.devices:
        return "The devices were held to their rate and got it: the service can do more."
    if load.own_delay >= LATE:
        return (
            f"This machine was too busy to keep up (a tenth of what it was to do came {load.own_delay:.0f} ms late or "
            "later): the service can do more. Run drills from a machine that has nothing else to do."
        )
    busiest = max(load.instance_cpu, default=-1.0)
    if load.own_cpu >= BUSY_PERCENT:
        return (
            f"This machine was the bottleneck (its one core for the drill was {load.own_cpu:.0f} % busy): the service "
            "can do more. Run drills from several machines, or from a faster one."
        )
    if busiest >= BUSY_PERCENT:
        return (
            f"An instance used {busiest:.0f} % of a core: the service was the bottleneck. More instances serve more "
            "as long as its machine has idle cores (entrepot cloud scale)."
        )
    if load.limited or load.unavailable:
        return "Limits of the gateways held the load back, not their speed."
    return (
        "Neither this machine nor an instance was known to be busy: the network between them, or too few devices, set "
        "the pace. More devices show which."
    )
