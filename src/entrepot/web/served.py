"""What is remembered of a client's request until its record is written (``protocol.transactions``)."""

import time
from typing import Final

from entrepot.core.ids import ObjectId
from entrepot.protocol.control import Delivery
from entrepot.protocol.transactions import Record
from entrepot.web.grants import Grant

UNANSWERED: Final = 503
"""Recorded as the status of a request that ended before it had one: the server was stopped, or failed."""

MOST_MOMENTS: Final = 4096
CLOCK_STEP: Final = 1000
"""Milliseconds: a clock that was set back by more is believed."""


class Moments:
    """Gives each request a moment of its own among those of one device for one object.

    A note of running downloads, and the records of those that end, know a download by when it began
    (``cloud/gateway/running.py``): two that began in the same millisecond could be taken for each other.
    """

    def __init__(self) -> None:
        self._given: dict[tuple[str, bytes, str], int] = {}

    def own(self, device: str, object_id: ObjectId, method: str, now: int) -> int:
        """This millisecond (since 1970), or the next one that no equal request has."""
        if len(self._given) >= MOST_MOMENTS:
            self._given = {equal: given for equal, given in self._given.items() if given >= now}
        equal = (device, object_id, method)
        given = self._given.get(equal, 0)
        moment = given + 1 if 0 <= given - now < CLOCK_STEP else now
        self._given[equal] = moment
        return moment


class ServedRequest:
    """What a record says of one request, but for the bytes."""

    __slots__ = ("begun", "grant", "method", "object_id", "status", "time")

    def __init__(self, now: float, begun: float) -> None:
        self.time = round(now * 1000)
        self.begun = begun
        self.status = 0
        self.grant: Grant
        self.object_id: ObjectId
        self.method: str

    def record(self, sent: int, granted: int = 0) -> Record:
        return Record(
            time=self.time,
            device=self.grant.device,
            set_id=self.grant.set_id,
            object_id=self.object_id,
            status=self.status or UNANSWERED,
            sent=sent,
            duration=round((time.monotonic() - self.begun) * 1000),
            method=self.method,
            delivery=Delivery.REDIRECT.value if granted else Delivery.STREAM.value,
            granted=granted,
        )
