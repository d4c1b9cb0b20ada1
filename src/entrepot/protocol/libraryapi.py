"""The admin API about versions and about the library (``protocol.siteapi`` says how the API speaks in general).

Versions: ``GET /contents/{id}/uses``, ``GET /contents/{id}/versions/{n}/uses``, ``DELETE /contents/{id}/versions/{n}``,
``GET /contents/{id}/comparison``, ``GET /contents/{id}/history``. The library: ``GET /library``, ``GET
/library/contents``, ``GET /library/faults``, ``POST /library/validate|repair|sweep``, ``GET /library/sweep`` (what a
sweep would delete), ``GET`` and ``POST /library/deltas`` (those that are missing), ``POST /points/{id}/validate``,
``GET /points/{id}/validation``.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from entrepot.protocol.contentapi import DeltaInfo
from entrepot.protocol.deviceapi import DeploymentInfo
from entrepot.protocol.siteapi import Model, Name, TaskInfo

MAX_LISTED = 1000

# ------------------------------------------------------------------------------------------------------- versions


class PointUse(Model, frozen=True, kw_only=True):
    """A distribution point that has, or gets, a version or a delta that touches it. ``from_version`` 0: the version
    itself. ``state`` is ``sending``, ``held`` or ``removing``; ``retired`` says since when it is superseded there (0:
    it is wanted)."""

    point: str
    point_name: str
    version: int
    from_version: int
    state: str
    retired: int


class VersionUses(Model, frozen=True, kw_only=True):
    """What uses a version, and what deleting it means.

    Attributes:
        current: it is what deployments give to clients.
        deployments: names of the collections to which the content is deployed, if the version is current.
        devices: how many devices fetched it last: they get later versions without a delta from it.
        freed_objects: of the library, that nothing else needs; ``freed_bytes``: their sealed size.
        refusal: why it cannot be deleted at all; empty: it can.
        objections: why it is deleted with ``force`` only.
    """

    content: str
    content_name: str
    version: int
    current: bool
    deployments: tuple[str, ...]
    points: tuple[PointUse, ...]
    deltas: tuple[DeltaInfo, ...]
    tasks: tuple[TaskInfo, ...]
    devices: int
    freed_objects: int
    freed_bytes: int
    refusal: str
    objections: tuple[str, ...]


class ContentUses(Model, frozen=True, kw_only=True):
    """``GET /contents/{id}/uses``: what uses a content, and what deleting it means.

    Attributes:
        deployments: those that give it to clients; they are removed first.
        points: names of the points that have, or get, one of its versions.
        devices: how many devices fetched any version of it; they keep what they have.
        budgets: which budgets are about it, in words.
        freed_objects: of the library, that nothing else needs; ``freed_bytes``: their sealed size.
        refusals: why it cannot be deleted now; empty: it can.
    """

    content: str
    content_name: str
    versions: tuple[int, ...]
    deployments: tuple[DeploymentInfo, ...]
    points: tuple[str, ...]
    deltas: int
    tasks: tuple[TaskInfo, ...]
    devices: int
    budgets: tuple[str, ...]
    freed_objects: int
    freed_bytes: int
    refusals: tuple[str, ...]


class ContentEvent(Model, frozen=True, kw_only=True):
    """``GET /contents/{id}/history``: ``event`` is ``made_current`` (``previous`` was current before) or
    ``version_deleted``; ``by`` is the administrator."""

    at: int
    event: str
    version: int
    previous: int
    by: str
    note: str


class Change(StrEnum):
    """How a path differs between two versions. ``moved``: the same bytes stand at another path."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    MOVED = "moved"


class Difference(Model, frozen=True, kw_only=True):
    """One path that differs. ``path`` is that of the newer version, or of the older where it was removed; sizes are of
    files, 0 for folders and links."""

    change: Change
    path: str
    old_path: str = ""
    old_size: int = 0
    new_size: int = 0


class Comparison(Model, frozen=True, kw_only=True):
    """``GET /contents/{id}/comparison?old=&new=&after=&limit=``: totals, and one page of differences in path order.

    Attributes:
        fetch_bytes: sealed bytes that a client with the older version fetches for the newer one without any delta.
        delta_bytes: the same with the delta between the two; equal to ``fetch_bytes`` where there is none.
        has_delta: whether there is one.
        more: ask again with ``after`` the last path of this page.
        remark: what to know when reading it; mostly empty.
    """

    content: str
    old: int
    new: int
    added: int
    changed: int
    removed: int
    moved: int
    same: int
    fetch_bytes: int
    delta_bytes: int
    has_delta: bool
    differences: tuple[Difference, ...]
    more: bool
    remark: str = ""


# ------------------------------------------------------------------------------------------------------ the library


