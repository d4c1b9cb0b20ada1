"""What a load drill measures while it runs, and the report of it. Seconds of one clock that never goes back."""

from collections import Counter
from collections.abc import Sequence

from entrepot.core.errors import EntrepotError
from entrepot.protocol.drillapi import DrillInstance, DrillPermit, DrillReport, DrillTimes
from entrepot.rules.drill import Load, Times, clients_per_day, conclusions, failed

MOST_KINDS = 60


class Measured:
    """Counters; the drill's event loop is the only writer."""

    def __init__(self) -> None:
        self.requests = self.whole = self.unfinished = self.damaged = self.refused = self.active = 0
        self.received = self.verified = 0
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.first_byte, self.whole_object, self.delay = Times(), Times(), Times()
        self.begun = self.steady_from = self.last = 0.0
        self._before_steady = 0

    def begin(self, now: float, ramp: float) -> None:
        """The first request is about to be made."""
        self.begun = self.last = now
        self.steady_from = now + ramp

    def took(self, count: int, now: float) -> None:
        """Bytes came."""
        self.received += count
        self.last = max(self.last, now)
        if now < self.steady_from:
            self._before_steady += count

    def note(self, kind: str, error: EntrepotError) -> None:
        """Something went wrong."""
        kind = kind if kind in self.errors or len(self.errors) < MOST_KINDS else "other"
        self.errors[kind] += 1
        self.examples.setdefault(kind, f"{kind}: {error}"[:1000])

    @property
    def seconds(self) -> float:
        """From the first request to the last byte."""
        return self.last - self.begun

    @property
    def steady(self) -> tuple[float, float]:
        """Seconds after the ramp, and bytes a second in them; of all the time where it ended within the ramp."""
        seconds, count = self.last - self.steady_from, self.received - self._before_steady
        if seconds <= 0 or not count:
            seconds, count = self.seconds, self.received
        return seconds, count / seconds if seconds > 0 else 0.0


def report_of(
    measured: Measured, permit: DrillPermit, instances: Sequence[DrillInstance], *, cpu: float, interrupted: bool
) -> DrillReport:
    """The report; ``cpu``: seconds of processor time that the drill used itself."""
    seconds, rate = measured.steady
    own = 100 * cpu / measured.seconds if measured.seconds > 0 else 0.0
    limited, unavailable = measured.statuses[429], measured.statuses[503]
    load = Load(
        devices=permit.plan.devices,
        rate=permit.plan.rate,
        bytes_per_second=rate,
        steady_seconds=seconds,
        requests=measured.requests,
        whole=measured.whole,
        failed=failed(measured.errors),
        damaged=measured.damaged,
        limited=limited,
        unavailable=unavailable,
        refused=measured.refused,
        instances=len(instances),
        instance_cpu=tuple(one.cpu_percent for one in instances if one.cpu_percent >= 0),
        own_cpu=own,
        own_delay=measured.delay.within(0.9),
    )
    return DrillReport(
        seconds=round(measured.seconds, 3),
        steady_seconds=round(seconds, 3),
        requests=measured.requests,
        whole=measured.whole,
        unfinished=measured.unfinished,
        received=measured.received,
        verified=measured.verified,
        damaged=measured.damaged,
        bytes_per_second=round(rate, 1),
        first_byte=_times(measured.first_byte),
        whole_object=_times(measured.whole_object),
        statuses={str(status): count for status, count in sorted(measured.statuses.items())},
        errors=dict(measured.errors.most_common()),
        examples=tuple(measured.examples[kind] for kind, _ in measured.errors.most_common(32)),
        limited=limited,
        unavailable=unavailable,
        refused=measured.refused,
        instances=tuple(instances),
        own_cpu_percent=round(own, 1),
        own_delay=_times(measured.delay),
        clients_per_day=clients_per_day(rate),
        interrupted=interrupted,
        conclusions=conclusions(load),
    )


def _times(times: Times) -> DrillTimes:
    return DrillTimes(
        half=round(times.within(0.5), 2),
        nine_tenths=round(times.within(0.9), 2),
        most_but_one_percent=round(times.within(0.99), 2),
        most=round(times.most, 2),
    )
