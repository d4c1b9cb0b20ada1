"""Where a client gets content: the laws of location (R30 to R34, with R5, R9, R10, R16 to R18).

Intranet clients, in this order (R32):

1. *preferred*: points of the client's boundary groups over a fast link;
2. *remote*, if the deployment allows remote points: points of its groups over a slow link, then, if the deployment
   also allows fallback, points outside its groups that allow fallback themselves;
3. *cloud* (R31), under the same permissions as remote: a cloud point counts as remote (R30), and unless it is in one
   of the client's groups it is a fallback location (R9). The client's setting must allow the cloud (R5).

Internet clients ignore boundaries: internet-facing points; the cloud only if there is none of those (R33), or after
them if the site's switch says so.

Within a tier the order is random (R34), from a source that the caller passes in. A point that has the content and is
not offered is listed with the reason: nobody should have to guess.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from entrepot.rules.boundaries import Speed
from entrepot.rules.restrictions import PointKind, RunMode, cloud_problem

Order = Callable[[str], bytes]
"""A sort key for a point id; :func:`random_order` makes one."""


class Network(StrEnum):
    """Where the site sees the client."""

    INTRANET = "intranet"
    INTERNET = "internet"


class TierKind(StrEnum):
    """In the order in which a client tries them."""

    PREFERRED = "preferred"
    REMOTE = "remote"
    INTERNET_FACING = "internet-facing"
    CLOUD = "cloud"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution point that holds the content whole.

    ``running`` is false for a stopped service (R27); ``problem`` says why it cannot serve otherwise, empty when it can.
    """

    id: str
    name: str
    kind: PointKind = PointKind.STANDARD
    fallback: bool = False
    internet_facing: bool = False
    running: bool = True
    problem: str = ""
    region: str = ""


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """The client. ``reach``: the points of its boundary groups (``boundaries.reach``); ``allow_cloud``: its effective
    setting (R5); ``region``: where it is, for the site's region preference."""

    network: Network
    allow_cloud: bool = False
    reach: Mapping[str, Speed] = {}
    region: str = ""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """The deployment's download options (R44). Without ``allow_remote`` it says "do not download" over slow links."""

    allow_remote: bool = False
    allow_fallback: bool = True
    run: RunMode = RunMode.DOWNLOAD


class Switches(msgspec.Struct, frozen=True, kw_only=True):
    """What a site may change about the laws; both are off by default."""

    cloud_after_internet_facing: bool = False  # lifts the second half of R33
    prefer_region: bool = False  # R34: ours


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A point to try, and why it is offered."""

    point: str
    reason: str


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """Points of equal rank, in the order in which to try them; never empty."""

    kind: TierKind
    offers: tuple[Offer, ...]


class Withheld(msgspec.Struct, frozen=True, kw_only=True):
    """A point that has the content and is not offered, and why not."""

    point: str
    name: str
    reason: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Tiers in order, and what was withheld. Every point that was passed in is in exactly one place."""

    tiers: tuple[Tier, ...]
    withheld: tuple[Withheld, ...]


class _Verdict(msgspec.Struct, frozen=True):
    tier: TierKind | None
    reason: str


_STOPPED: Final = "the service is stopped"
_NO_ACCESS: Final = "the client setting 'Allow access to cloud distribution point' is No for this device and its user"
_NO_REMOTE: Final = "the deployment does not allow downloading from remote points, and a cloud point counts as one"
_NO_FALLBACK: Final = "the deployment does not allow fallback to points outside the client's boundary groups"
_FACING_FIRST: Final = "an internet-facing point has the content; internet clients then do not use the cloud"


def random_order(seed: bytes) -> Order:
    """A random order of points, the same for the same seed (at most 64 bytes; draw a new one for each request)."""

    def key(point: str) -> bytes:
        return hashlib.blake2b(point.encode(), key=seed, digest_size=16).digest()

    return key


