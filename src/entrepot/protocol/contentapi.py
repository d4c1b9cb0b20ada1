"""The admin API of contents: publishing, rehearsing, versions and their distribution.

``protocol.siteapi`` says how the API speaks in general.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from entrepot.protocol.siteapi import Model, Name, Patterns, Text

Note = Annotated[str, Meta(max_length=1024)]
DeltaVersions = Annotated[int, Meta(ge=0, le=20)]


class ContentType(StrEnum):
    """Content types (R42)."""

    APPLICATION = "application"
    PACKAGE = "package"
    DRIVER_PACKAGE = "driver-package"
    OS_IMAGE = "os-image"
    OS_UPGRADE_PACKAGE = "os-upgrade-package"
    BOOT_IMAGE = "boot-image"
    SOFTWARE_UPDATE_PACKAGE = "software-update-package"
    TASK_SEQUENCE = "task-sequence"


class ContentRequest(Model, frozen=True, kw_only=True):
    """``POST /contents``: creates a content and publishes its version 1 → :class:`TaskInfo` whose ``subject`` is the
    content id.

    ``source`` is an absolute path on the site server; ``excludes`` glob patterns; ``for_windows`` refuses names that
    Windows cannot store; ``isolated`` gives the content its own dedupe domain; ``delta_versions`` is from how many
    earlier versions deltas are made (left out: the site's setting ``deltas_kept``); ``unpack`` publishes what the
    archive ``source`` holds (zip, tar, Debian package) instead of itself; ``note`` is kept with version 1.
    """

    name: Name
    source: Text
    type: ContentType = ContentType.PACKAGE
    excludes: Patterns = ()
    for_windows: bool = False
    isolated: bool = False
    delta_versions: DeltaVersions | None = None
    unpack: bool = False
    note: Note = ""


class ContentPatch(Model, frozen=True, kw_only=True):
    """``PATCH /contents/{id}``: what applies from the next version on; what is left out stays →
    :class:`ContentInfo`. As in :class:`ContentRequest`; ``delta_versions`` -1 goes back to the site's setting."""

    source: Text | None = None
    excludes: Patterns | None = None
    for_windows: bool | None = None
    unpack: bool | None = None
    delta_versions: Annotated[int, Meta(ge=-1, le=20)] | None = None


class VersionRequest(Model, frozen=True, kw_only=True):
    """``POST /contents/{id}/versions``: publish the next version → :class:`TaskInfo`. What is left out stays as it
    was for the version before; ``delta_versions`` as in :class:`ContentRequest`, from this version on. ``note`` is kept
    with the version."""

    source: Text | None = None
    excludes: Patterns | None = None
    unpack: bool | None = None
    delta_versions: DeltaVersions | None = None
    note: Note = ""


class VersionPatch(Model, frozen=True, kw_only=True):
    """``PATCH /contents/{id}/versions/{n}``: the note in place of the one before; empty: none → :class:`ContentInfo`.
    What a version holds never changes."""

    note: Note


class RehearsalRequest(Model, frozen=True, kw_only=True):
    """``POST /rehearsals``: publish without keeping anything → :class:`TaskInfo`; once that has completed, ``GET
    /rehearsals/{task id}`` → :class:`Rehearsal`. Where there is a content of this name it is its next version, as
    :class:`VersionRequest`, else version 1, as :class:`ContentRequest`. ``clients``: for how many to add up what they
    would fetch; ``delta_versions`` 0 makes no delta, which is the longer part of the work."""

    name: Name
    source: Text
    excludes: Patterns | None = None
    for_windows: bool = False
    isolated: bool = False
    unpack: bool | None = None
    delta_versions: DeltaVersions | None = None
    clients: Annotated[int, Meta(ge=1, le=10_000_000)] = 1


class DeltaOutlook(StrEnum):
    """What a rehearsal says of the delta."""

    MADE = "made"
    NONE = "none"
    UNKNOWN = "unknown"


class Rehearsal(Model, frozen=True, kw_only=True):
    """What publishing would do. Sizes as in :class:`VersionInfo`, all but ``plain_size`` sealed.

    Attributes:
        current: the version that is current now; 0: there is none.
        new_chunks: of ``chunks``, that the library does not know, of ``new_chunk_bytes``.
        new_bytes: by so much the library would grow: chunks, manifest and object set.
        delta: ``made``; ``none`` when it would save nothing, is not asked for, or there is no version before;
            ``unknown`` when the site's disk has no room to try.
        delta_size: by so much the library would grow for the delta from ``current``, later; each further delta takes
            about as much.
        deltas: how many deltas would be asked for, the one from ``current`` among them.
        points: how many distribution points have the content: each would be sent about ``update_fetch`` and the deltas.
        first_fetch: what one client without anything would fetch.
        update_fetch: what one with version ``current`` would fetch without a delta; ``delta_fetch`` with it. Both are
            ``first_fetch`` where there is no version before.
        all_first_fetch: for ``clients`` of them, as the other ``all_…``.
    """

    name: str
    number: int
    current: int
    files: int
    folders: int
    links: int
    plain_size: int
    objects: int
    stored_size: int
    new_objects: int
    new_bytes: int
    chunks: int
    new_chunks: int
    new_chunk_bytes: int
    delta: DeltaOutlook
    delta_size: int
    deltas: int
    points: int
    clients: int
    first_fetch: int
    update_fetch: int
    delta_fetch: int
    all_first_fetch: int
    all_update_fetch: int
    all_delta_fetch: int
    warnings: tuple[str, ...]


class CurrentRequest(Model, frozen=True, kw_only=True):
    """``POST /contents/{id}/current``: make an existing version the current one (roll back or forward). ``note`` is
    kept in the content's history."""

    version: Annotated[int, Meta(ge=1)]
    note: Note = ""


class VersionInfo(Model, frozen=True, kw_only=True):
    """A published version. ``stored_size`` is the sealed size of its distinct objects, ``new_bytes`` what of it the
    library did not hold before. ``deltas`` names the versions from which a delta to this one exists. ``origin`` is not
    told of versions that were published before it was noted."""

    number: int
    set_id: str
    files: int
    folders: int
    links: int
    plain_size: int
    chunks: int
    stored_size: int
    new_objects: int
    new_bytes: int
    objects: int
    created: int
    warnings: tuple[str, ...]
    deltas: tuple["DeltaInfo", ...] = ()
    note: str = ""
    origin: "OriginInfo | None" = None


class OriginInfo(Model, frozen=True, kw_only=True):
    """From where and how a version was published; a repair reads it again."""

    source: str
    excludes: tuple[str, ...]
    unpack: bool


class DeltaInfo(Model, frozen=True, kw_only=True):
    """A delta index between two versions; ``size`` is what a client downloads for it at most, ``fetched`` what a client
    on the old version downloads in all."""

    from_version: int
    to_version: int
    set_id: str
    size: int
    fetched: int = 0


class Priority(StrEnum):
    """Distribution priority."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class DistributionState(StrEnum):
    """State of content on one distribution point."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    RETRYING = "retrying"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REMOVING = "removing"
    REMOVAL_RETRYING = "removal_retrying"
    REMOVAL_FAILED = "removal_failed"

    @property
    def settled(self) -> bool:
        """Whether nothing further happens by itself."""
        return self in (
            DistributionState.SUCCESS,
            DistributionState.FAILED,
            DistributionState.CANCELLED,
            DistributionState.REMOVAL_FAILED,
        )


class DistributionRequest(Model, frozen=True, kw_only=True):
    """``POST /contents/{id}/distribution`` → list of :class:`DistributionInfo`; points on premises and in the cloud
    alike."""

    points: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1000)]
    priority: Priority = Priority.NORMAL


class DistributionInfo(Model, frozen=True, kw_only=True):
    """Content on one distribution point. ``version`` is the one wanted there, ``held`` the newest one there whole (0:
    none). ``sent_*`` is what the last run transferred, ``done`` of ``total`` bytes its progress."""

    content: str
    content_name: str
    point: str
    point_name: str
    state: DistributionState
    priority: Priority
    version: int
    held: int
    done: int
    total: int
    sent_objects: int
    sent_bytes: int
    objects: int
    attempts: int
    next_try: int
    message: str
    changed: int


class ContentInfo(Model, frozen=True, kw_only=True):
    """A content. ``state`` is ``publishing``, ``ready``, ``failed`` (no version yet) or ``deleting``."""

    id: str
    name: str
    type: ContentType
    source: str
    excludes: tuple[str, ...]
    for_windows: bool
    isolated: bool
    state: str
    current: int
    created: int
    versions: tuple[VersionInfo, ...]
    distribution: tuple[DistributionInfo, ...]
    delta_versions: int | None = None
    unpack: bool = False
