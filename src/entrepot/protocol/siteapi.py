"""The admin API of a primary site, ``https://<site>/api/v1``: what the command line and the console say to it.

``POST /login`` gives a bearer token; everything else wants it. Times are whole seconds since 1970, sizes are bytes,
object and set ids are 64 hexadecimal digits, ``bytes`` fields travel as base64. Wherever a path or a field names
something that has an id (content, point, collection, device, cloud point …), its name does as well. Work that takes
long answers with a :class:`TaskInfo`: ask ``GET /tasks/{id}`` for progress. Errors are RFC 9457 problem details.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from entrepot.core.sizes import GB
from entrepot.protocol.cloudapi import HOST, AzureOptions, HealthDetail
from entrepot.protocol.cloudhost import Instance
from entrepot.protocol.policy import ClientSettings

PREFIX = "/api/v1"

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=4096)]
Percent = Annotated[int, Meta(ge=1, le=100)]
Bytes = Annotated[int, Meta(ge=0, le=2**62)]
Patterns = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=1000)]
Names = Annotated[tuple[Name, ...], Meta(max_length=1000)]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request or a reply. Unknown fields are refused: a misspelt option must not pass for its default."""


# ---------------------------------------------------------------------------------------------------- session, site


class LoginRequest(Model, frozen=True, kw_only=True):
    """``POST /login``."""

    name: Name
    password: Annotated[str, Meta(min_length=1, max_length=1024)]

    def __repr__(self) -> str:
        return f"LoginRequest({self.name!r}, password=***)"


class Session(Model, frozen=True, kw_only=True):
    """A bearer token, valid until ``expires`` or ``POST /logout``."""

    token: str
    name: str
    expires: int

    def __repr__(self) -> str:
        return f"Session({self.name!r}, token=***)"


class SiteCounts(Model, frozen=True, kw_only=True):
    """How much the site manages."""

    contents: int
    points: int
    cloud_points: int
    devices: int
    pending_devices: int
    active_tasks: int
    open_alerts: int


class SiteInfo(Model, frozen=True, kw_only=True):
    """``GET /site``."""

    code: str
    name: str
    url: str
    version: str
    hierarchy: str
    root_fingerprint: str
    trust_number: int
    epoch: int
    counts: SiteCounts


# ---------------------------------------------------------------------------------------------------------- tasks


class TaskState(StrEnum):
    """State of durable work; ``completed``, ``failed`` and ``cancelled`` are final."""

    CREATED = "created"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing further happens."""
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


class TaskInfo(Model, frozen=True, kw_only=True):
    """Durable work and its progress. ``done`` of ``total`` count ``unit`` (``bytes``, ``objects``, ``steps``);
    ``total`` 0 means that the amount is not known yet. ``subject`` is the id of what it works on. ``error_code``
    is the stable code of the error that failed it."""

    id: str
    kind: str
    subject: str
    title: str
    state: TaskState
    step: str
    done: int
    total: int
    unit: str
    message: str
    error: str
    error_code: str
    attempts: int
    created: int
    started: int
    finished: int
    run_after: int


# -------------------------------------------------------------------------------------------------------- contents


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
    earlier versions deltas are made (left out: the site's setting ``deltas_kept``).
    """

    name: Name
    source: Text
    type: ContentType = ContentType.PACKAGE
    excludes: Patterns = ()
    for_windows: bool = False
    isolated: bool = False
    delta_versions: Annotated[int, Meta(ge=0, le=20)] | None = None


class ContentPatch(Model, frozen=True, kw_only=True):
    """``PATCH /contents/{id}``: what is left out stays → :class:`ContentInfo`. ``delta_versions`` as in
    :class:`ContentRequest`; -1 goes back to the site's setting."""

    delta_versions: Annotated[int, Meta(ge=-1, le=20)] | None = None


