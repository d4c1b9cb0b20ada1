"""What is remembered of a client's request until its record is written (``protocol.transactions``)."""

import time
from typing import Final

from entrepot.core.ids import ObjectId
from entrepot.protocol.control import Delivery
from entrepot.protocol.transactions import Record
from entrepot.web.grants import Grant

UNANSWERED: Final = 503
"""Recorded as the status of a request that ended before it had one: the server was stopped, or failed."""


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
