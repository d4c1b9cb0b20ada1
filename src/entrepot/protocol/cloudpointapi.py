"""The admin API of certificates and cloud distribution points; ``protocol.cloudapi`` has what reaches further.

``protocol.siteapi`` says how the API speaks in general.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from entrepot.core.sizes import GB
from entrepot.protocol.cloudapi import HOST, AzureOptions, Comparison, HealthDetail
from entrepot.protocol.cloudhost import Instance
from entrepot.protocol.control import Delivery
from entrepot.protocol.siteapi import Bytes, Model, Name, Percent, Text


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


class PublicCertificate(Model, frozen=True, kw_only=True):
    """What the cloud is given of a management certificate: its DER form (``.cer``), without the key."""

    name: str
    thumbprint: str
    certificate: bytes


class ServiceCertificateRequest(Model, frozen=True, kw_only=True):
    """``POST /service-certificates``: the internal CA makes a service certificate (R4) for a cloud point. ``renews``:
    name or id of the cloud point that has the name already and is to get the new one; empty: nobody may have it."""

    fqdn: Name
    renews: Annotated[str, Meta(max_length=255)] = ""
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
    service certificate's name; ``port`` is where clients reach the service, and where a cloud host listens for it; 0:
    the host chooses one.
    ``azure`` has what Azure needs beside; its ``host_url`` is Azure Resource Manager's, and it has no pin.
    ``delivery`` ``redirect`` lets clients fetch from the store by links that are good for up to 60 s: what is sent
    does not pass the gateways, but a stop or a revocation reaches clients that much later. It is refused where the
    store gives no links, and where a budget is active.
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
    delivery: Delivery = Delivery.STREAM

    def __repr__(self) -> str:
        return f"CloudPointRequest({self.name!r}, {self.host_url!r}, service_pfx=***, service_password=***)"


class CloudPointPatch(Model, frozen=True, kw_only=True):
    """``PATCH /cloud-points/{id}``: what is left out stays (R24). ``features``, ``delivery``: see
    :class:`CloudPointRequest`."""

    storage_quota: Bytes | None = None
    storage_warning_free_percent: Percent | None = None
    transfer_quota: Bytes | None = None
    transfer_warning_percent: Percent | None = None
    transfer_critical_percent: Percent | None = None
    upload_quota: Bytes | None = None
    description: Annotated[str, Meta(max_length=1024)] | None = None
    features: Features = ()
    delivery: Delivery | None = None


class ScaleRequest(Model, frozen=True, kw_only=True):
    """``POST /cloud-points/{id}/scale`` → :class:`TaskInfo` (R12). ``force``: also to more instances than can serve one
    client under a budget."""

    instances: Annotated[int, Meta(ge=1, le=64)]
    force: bool = False


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


class DnsProof(DnsRecord, frozen=True, kw_only=True):
    """A record that the cloud wants to see before it serves the name, beside the alias. ``seen`` None: the site's DNS
    does not answer."""

    seen: bool | None


class DnsCheck(Model, frozen=True, kw_only=True):
    """``GET /cloud-points/{id}/dns``: the record to create, and why clients would not reach the service by it.
    ``proofs``: what the cloud wants to see besides, as long as it does not serve the name."""

    record: DnsRecord | None
    good: bool
    problem: str
    proofs: tuple[DnsProof, ...] = ()


class CloudUsage(Model, frozen=True, kw_only=True):
    """What a cloud point uses, and how old the figures are (R26). ``transferred_30_days``: to clients, rolling;
    ``granted_30_days`` of it by links to the store. ``uploaded_30_days`` and ``fetched_30_days``: the site's own, to
    the cloud and from it.
    ``collected`` 0: never. Storage has three figures: what the provider says (``stored_bytes``, as of when it measured
    it), what the site's books say that it placed there (``counted_bytes``), and the last full listing
    (``listed_bytes``, documents included). ``present_bytes``, by which thresholds are judged, is the provider's
    measurement, and once the books were counted after it, the books plus what it was beyond them.
    ``difference`` is by how much the objects of that listing were more than the books said at that moment: what should
    not be there, or, below zero, what was still on its way or is missing."""

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
    difference: int = 0
    error: str = ""  # of the last collection
    granted_30_days: int = 0
    fetched_30_days: int = 0
    present_bytes: int = 0
    present_at: int = 0


class AzureInfo(Model, frozen=True, kw_only=True):
    """What a cloud point in Azure was created with, or was last updated to. ``registry_password``: whether one is kept;
    it is never shown. ``resource_group`` empty: one of its own."""

    tenant: str
    application: str
    image: str
    registry_user: str
    registry_password: bool
    cpu: float
    memory_gib: float
    redundancy: str
    resource_group: str


class CloudPointInfo(Model, frozen=True, kw_only=True):
    """``GET /cloud-points/{id}`` (R38). ``host_pin`` and ``host_next_pin``: by which the cloud host is recognised, and
    the one it has announced; empty: none."""

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
    delivery: Delivery = Delivery.STREAM
    delivery_note: str = ""  # what the way of delivery means now
    budget_note: str = ""  # what a budget means for so many instances
    compared: Comparison = Comparison()  # the last daily comparison with the cloud's own figures
    azure: AzureInfo | None = None
    host_pin: str = ""
    host_next_pin: str = ""


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
    """One UTC hour of a cloud point; with ``by=device`` or ``by=content`` the ``subject`` is that id, and ``name`` what
    people call it. ``sent`` by gateways; ``granted``: what clients may have fetched from the store by links.
    ``uploaded`` and ``fetched`` by the site itself."""

    hour: int
    subject: str
    requests: int
    failed: int
    sent: int
    uploaded: int
    granted: int = 0
    fetched: int = 0
    name: str = ""


class UsageReport(Model, frozen=True, kw_only=True):
    """``GET /cloud-points/{id}/usage``: the hours in ``since <= hour < until``, oldest first, and how old the figures
    are (``collected`` 0: never). ``more``: there are more than one answer holds; ask again for later hours."""

    cloud_point: str
    since: int
    until: int
    collected: int
    age_seconds: int
    more: bool
    buckets: tuple[UsageBucket, ...]