class VersionRequest(Model, frozen=True, kw_only=True):
    """``POST /contents/{id}/versions``: publish the next version → :class:`TaskInfo`. What is left out stays as it
    was for the version before."""

    source: Text | None = None
    excludes: Patterns | None = None


class RehearsalRequest(Model, frozen=True, kw_only=True):
    """``POST /rehearsals``: publish without keeping anything → :class:`Rehearsal`. Where there is a content of this
    name it is its next version, as :class:`VersionRequest`, else version 1, as :class:`ContentRequest`. ``clients``:
    for how many to add up what they would fetch."""

    name: Name
    source: Text
    excludes: Patterns | None = None
    for_windows: bool = False
    isolated: bool = False
    clients: Annotated[int, Meta(ge=1, le=10_000_000)] = 1


class Rehearsal(Model, frozen=True, kw_only=True):
    """What publishing would do. Sizes as in :class:`VersionInfo`: the library would grow by ``new_bytes``.

    ``first_fetch`` is what one client without anything would fetch, ``update_fetch`` one with version ``current`` (0:
    there is none) and without a delta, which may make it less; ``all_…`` are these for ``clients`` of them.
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
    clients: int
    first_fetch: int
    update_fetch: int
    all_first_fetch: int
    all_update_fetch: int
    warnings: tuple[str, ...]


class CurrentRequest(Model, frozen=True, kw_only=True):
    """``POST /contents/{id}/current``: make an existing version the current one (roll back or forward). ``note`` is
    kept in the content's history."""

    version: Annotated[int, Meta(ge=1)]
    note: Annotated[str, Meta(max_length=1024)] = ""


class VersionInfo(Model, frozen=True, kw_only=True):
    """A published version. ``stored_size`` is the sealed size of its distinct objects, ``new_bytes`` what of it the
    library did not hold before. ``deltas`` names the versions from which a delta to this one exists."""

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


# ---------------------------------------------------------------------------------------------- points, boundaries


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


# ------------------------------------------------------------------------------- devices, collections, deployments

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
    """``GET /downloads``: a download that a device reported."""

    device: str
    device_name: str
    content: str
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


# ------------------------------------------------------------------------------------------- certificates


class ManagementCertificateRequest(Model, frozen=True, kw_only=True):
    """``POST /management-certificates`` (R3). The password is used once and not stored. ``pfx`` may be a
    ``.publishsettings`` file instead; ``subscription`` chooses where that names several."""

    name: Name
    pfx: Annotated[bytes, Meta(max_length=262_144)]
    password: Annotated[str, Meta(max_length=1024)]
    subscription: Annotated[str, Meta(max_length=128)] = ""

    def __repr__(self) -> str:
        return f"ManagementCertificateRequest({self.name!r}, pfx=***, password=***)"


class CertificateInfo(Model, frozen=True, kw_only=True):
    """A certificate that the site holds. ``thumbprint`` is SHA-256 of its DER form, hexadecimal. ``usable`` is false
    after a restore onto another computer, until it is imported again (R39). ``subscription`` and ``notes`` (what else
    is needed) are told when it is imported from a ``.publishsettings`` file."""

    id: str
    name: str
    subject: str
    thumbprint: str
    key: str  # rsa-2048, ec-p256 …
    not_before: int
    not_after: int
    imported: int
    usable: bool = True
    subscription: str = ""
    notes: tuple[str, ...] = ()


class ServiceCertificateRequest(Model, frozen=True, kw_only=True):
    """``POST /service-certificates``: the internal CA makes a service certificate (R4) for a cloud point."""

    fqdn: Name
    days: Annotated[int, Meta(ge=1, le=825)] = 365
    password: Annotated[str, Meta(min_length=1, max_length=1024)]

    def __repr__(self) -> str:
        return f"ServiceCertificateRequest({self.fqdn!r}, password=***)"


class ServiceCertificate(Model, frozen=True, kw_only=True):
    """PKCS#12 under the password of the request; the site keeps no copy."""

    fqdn: str
    pfx: bytes
    certificate: str
    not_after: int

    def __repr__(self) -> str:
        return f"ServiceCertificate({self.fqdn!r}, pfx=***)"