def locate(
    points: Iterable[Point], asker: Asker, use: Use, *, order: Order, switches: Switches | None = None
) -> Decision:
    """Decide which of the points that hold the content a client is given, and in which order."""
    laws = switches or Switches()
    everything = sorted(points, key=lambda point: point.id)
    judge = _judge_intranet if asker.network is Network.INTRANET else _judge_internet
    verdicts = [(point, judge(point, asker, use)) for point in everything]
    if asker.network is Network.INTERNET and not laws.cloud_after_internet_facing:
        verdicts = _facing_only(verdicts)
    tiers = []
    for kind in TierKind:
        chosen = [(point, verdict) for point, verdict in verdicts if verdict.tier is kind]
        if chosen:
            chosen.sort(key=lambda pair: _rank(pair[0], asker, laws, order))
            offers = tuple(Offer(point=point.id, reason=verdict.reason) for point, verdict in chosen)
            tiers.append(Tier(kind=kind, offers=offers))
    withheld = tuple(
        Withheld(point=point.id, name=point.name, reason=verdict.reason)
        for point, verdict in verdicts
        if verdict.tier is None
    )
    return Decision(tiers=tuple(tiers), withheld=withheld)


def _rank(point: Point, asker: Asker, laws: Switches, order: Order) -> tuple[bool, bool, bytes, str]:
    """Within a tier: points of the client's own groups first (R32); cloud points of its region first, if preferred."""
    cloud = point.kind is PointKind.CLOUD
    fallback = not cloud and asker.network is Network.INTRANET and point.id not in asker.reach
    elsewhere = cloud and laws.prefer_region and point.region != asker.region
    return fallback, elsewhere, order(point.id), point.id


def _judge_intranet(point: Point, asker: Asker, use: Use) -> _Verdict:
    speed = asker.reach.get(point.id)
    if problem := _service_problem(point):
        return _Verdict(None, problem)
    if point.kind is PointKind.CLOUD:
        return _judge_cloud(asker, use, outside=speed is None and not use.allow_fallback)
    if speed is Speed.FAST:
        return _Verdict(TierKind.PREFERRED, "it is in the client's boundary group")
    if speed is Speed.SLOW:
        if not use.allow_remote:
            return _Verdict(None, "its link is slow, and the deployment does not allow downloading over slow links")
        return _Verdict(TierKind.REMOTE, "it is in the client's boundary group, over a slow link")
    if not point.fallback:
        return _Verdict(None, "it is outside the client's boundary groups and does not allow fallback")
    if not use.allow_fallback:
        return _Verdict(None, _NO_FALLBACK)
    if not use.allow_remote:
        return _Verdict(
            None, "it is outside the client's boundary groups, and the deployment does not allow remote points"
        )
    return _Verdict(TierKind.REMOTE, "it allows fallback for clients of other boundary groups")


def _judge_internet(point: Point, asker: Asker, use: Use) -> _Verdict:
    if problem := _service_problem(point):
        return _Verdict(None, problem)
    if point.kind is PointKind.CLOUD:
        return _judge_cloud(asker, use, outside=False)
    if not point.internet_facing:
        return _Verdict(None, "it does not serve clients on the internet")
    return _Verdict(TierKind.INTERNET_FACING, "it serves clients on the internet")


def _service_problem(point: Point) -> str:
    if not point.running:
        return _STOPPED
    return point.problem


def _judge_cloud(asker: Asker, use: Use, *, outside: bool) -> _Verdict:
    if not asker.allow_cloud:
        return _Verdict(None, _NO_ACCESS)
    if not use.allow_remote:
        return _Verdict(None, _NO_REMOTE)
    if outside:
        return _Verdict(None, _NO_FALLBACK)
    if problem := cloud_problem(use.run):
        return _Verdict(None, problem.rstrip("."))
    if asker.network is Network.INTRANET:
        return _Verdict(TierKind.CLOUD, "it is the fallback when no point on premises can serve")
    return _Verdict(TierKind.CLOUD, "it serves clients on the internet")


def _facing_only(verdicts: Sequence[tuple[Point, _Verdict]]) -> list[tuple[Point, _Verdict]]:
    """R33: who is given an internet-facing point is not given the cloud."""
    if not any(verdict.tier is TierKind.INTERNET_FACING for _, verdict in verdicts):
        return list(verdicts)
    withheld = _Verdict(None, _FACING_FIRST)
    return [(point, withheld if verdict.tier is TierKind.CLOUD else verdict) for point, verdict in verdicts]
