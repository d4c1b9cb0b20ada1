"""Load drills: synthetic devices of a site download from one of its own cloud points (``entrepot cloud drill``).

====== =================================== ======================================================================
POST   ``/cloud-points/{id}/drills/plan``  :class:`DrillRequest` → :class:`DrillPlan`: nothing is begun
POST   ``/cloud-points/{id}/drills``       :class:`DrillRequest` → :class:`DrillPermit`
GET    ``/cloud-points/{id}/drills``       list of :class:`DrillRecord`, the newest first
PUT    ``/drills/{id}/report``             :class:`DrillReport`: what came of it, once
====== =================================== ======================================================================

A synthetic device's id is ``drill-<16 hexadecimal digits>-<number>``; no other device has one that begins so. That is
how its transactions are known in records, logs and figures.
"""

import re
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta

from entrepot.core.ids import OBJECT_ID_BYTES
from entrepot.core.sizes import GB
from entrepot.protocol.siteapi import Bytes, Model

MAX_DEVICES: Final = 2_000
MAX_SECONDS: Final = 3_600
MAX_RAMP: Final = 600
MAX_OBJECTS: Final = 2_000
"""Of a larger content so many objects are downloaded again and again; ids are hashes, so they are a fair sample."""
LEAST_RATE: Final = 10_000
"""Bytes a second: gateways cut off whoever reads slower than 8 KiB a second."""
_DRILL: Final = "drill-"
_DEVICE: Final = re.compile(r"(drill-[0-9a-f]{16})-\d{1,5}")

_Short = Annotated[str, Meta(max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**62)]
_Number = Annotated[float, Meta(ge=0, le=2.0**62)]
_Counts = Annotated[dict[Annotated[str, Meta(max_length=64)], _Count], Meta(max_length=64)]
_Texts = Annotated[tuple[Annotated[str, Meta(max_length=1024)], ...], Meta(max_length=32)]


def is_drill(device: str) -> bool:
    """Whether a device, or a line of figures, is of a drill."""
    return device.startswith(_DRILL)


def drill_device(drill: str, number: int) -> str:
    """The id of a synthetic device; ``drill`` is the drill's own id."""
    return f"{drill}-{number:04}"


def drill_of(device: str) -> str:
    """The drill of a synthetic device, under which figures of all of its devices count; any other device itself."""
    match = _DEVICE.fullmatch(device)
    return match[1] if match else device


class DrillRequest(Model, frozen=True, kw_only=True):
    """How much load.

    Attributes:
        content: name or id; empty: the largest that the cloud point holds.
        version: 0: the current one.
        devices: synthetic devices that download at the same time, each one object after another.
        seconds: how long at most, with the ramp.
        ramp: seconds over which the devices begin, one after another.
        most_bytes: what all together ask for at most.
        rate: bytes a second that each device reads at most; 0: as fast as it can.
    """

    content: _Short = ""
    version: Annotated[int, Meta(ge=0)] = 0
    devices: Annotated[int, Meta(ge=1, le=MAX_DEVICES)] = 20
    seconds: Annotated[int, Meta(ge=5, le=MAX_SECONDS)] = 30
    ramp: Annotated[int, Meta(ge=0, le=MAX_RAMP)] = 5
    most_bytes: Annotated[int, Meta(ge=1, le=2**50)] = 2 * GB
    rate: Annotated[int, Meta(ge=0, le=2**40)] = 0


class DrillPlan(Model, frozen=True, kw_only=True):
    """What a drill would do.

    Attributes:
        address: ``host:port`` that the cloud gave, where the alias should lead.
        objects: how many different ones are asked for; ``stored``: sealed bytes of the whole version.
        bytes: what is transferred at most.
        amount: its price at most, by the cloud point's price sheet; None without one.
        notes: what an administrator should know before.
    """

    cloud_point: str
    url: str
    address: str
    content: str
    content_name: str
    version: int
    objects: int
    stored: Bytes
    devices: int
    seconds: int
    ramp: int
    rate: Bytes
    bytes: Bytes
    currency: str = ""
    amount: Decimal | None = None
    notes: tuple[str, ...] = ()


class DrillObject(Model, frozen=True, kw_only=True):
    """A sealed object that may be asked for, and its size."""

    id: Annotated[bytes, Meta(min_length=OBJECT_ID_BYTES, max_length=OBJECT_ID_BYTES)]
    size: Bytes


class DrillPermit(Model, frozen=True, kw_only=True):
    """Leave to begin: a token for each device, all valid until ``expires``, for one content on one cloud point."""

    drill: str
    plan: DrillPlan
    objects: tuple[DrillObject, ...]
    tokens: tuple[str, ...]
    expires: int

    def __repr__(self) -> str:
        return f"DrillPermit({self.drill}, {len(self.tokens)} tokens ***)"


class DrillTimes(Model, frozen=True, kw_only=True):
    """Milliseconds: half, nine tenths and 99 hundredths of the requests took no longer; ``most``: the slowest."""

    half: _Number = 0
    nine_tenths: _Number = 0
    most_but_one_percent: _Number = 0
    most: _Number = 0


class DrillInstance(Model, frozen=True, kw_only=True):
    """A gateway instance during the drill: bytes that it sent, and its processor time in percent of one core (below 0:
    its cloud does not tell)."""

    id: _Short
    sent: _Count
    cpu_percent: Annotated[float, Meta(ge=-1, le=1e6)]


class DrillReport(Model, frozen=True, kw_only=True):
    """What came of a drill.

    Attributes:
        seconds: from the first request to the last byte; ``steady_seconds`` without the ramp.
        requests: all that were made; ``whole``: answered whole; ``unfinished``: broken off by the drill's own end.
        received: bytes of objects; ``verified``: those of whole objects that are what their name says.
        damaged: whole objects that are not.
        bytes_per_second: after the ramp.
        first_byte, whole_object: times of requests that were answered whole; the first includes the connection.
        statuses: answers by HTTP status; ``errors``: failures by kind; ``examples``: words of one of each kind.
        limited: answers 429; ``unavailable``: answers 503; ``refused``: devices that gave up, at what asking again
            does not mend (such as 401, 403, 404, or a certificate).
        instances: those that were seen; empty: the cloud does not tell.
        own_cpu_percent: processor time of the drill itself, of the one core that it can use; ``own_delay``: how late
            its machine was with what it was to do.
        clients_per_day: how many clients with 100 MB each this throughput serves in 24 hours.
        interrupted: an administrator ended it early.
        conclusions: what that means, in words.
    """

    seconds: _Number
    steady_seconds: _Number
    requests: _Count
    whole: _Count
    unfinished: _Count
    received: _Count
    verified: _Count
    damaged: _Count
    bytes_per_second: _Number
    first_byte: DrillTimes
    whole_object: DrillTimes
    statuses: _Counts
    errors: _Counts
    examples: _Texts
    limited: _Count
    unavailable: _Count
    refused: _Count
    instances: Annotated[tuple[DrillInstance, ...], Meta(max_length=256)]
    own_cpu_percent: _Number
    own_delay: DrillTimes
    clients_per_day: _Count
    interrupted: bool
    conclusions: _Texts


class DrillRecord(Model, frozen=True, kw_only=True):
    """A drill that was permitted. ``report`` is None while it runs, or when nobody reported."""

    drill: str
    cloud_point: str
    by: str
    begun: int
    expires: int
    content_name: str
    version: int
    devices: int
    bytes: Bytes
    report: DrillReport | None = None