# ------------------------------------------------------------------------------------------- cloud points


class Thresholds(Model, frozen=True, kw_only=True):
    """Storage and transfer alert thresholds of a cloud point (R21, R22, R24). Quotas in bytes (GB is 10^9).
    ``upload_quota`` bounds what the site sends in 30 days (R25); its levels are the transfer percentages."""

    storage_quota: Bytes = 2_000 * GB
    storage_warning_free_percent: Percent = 10
    transfer_quota: Bytes = 10_000 * GB
    transfer_warning_percent: Percent = 50
    transfer_critical_percent: Percent = 90
    upload_quota: Bytes = 10_000 * GB


Features = Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=16)]


class CloudPointRequest(Model, frozen=True, kw_only=True):
    """``POST /cloud-points`` → :class:`TaskInfo` (R1). ``name`` becomes the service's name and the first label of its
    address: lower-case letters, digits, hyphens.

    ``host_pin`` is SHA-256 (hexadecimal) of the cloud host's TLS certificate in DER form; ``fqdn`` defaults to the
    service certificate's name; ``port`` is where clients reach the service, 0: the port that the cloud assigns.
    ``azure`` has what Azure needs beside; its ``host_url`` is Azure Resource Manager's, and it has no pin.
    ``features`` of points on premises (``pull``, ``pxe``, ``multicast``, ``prestaged``) are refused, each with the
    reason and what to do instead (R15, R19, R20).
    """

    name: Name
    subscription: Name
    management_certificate: Name
    service_pfx: Annotated[bytes, Meta(max_length=65_536)]
    service_password: Annotated[str, Meta(max_length=1024)]
    provider: Annotated[str, Meta(max_length=32)] = HOST
    host_url: Text = ""
    host_pin: Annotated[str, Meta(pattern="^([0-9a-fA-F]{64})?$")] = ""
    azure: AzureOptions | None = None
    fqdn: Annotated[str, Meta(max_length=253)] = ""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    region: Annotated[str, Meta(max_length=64)] = ""
    instances: Annotated[int, Meta(ge=1, le=64)] = 2
    description: Annotated[str, Meta(max_length=1024)] = ""
    features: Features = ()
    thresholds: Thresholds = Thresholds()

    def __repr__(self) -> str:
        return f"CloudPointRequest({self.name!r}, {self.host_url!r}, service_pfx=***, service_password=***)"


class CloudPointPatch(Model, frozen=True, kw_only=True):
    """``PATCH /cloud-points/{id}``: what is left out stays (R24). ``features``: see :class:`CloudPointRequest`."""

    storage_quota: Bytes | None = None
    storage_warning_free_percent: Percent | None = None
    transfer_quota: Bytes | None = None
    transfer_warning_percent: Percent | None = None
    transfer_critical_percent: Percent | None = None
    upload_quota: Bytes | None = None
    description: Annotated[str, Meta(max_length=1024)] | None = None
    features: Features = ()


class ScaleRequest(Model, frozen=True, kw_only=True):
    """``POST /cloud-points/{id}/scale`` → :class:`TaskInfo` (R12)."""

    instances: Annotated[int, Meta(ge=1, le=64)]


class CloudPointState(StrEnum):
    """State of a cloud point as the site knows it."""

    PROVISIONING = "provisioning"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    STARTING = "starting"
    SCALING = "scaling"
    UPGRADING = "upgrading"
    DEGRADED = "degraded"
    FAILED = "failed"
    DELETING = "deleting"


class DnsRecord(Model, frozen=True, kw_only=True):
    """The alias to create (R6)."""

    name: str
    type: str
    value: str


class DnsCheck(Model, frozen=True, kw_only=True):
    """``GET /cloud-points/{id}/dns``: the record to create, and why clients would not reach the service by it."""

    record: DnsRecord | None
    good: bool
    problem: str