class LibraryFigures(Model, frozen=True, kw_only=True):
    """What a content, or the whole library, consists of, in bytes.

    Attributes:
        logical: what its versions open to, each counted in full.
        unique: what its distinct chunks open to.
        stored: sealed size of its distinct chunks.
        overhead: sealed size of manifests, delta indexes and packs, and object sets.
        former: sealed size of what only points, and clients that still have a token for it, need: versions as they
            were before they were sealed anew or deleted. ``stored + overhead + former`` is all that is kept.
        shared: of ``stored``, what other content needs too (0 for the whole library).
        saved_by_dedupe: ``logical - unique``; ``saved_by_compression``: ``unique - stored``.
        saved_by_deltas: what clients need not fetch for one update over each delta.
        unmeasured: chunks whose plain size is not known (stored by an earlier program); they count as if compression
            had saved nothing.
    """

    versions: int
    objects: int
    logical: int
    unique: int
    stored: int
    overhead: int
    shared: int
    saved_by_dedupe: int
    saved_by_compression: int
    saved_by_deltas: int
    unmeasured: int
    former: int = 0


class Validation(Model, frozen=True, kw_only=True):
    """How sound something is. ``checked`` is when its longest unchecked object was looked at last (0: some never
    were); ``missing`` and ``damaged`` count objects."""

    objects: int
    checked_objects: int
    checked: int
    missing: int
    damaged: int

    @property
    def state(self) -> str:
        """``damaged``, ``not validated``, or ``good``."""
        if self.missing or self.damaged:
            return "damaged"
        return "good" if self.checked_objects >= self.objects else "not validated"


class LibraryInfo(Model, frozen=True, kw_only=True):
    """``GET /library``. ``waiting``: what nothing needs any more, and the sweep will delete; ``held``: what is
    kept only for ``open_sessions``, attempts to publish that are under way or were broken off lately."""

    figures: LibraryFigures
    validation: Validation
    waiting_objects: int
    waiting_bytes: int
    open_sessions: int
    contents: int
    tasks: tuple[TaskInfo, ...]
    held_objects: int = 0
    held_bytes: int = 0


class ContentLibraryInfo(Model, frozen=True, kw_only=True):
    """``GET /library/contents?content=``."""

    content: str
    content_name: str
    figures: LibraryFigures
    validation: Validation


class Fault(Model, frozen=True, kw_only=True):
    """``GET /library/faults?content=&after=&limit=``: an object that is ``missing`` or ``damaged``. ``needed_by``:
    contents and versions, such as ``7-Zip 3`` or ``7-Zip 2 to 3`` (a delta), ten at most; of what none of them needs
    any more, the points that have it still, as ``no version; dp-berlin still has it``; empty: a sweep deletes it."""

    object_id: str
    size: int
    kind: str
    verdict: str
    checked: int
    needed_by: tuple[str, ...]


class LibraryRequest(Model, frozen=True, kw_only=True):
    """``POST /library/validate`` and ``/library/repair`` → :class:`~entrepot.protocol.siteapi.TaskInfo`; without a
    content: the whole library. ``rate``: bytes a second at most, instead of the setting (0: as fast as it goes)."""

    content: Name | None = None
    rate: Annotated[int, Meta(ge=0, le=2**40)] | None = None


class MissingDelta(Model, frozen=True, kw_only=True):
    """A delta that clients should be offered, and that was neither made nor found to save nothing."""

    content: str
    content_name: str
    from_version: int
    to_version: int


class MissingDeltas(Model, frozen=True, kw_only=True):
    """``GET /library/deltas?content=`` and, once tasks that make them were added, the answer to ``POST``. ``deltas``
    lists at most 1,000 of those that are ``missing``; ``tasks`` were added."""

    missing: int
    tasks: int
    deltas: tuple[MissingDelta, ...]


class DeltasRequest(Model, frozen=True, kw_only=True):
    """``POST /library/deltas`` → :class:`MissingDeltas`: has them made; without a content: of all."""

    content: Name | None = None


class SweepRequest(Model, frozen=True, kw_only=True):
    """``POST /library/sweep`` → task. ``now``: delete at once what is not needed, instead of an hour after that was
    first noticed; ``strays``: also look through all files for those that the database does not know."""

    now: bool = False
    strays: bool = False


class SweepPreview(Model, frozen=True, kw_only=True):
    """``GET /library/sweep``: what a sweep would delete: ``due`` at its next run, ``later`` once the hour of grace is
    over (or with ``now``). Sets that nobody needs count as gone. ``stray``: files that the database does not know,
    where the query asks for ``strays``; else None."""

    due_objects: int
    due_bytes: int
    later_objects: int
    later_bytes: int
    lapsed_sessions: int
    unused_sets: int
    stray_objects: int | None = None
    stray_bytes: int | None = None


class PointValidationRequest(Model, frozen=True, kw_only=True):
    """``POST /points/{id}/validate`` → task: the point re-hashes what it has of a content, or of all."""

    content: Name | None = None
    repair: bool = False
    rate: Annotated[int, Meta(ge=0, le=2**40)] | None = None


class SetValidation(Model, frozen=True, kw_only=True):
    """``GET /points/{id}/validation?content=``: one object set on a point. ``checked`` 0: never whole."""

    content: str
    content_name: str
    version: int
    from_version: int
    checked: int
    missing: int
    damaged: int
    message: str
