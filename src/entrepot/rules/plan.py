"""The planner (R29): from fleet, content, peers and prices to storage, transfer, requests and cost, before anything is
bought. A discrete-event simulation: every client decides by itself when it fetches each release.

Each content is released again and again at even intervals. A client comes for a release after a while (exponential, so
that most come early and some late), fetches what it lacks of the version that is then current, and can give it to
neighbours on its network from then on. Clients on the intranet use points on premises; those on the internet the cloud.
What one run draws serves four tallies at once: with and without deltas, with and without peers. The same seed gives the
same plan.
"""

import bisect
import itertools
import random
from array import array
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import msgspec

from entrepot.core.errors import BadInputError
from entrepot.core.sizes import MIB
from entrepot.core.times import DAY, HOUR
from entrepot.rules.prices import POLLS_AN_HOUR, Cost, PriceSheet, Usage, cost, egress_cost

MAX_CLIENTS: Final = 5_000_000
MAX_EVENTS: Final = 50_000_000
_CLIENT_BITS: Final = 23
_CLIENTS: Final = (1 << _CLIENT_BITS) - 1  # not less than MAX_CLIENTS; a year in milliseconds takes 35 bits more
SEGMENTS_AN_HOUR: Final = 120
MANIFEST_REQUESTS: Final = 2
"""Root and part of a manifest; of one that a delta leads to, its part is in the delta."""
CHUNK_BYTES: Final = 1_200_000
"""Of a large file, on average; each file ends one, too, and so adds half of one (as ``content.chunking`` cuts)."""
PACK_BYTES: Final = 4 * MIB
"""Patches of a delta that are read together (``content.delta.packing``)."""
DELTA_REQUESTS: Final = 3
"""Root of the manifest, root and part of the delta; its packs come on top."""
RECORD_BYTES: Final = 130
SEGMENT_BYTES: Final = 1_000
"""What the site fetches to collect: of each request a record; of each segment its head, and its line in a list."""
MONTH_DAYS: Final = 30
"""Egress tiers begin anew with every month: what is sent counts as sent evenly."""


class PlannedContent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content: sealed bytes, objects, releases a month; percent of it that a release changes, and a delta's size in
    percent of what changed; large files (256 KiB and more), which tell about how many objects it has."""

    name: str
    size: int
    objects: int = 0  # 0: as many as its bytes and files give
    files: int = 0
    releases_a_month: int = 1
    changed_percent: int = 20
    delta_percent: int = 15


class Fleet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Clients and how they behave. ``networks``: how many LANs the internet's clients sit in, 0: each alone (home).
    ``peer_percent``: of a download that a neighbour with the content can give. ``hours``: a client's mean delay."""

    clients: int
    internet_percent: int = 30
    networks: int = 0
    peer_percent: int = 90
    hours: int = 48
    days: int = 30
    versions_kept: int = 2
    instances: int = 2
    cloud_points: int = 1
    already_installed: bool = True
    seed: int = 1


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant comes to in the planned days; ``fetched``: by the site, to collect; ``cost`` by the sheet,
    ``a_month`` of 30 days."""

    deltas: bool
    peers: bool
    sent: int
    from_peers: int
    requests: int
    stored: int
    uploaded: int
    fetched: int
    cost: Cost
    total: Decimal
    a_month: Decimal


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The result. ``downloads`` by clients on the internet."""

    downloads: int
    releases: int
    currency: str
    tallies: tuple[Tally, ...]


class _Sums:
    __slots__ = ("from_peers", "requests", "sent")

    def __init__(self) -> None:
        self.sent = self.from_peers = self.requests = 0


_VARIANTS: Final = ((False, False), (True, False), (False, True), (True, True))