class CloudUsage(Model, frozen=True, kw_only=True):
    """What a cloud point uses, and how old the figures are (R26). ``transferred_30_days``: to clients, rolling.
    ``collected`` 0: never. Storage has three figures: what the provider says (``stored_bytes``), what the site's books
    say that it placed there (``counted_bytes``), and the last full listing (``listed_bytes``); their differences are
    control documents, transaction records on their way, and what should not be there."""

    stored_bytes: int
    stored_objects: int
    stored_at: int
    transferred_30_days: int
    uploaded_30_days: int
    collected: int
    age_seconds: int
    counted_bytes: int = 0
    counted_at: int = 0
    listed_bytes: int = 0
    listed_at: int = 0
    difference: int = 0  # listed - counted, once both are known
    error: str = ""  # of the last collection


class CloudPointInfo(Model, frozen=True, kw_only=True):
    """``GET /cloud-points/{id}`` (R38)."""

    id: str
    name: str
    description: str
    provider: str
    host_url: str
    subscription: str
    management_certificate: str
    region: str
    fqdn: str
    url: str
    site: str
    state: CloudPointState
    message: str
    instances_wanted: int
    instances: tuple[Instance, ...]
    certificate_subject: str
    certificate_thumbprint: str
    certificate_expires: int
    dns: DnsRecord | None
    thresholds: Thresholds
    usage: CloudUsage
    control_counter: int
    control_pushed: int
    contents: int
    checked: int
    created: int
    status: str = ""  # Ready, Provisioning, Upgrading, Stopped, Degraded or Error
    health: tuple[HealthDetail, ...] = ()


class CollectSummary(Model, frozen=True, kw_only=True):
    """``POST /cloud-points/{id}/collect``: what one collection brought in (R26). ``gaps`` names instances whose chain
    of segments has a hole."""

    segments: int
    records: int
    bytes: int
    gaps: tuple[str, ...]
    log: str
    collected: int


class UsageBucket(Model, frozen=True, kw_only=True):
    """One UTC hour of a cloud point, ``GET /cloud-points/{id}/usage``; with ``by=device`` or ``by=content`` the
    ``subject`` is that id."""

    hour: int
    subject: str
    requests: int
    failed: int
    sent: int
    uploaded: int


# ---------------------------------------------------------------------------------------------------------- alerts


class AlertState(StrEnum):
    """States of an alert (domain page, section 5)."""

    NEVER_TRIGGERED = "never_triggered"
    ACTIVE = "active"
    POSTPONED = "postponed"
    CANCELED = "canceled"
    DISABLED = "disabled"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """Severity of an alert."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFORMATIONAL = "informational"


class AlertInfo(Model, frozen=True, kw_only=True):
    """``GET /alerts``. ``subject`` is the id of what it is about; ``remedies`` say what one can do (R25)."""

    id: str
    type: str
    subject: str
    subject_name: str
    title: str
    severity: Severity
    state: AlertState
    message: str
    remedies: tuple[str, ...]
    occurrences: int
    created: int
    changed: int
    skip_until: int
    closed_by: str
    comment: str


class AlertPostponeRequest(Model, frozen=True, kw_only=True):
    """``POST /alerts/{id}/postpone``: look again after so many hours."""

    hours: Annotated[int, Meta(ge=1, le=8_760)] = 24
    comment: Annotated[str, Meta(max_length=1024)] = ""


class AlertCommentRequest(Model, frozen=True, kw_only=True):
    """``POST /alerts/{id}/cancel``, ``…/disable`` and ``…/enable``."""

    comment: Annotated[str, Meta(max_length=1024)] = ""


class AlertEvent(Model, frozen=True, kw_only=True):
    """``GET /alerts/{id}/history``, oldest first: what happened, and the state that followed."""

    at: int
    event: str
    state: AlertState
    by: str
    message: str
