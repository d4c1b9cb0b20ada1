"""The admin API of devices: enrolment codes, collections, deployments, client settings, reported downloads.

``protocol.siteapi`` says how the API speaks in general.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from entrepot.protocol.policy import ClientSettings
from entrepot.protocol.siteapi import Bytes, Model, Name

ALL_DEVICES = "All devices"


class DeviceState(StrEnum):
    """State of a device."""

    PENDING = "pending"
    APPROVED = "approved"
    BLOCKED = "blocked"


class DeviceInfo(Model, frozen=True, kw_only=True):
    """A managed device. ``fingerprint`` is what the device shows too: compare before approving."""

    id: str
    name: str
    state: DeviceState
    fingerprint: str
    enrolled: int
    seen: int
    address: str
    collections: tuple[str, ...]


class EnrolmentCodeRequest(Model, frozen=True, kw_only=True):
    """``POST /enrolment-codes`` → :class:`EnrolmentCodeReply`. ``kind`` is ``device``; points get theirs from
    ``POST /points``. ``collection``: devices that enrol with it become its members."""

    kind: str = "device"
    uses: Annotated[int, Meta(ge=1, le=100_000)] = 1
    hours: Annotated[int, Meta(ge=1, le=720)] = 24
    name: Annotated[str, Meta(max_length=128)] = ""
    collection: Name | None = None


class EnrolmentCodeReply(Model, frozen=True, kw_only=True):
    """The code is shown once."""

    id: str
    code: str
    expires: int

    def __repr__(self) -> str:
        return f"EnrolmentCodeReply({self.id}, code=***)"


class EnrolmentCodeInfo(Model, frozen=True, kw_only=True):
    """``GET /enrolment-codes``: without the code itself."""

    id: str
    kind: str
    name: str
    uses_left: int
    expires: int


class CollectionRequest(Model, frozen=True, kw_only=True):
    """``POST /collections``."""

    name: Name


class CollectionInfo(Model, frozen=True, kw_only=True):
    """A device collection; the built-in one holds every approved device and cannot be changed."""

    id: str
    name: str
    built_in: bool
    members: tuple[str, ...]  # device ids


class RunMode(StrEnum):
    """How a deployment uses content (R16 to R18)."""

    DOWNLOAD = "download"  # everything is downloaded before it is run
    ON_DEMAND = "on-demand"  # a task sequence downloads when a step needs it
    RUN_FROM_POINT = "run-from-point"
    STREAM = "stream"


class DeploymentOptions(Model, frozen=True, kw_only=True):
    """``allow_remote``: download when only slow or remote points have it (off by default, as in the reference
    product); cloud points count as remote (R30). ``allow_fallback``: points outside the boundary groups that allow
    fallback."""

    allow_remote: bool = False
    allow_fallback: bool = True
    run: RunMode = RunMode.DOWNLOAD


class DeploymentRequest(Model, frozen=True, kw_only=True):
    """``POST /deployments``."""

    content: Name
    collection: Name = ALL_DEVICES
    options: DeploymentOptions = DeploymentOptions()


class DeploymentInfo(Model, frozen=True, kw_only=True):
    """A content deployed to a collection."""

    id: str
    content: str
    content_name: str
    collection: str
    collection_name: str
    options: DeploymentOptions
    created: int
    warnings: tuple[str, ...] = ()


class SettingsValues(Model, frozen=True, kw_only=True):
    """Values that a set of client settings decides; ``None`` leaves the decision to the next set."""

    allow_cloud: bool | None = None
    poll_minutes: Annotated[int, Meta(ge=1, le=10_080)] | None = None
    cache_bytes: Bytes | None = None


class ClientSettingsRequest(Model, frozen=True, kw_only=True):
    """``POST /client-settings`` makes a custom set, or replaces the one of that name. The lower ``priority`` wins.
    The default set is named ``default`` and reaches every device; it has no collection and its values start as
    :class:`~entrepot.protocol.policy.ClientSettings` has them (R5: no cloud)."""

    name: Name
    priority: Annotated[int, Meta(ge=1, le=9_999)] = 1
    collection: Name | None = None
    settings: SettingsValues


class ClientSettingsInfo(Model, frozen=True, kw_only=True):
    """A set of client settings; ``priority`` of the default set is 10,000."""

    id: str
    name: str
    priority: int
    collection: str | None
    collection_name: str | None
    settings: SettingsValues


class EffectiveSettings(Model, frozen=True, kw_only=True):
    """``GET /devices/{id}/settings``: what a device gets, and which set decided each value."""

    device: str
    settings: ClientSettings
    decided_by: dict[str, str]


class DownloadInfo(Model, frozen=True, kw_only=True):
    """``GET /downloads``: a download that a device reported. No ``content_name``: the site has the content no more."""

    device: str
    device_name: str
    content: str
    content_name: str = ""
    version: int
    network: str
    outcome: str
    error: str
    plain_size: int
    started: int
    finished: int
    sources: tuple["DownloadSource", ...]


class DownloadSource(Model, frozen=True, kw_only=True):
    """Bytes from one source; see :class:`entrepot.protocol.policy.SourceBytes`."""

    kind: str
    form: str
    point: str
    bytes: int
    requests: int