def check_plan(fleet: Fleet, contents: tuple[PlannedContent, ...]) -> None:
    """Check that a plan makes sense, and can be simulated.

    Raises:
        BadInputError: a figure is out of bounds.
    """
    shares = [fleet.internet_percent, fleet.peer_percent]
    shares += [share for one in contents for share in (one.changed_percent, one.delta_percent)]
    if any(not 0 <= share <= 100 for share in shares):
        raise BadInputError("A share is 0 to 100 percent.")
    if not 1 <= fleet.clients <= MAX_CLIENTS or not 1 <= fleet.days <= 366 or not 1 <= fleet.hours <= 24 * 365:
        raise BadInputError(f"Give 1 to {MAX_CLIENTS:,} clients, 1 to 366 days, and a delay of 1 hour to a year.")
    counts = (fleet.networks, fleet.versions_kept, fleet.instances, fleet.cloud_points)
    if min(counts) < 0 or fleet.cloud_points < 1 or fleet.versions_kept < 1 or max(counts) > MAX_CLIENTS:
        raise BadInputError("Networks, kept versions, instances and cloud points are counts, the last three above 0.")
    if not 1 <= len(contents) <= 1000:
        raise BadInputError("Give 1 to 1,000 contents.")
    for one in contents:
        if not one.name or len(one.name) > 128:
            raise BadInputError("The name of a content has 1 to 128 characters.")
        numbers = 0 <= one.objects < 2**31 and 0 <= one.files < 2**31 and 1 <= one.releases_a_month <= 744
        if not 0 < one.size < 2**50 or not numbers:
            raise BadInputError(
                f"The content {one.name!r} has a size, objects, files, or releases that are out of bounds."
            )
    outside = fleet.clients * fleet.internet_percent // 100
    events = outside * sum(max(1, one.releases_a_month * fleet.days // 30) for one in contents)
    if events > MAX_EVENTS:
        raise BadInputError(
            f"This plan has {events:,} downloads; {MAX_EVENTS:,} can be simulated.",
            next_step="Plan a tenth of the clients and multiply.",
        )


def plan(fleet: Fleet, contents: tuple[PlannedContent, ...], sheet: PriceSheet) -> Plan:
    """Simulate.

    Raises:
        BadInputError: see :func:`check_plan`.
    """
    check_plan(fleet, contents)
    draw = random.Random(fleet.seed)  # noqa: S311  # a simulation, which must give the same again
    outside = fleet.clients * fleet.internet_percent // 100
    networks = fleet.networks or outside
    alone = range(outside)
    network_of = array("L", (draw.randrange(networks) for _ in alone) if fleet.networks else alone)
    sums = {variant: _Sums() for variant in _VARIANTS}
    downloads = releases = 0
    for content in contents:
        made, fetched = _simulate(content, fleet, draw, network_of, sums, networks)
        releases += made
        downloads += fetched
    tallies = tuple(_tally(fleet, contents, sheet, variant, sums[variant]) for variant in _VARIANTS)
    return Plan(downloads=downloads, releases=releases, currency=sheet.currency, tallies=tallies)


def _simulate(
    content: PlannedContent,
    fleet: Fleet,
    draw: random.Random,
    network_of: "array[int]",
    sums: dict[tuple[bool, bool], _Sums],
    networks: int,
) -> tuple[int, int]:
    """One content's releases over the planned time; contents do not influence each other. Releases, and downloads."""
    horizon, mean = fleet.days * DAY, fleet.hours * HOUR
    count = max(1, content.releases_a_month * fleet.days // 30)
    moments = [number * horizon // count for number in range(count)]
    outside = len(network_of)
    held = array("H", [1 if fleet.already_installed else 0]) * outside
    given = array("H", [0]) * max(1, networks)
    visits, current, downloads = Visits(), 1, 0
    for begin, end in itertools.pairwise([*moments, horizon + 1]):
        current += 1
        for client in range(outside):
            at = begin + draw.expovariate(1 / mean)
            if at <= horizon:
                visits.add(at, client)
        for client in visits.before(end):
            behind = current - held[client]
            if behind:
                downloads += 1
                neighbours = given[network_of[client]] == current
                _count(content, fleet, sums, behind=behind, whole=not held[client], neighbours=neighbours)
                held[client] = current
                given[network_of[client]] = current
    return count, downloads


class Visits:
    """Who comes when, taken out in that order: 8 bytes for each that is to come, and 40 while its hour is looked at. So
    the largest plan takes some hundred megabytes, and not thousands."""

    def __init__(self) -> None:
        self._hours: dict[int, array[int]] = {}
        self._hour = 0

    def add(self, at: float, client: int) -> None:
        """A client (a number below MAX_CLIENTS) comes at a moment, in seconds; not before what was taken out."""
        packed = (int(at * 1000) << _CLIENT_BITS) | client
        hour = int(at) // HOUR
        if hour not in self._hours:
            self._hours[hour] = array("Q")
        self._hours[hour].append(packed)

    def before(self, moment: int) -> Iterator[int]:
        """Take out those who come before a moment."""
        while self._hour * HOUR < moment:
            coming = sorted(self._hours.pop(self._hour, ()))
            if (self._hour + 1) * HOUR > moment:
                cut = bisect.bisect_left(coming, moment * 1000 << _CLIENT_BITS)
                self._hours[self._hour] = array("Q", coming[cut:])
                yield from (one & _CLIENTS for one in coming[:cut])
                return
            self._hour += 1
            yield from (one & _CLIENTS for one in coming)


def _count(
    content: PlannedContent,
    fleet: Fleet,
    sums: dict[tuple[bool, bool], _Sums],
    *,
    behind: int,
    whole: bool,
    neighbours: bool,
) -> None:
    objects = objects_of(content)
    unchanged = 0.0 if whole else (1 - content.changed_percent / 100) ** behind
    lacking = round(content.size * (1 - unchanged))
    lacking_objects = max(1, round(objects * (1 - unchanged)))
    by_delta = not whole and behind <= fleet.versions_kept
    small = lacking * content.delta_percent // 100 if by_delta else lacking
    packs = packs_of(small)
    for (deltas, peers), total in sums.items():
        size, requests, fixed = lacking, lacking_objects, MANIFEST_REQUESTS
        if deltas and by_delta:
            size, requests, fixed = small, packs, DELTA_REQUESTS
        shared = size * fleet.peer_percent // 100 if peers and neighbours else 0
        total.sent += size - shared
        total.from_peers += shared
        total.requests += (requests * (size - shared) // size if size else 0) + fixed


def packs_of(delta: int) -> int:
    """Packs that a delta of so many bytes has, about."""
    return max(1, -(-delta // PACK_BYTES))


def objects_of(content: PlannedContent) -> int:
    """Objects of one version, about, where nobody counted them."""
    return content.objects or max(1, round(content.size / CHUNK_BYTES + content.files / 2))


def _tally(
    fleet: Fleet,
    contents: tuple[PlannedContent, ...],
    sheet: PriceSheet,
    variant: tuple[bool, bool],
    sums: _Sums,
) -> Tally:
    deltas, peers = variant
    stored = uploaded = 0
    for one in contents:
        changed = one.size * one.changed_percent // 100
        releases = max(1, one.releases_a_month * fleet.days // 30)
        extra = changed * one.delta_percent // 100 if deltas else 0
        stored += one.size + changed * (fleet.versions_kept - 1) + extra * fleet.versions_kept
        uploaded += one.size + releases * (changed + extra)
    hours = fleet.days * 24
    points = fleet.cloud_points
    instance_hours = fleet.instances * hours * points
    records = instance_hours * SEGMENTS_AN_HOUR if sums.requests else 0
    months = Decimal(fleet.days) / MONTH_DAYS
    used = Usage(
        month_hours=24 * MONTH_DAYS,
        byte_hours=stored * hours * points,
        sent=sums.sent,
        fetched=sums.requests * RECORD_BYTES + records * SEGMENT_BYTES,
        uploaded=uploaded * points,
        client_reads=sums.requests,
        upload_writes=(uploaded >> 20) * points,
        overhead_reads=instance_hours * POLLS_AN_HOUR + records,
        overhead_writes=records,
        instance_hours=instance_hours,
    )
    amounts = msgspec.structs.replace(
        cost(sheet, used),
        egress=egress_cost(sheet, int(sums.sent / months)) * months,
        fetched=egress_cost(sheet, int(used.fetched / months), before=int(sums.sent / months)) * months,
    )
    return Tally(
        deltas=deltas,
        peers=peers,
        sent=sums.sent,
        from_peers=sums.from_peers,
        requests=sums.requests,
        stored=stored * points,
        uploaded=uploaded * points,
        fetched=used.fetched,
        cost=amounts,
        total=amounts.total,
        a_month=amounts.total / months,
    )
