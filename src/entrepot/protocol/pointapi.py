"""The admin API of distribution points and boundary groups.

``protocol.siteapi`` says how the API speaks in general.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from entrepot.protocol.siteapi import Model, Name, Names, Text


class PointRequest(Model, frozen=True, kw_only=True):
    """``POST /points``: announce a distribution point on premises → :class:`PointCode` for ``entrepot point init``."""

    name: Name
    fallback: bool = False  # "allow fallback source location for content"
    internet_facing: bool = False
    hours: Annotated[int, Meta(ge=1, le=720)] = 24


class PointCode(Model, frozen=True, kw_only=True):
    """The enrolment code is shown once."""

    point: "PointInfo"
    code: str

    def __repr__(self) -> str:
        return f"PointCode({self.point.name!r}, code=***)"


class PointPatch(Model, frozen=True, kw_only=True):
    """``PATCH /points/{id}``: what is left out stays."""

    fallback: bool | None = None
    internet_facing: bool | None = None
    url: Text | None = None


class PointInfo(Model, frozen=True, kw_only=True):
    """A distribution point. ``kind`` is ``standard`` or ``cloud``; ``state`` is ``awaiting`` (not enrolled),
    ``pending`` (to be approved), ``active`` or ``removed``. ``message`` says what is wrong, if anything is."""

    id: str
    name: str
    kind: str
    url: str
    state: str
    fallback: bool
    internet_facing: bool
    fingerprint: str
    certificate_expires: int
    control_counter: int
    control_pushed: int
    contents: int
    message: str


class Speed(StrEnum):
    """Connection speed of a point in a boundary group."""

    FAST = "fast"
    SLOW = "slow"


class BoundaryPoint(Model, frozen=True, kw_only=True):
    """A point that serves a boundary group."""

    name: Name
    speed: Speed = Speed.FAST


class BoundaryGroupRequest(Model, frozen=True, kw_only=True):
    """``POST /boundary-groups`` and ``PUT /boundary-groups/{id}``. ``ranges``: ``10.0.0.0/8`` or
    ``10.0.0.1-10.0.0.9``, IPv4 and IPv6."""

    name: Name
    ranges: Names = ()
    points: Annotated[tuple[BoundaryPoint, ...], Meta(max_length=1000)] = ()


class BoundaryGroupInfo(Model, frozen=True, kw_only=True):
    """A boundary group."""

    id: str
    name: str
    ranges: tuple[str, ...]
    points: tuple[BoundaryPoint, ...]
