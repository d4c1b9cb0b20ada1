"""More of the admin API of cloud points: kinds of cloud, renewal, plans with prices, orphans, upload limits, health.

Beside ``protocol.siteapi``, whose rules hold here too; requests below ``/api/v1``:

====== ===================================== =====================================================================
POST   ``/cloud-points/plan``                a request for a cloud point → :class:`CloudPlan`: nothing is created
POST   ``/cloud-points/{id}/update``         :class:`UpdateRequest` or none → task: bring the service to what is wanted
POST   ``/cloud-points/{id}/update/plan``    the same → :class:`UpdatePlan`: nothing is changed
POST   ``/cloud-points/{id}/certificate``    :class:`RenewServiceCertificate` → task (R4)
GET    ``/cloud-points/{id}/upload``         :class:`UploadSchedule`; ``PUT`` replaces it
GET    ``/cloud-points/{id}/health``         :class:`CloudHealth`
GET    ``/cloud-points/{id}/metrics``        :class:`CloudMetrics`: what the cloud itself counted
GET    ``/cloud-points/{id}/reconciliation`` :class:`Reconciliation`: that, held against the site's own books
GET    ``/cloud-points/{id}/resources``      :class:`CloudResources`: what it is made of, and what stays after a stop
POST   ``/management-certificates/{id}/renew`` :class:`RenewManagementCertificate`
POST   ``/cloud-orphans/search``             :class:`OrphanSearch` → list of :class:`Orphan`
POST   ``/cloud-orphans/remove``             :class:`OrphanRequest` → task
POST   ``/cloud-orphans/adopt``              a request for a cloud point → task
====== ===================================== =====================================================================
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

HOST: Final = "host"
AZURE: Final = "azure"
ARM: Final = "https://management.azure.com"
AUTHORITY: Final = "https://login.microsoftonline.com"

_Short = Annotated[str, Meta(min_length=1, max_length=128)]
_Guid = Annotated[str, Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
_Pfx = Annotated[bytes, Meta(max_length=65_536)]
_Password = Annotated[str, Meta(max_length=1024)]
_Minutes = Annotated[int, Meta(ge=0, le=1440)]


class _Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown fields are refused."""


class AzureOptions(_Model, frozen=True, kw_only=True):
    """What Azure needs beside subscription and management certificate (R1).

    Attributes:
        tenant: directory (tenant) id.
        application: client id of the application registration that has the management certificate's ``.cer``.
        image: the gateway's image, ``registry/name@sha256:…`` (a digest is better than a tag: it cannot change). Empty
            where nothing is to be made: to look for orphans.
        resource_group: an existing or new one; empty: one of its own for the cloud point.
        registry_user, registry_password: for a registry that asks; kept sealed, never shown.
        redundancy: of the storage account.
        cpu, memory_gib: of an instance; memory is twice the cores.
        authority: of another Azure cloud (China, US Government).
    """

    tenant: Annotated[str, Meta(pattern="^[0-9A-Za-z][0-9A-Za-z.-]{0,127}$")]
    application: _Guid
    image: Annotated[str, Meta(max_length=512)] = ""
    resource_group: Annotated[str, Meta(pattern=r"^([-\w.()]{0,89}[-\w()])?$")] = ""
    registry_user: Annotated[str, Meta(max_length=256)] = ""
    registry_password: Annotated[str, Meta(max_length=4096)] = ""
    redundancy: Annotated[str, Meta(pattern="^(LRS|ZRS|GRS)$")] = "LRS"
    cpu: Annotated[float, Meta(ge=0.25, le=4)] = 0.5
    memory_gib: Annotated[float, Meta(ge=0.5, le=8)] = 1.0
    authority: Annotated[str, Meta(pattern="^https://", max_length=256)] = AUTHORITY

    def __repr__(self) -> str:
        return f"AzureOptions({self.tenant}, {self.application}, {self.image}, registry_password=***)"


class UpdateRequest(_Model, frozen=True, kw_only=True):
    """Bring a service to what is wanted, with other options where some are given; what is left out stays (Azure only).

    Attributes:
        image, cpu, memory_gib: as in :class:`AzureOptions`; of cores and memory one brings the other along.
        registry_user: empty: the registry asks nobody any more, and the kept password is forgotten.
        registry_password: of that user, kept sealed. Another user, or another registry, needs a new one.
    """

    image: Annotated[str, Meta(max_length=512)] | None = None
    registry_user: Annotated[str, Meta(max_length=256)] | None = None
    registry_password: Annotated[str, Meta(max_length=4096)] | None = None
    cpu: Annotated[float, Meta(ge=0.25, le=4)] | None = None
    memory_gib: Annotated[float, Meta(ge=0.5, le=8)] | None = None

    def __repr__(self) -> str:
        return f"UpdateRequest({self.image!r}, {self.registry_user!r}, registry_password=***)"


class OptionChange(_Model, frozen=True, kw_only=True):
    """An option in words: as it is kept, and as it would be. A password is never shown, only whether there is one."""

    option: str
    now: str
    then: str


class UpdatePlan(_Model, frozen=True, kw_only=True):
    """What an update would bring. ``options``: all that may be changed (none at a cloud host), changed or not."""

    options: tuple[OptionChange, ...]
    remarks: tuple[str, ...] = ()


class CloudAccount(_Model, frozen=True, kw_only=True):
    """A subscription of a cloud, and the management certificate that opens it.

    ``host_next_pin``: that of the next certificate, where the cloud host has announced one; both are accepted.
    """

    subscription: _Short
    management_certificate: _Short
    provider: Annotated[str, Meta(pattern="^(host|azure)$")] = HOST
    host_url: Annotated[str, Meta(max_length=4096)] = ""
    host_pin: Annotated[str, Meta(pattern="^([0-9a-fA-F]{64})?$")] = ""
    region: Annotated[str, Meta(max_length=64)] = ""
    azure: AzureOptions | None = None
    host_next_pin: Annotated[str, Meta(pattern="^([0-9a-fA-F]{64})?$")] = ""


class AcceptPin(_Model, frozen=True, kw_only=True):
    """``POST /cloud-points/{id}/host-pin``: recognise the cloud host by this pin from now on."""

    host_pin: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]


class AcceptedPin(_Model, frozen=True, kw_only=True):
    """``points``: the names of the cloud points at that host that follow."""

    host_url: str
    before: str
    pin: str
    points: tuple[str, ...]


class RenewServiceCertificate(_Model, frozen=True, kw_only=True):
    """A new service certificate with the name of the old one. The password is used once and not stored."""

    service_pfx: _Pfx
    service_password: _Password

    def __repr__(self) -> str:
        return "RenewServiceCertificate(***)"


class RenewManagementCertificate(_Model, frozen=True, kw_only=True):
    """A new management certificate with the name of the old one; its ``.cer`` is at the cloud already."""

    pfx: _Pfx
    password: _Password

    def __repr__(self) -> str:
        return "RenewManagementCertificate(***)"


class RenewalPlan(_Model, frozen=True, kw_only=True):
    """What a renewal would exchange: thumbprints (SHA-256, hexadecimal) and ends (seconds since 1970). ``checks``: what
    was looked at and is good; ``remarks``: what is not wrong, but deserves a look."""

    subject: str
    thumbprint: str
    expires: int
    new_thumbprint: str
    new_expires: int
    checks: tuple[str, ...]
    remarks: tuple[str, ...] = ()


MACHINE: Final = "machine"
"""The meter of a cloud host's machine: no cloud point's own, it was there before and stays behind all of them."""


class PlannedResource(_Model, frozen=True, kw_only=True):
    """Something that a cloud point is made of.

    Attributes:
        kind: what it is, in the cloud's own words.
        name: its name there.
        meter: what it is charged by, as price sheets name it; empty: free.
        quantity: of ``unit`` in a month of 730 hours. Quantities that depend on use (bytes stored, bytes sent) are 0
            here, and are charged by use.
        stays: it exists, and costs, while the service is stopped.
        monthly: cost of ``quantity``; None: no price is known.
        rate: price of one ``unit``; None: not known, or free.
    """

    kind: str
    name: str
    meter: str = ""
    unit: str = ""
    quantity: float = 0.0
    stays: bool = True
    monthly: float | None = None
    rate: float | None = None
    currency: str = ""


class CloudPlan(_Model, frozen=True, kw_only=True):
    """``POST /cloud-points/plan``: what would be created, and what it costs before anything is stored or sent.
    ``monthly`` sums what has a price, and is None when nothing has; ``unpriced`` names the meters without one;
    ``remarks`` should be thought over."""

    resources: tuple[PlannedResource, ...]
    monthly: float | None
    currency: str
    unpriced: tuple[str, ...]
    checks: tuple[str, ...]
    remarks: tuple[str, ...] = ()


class UploadWindow(_Model, frozen=True, kw_only=True):
    """A time of the week, in minutes after midnight of the site server's time zone. ``days``: 1 is Monday. ``end``
    before ``begin`` runs over midnight. ``bytes_per_second`` 0: nothing is sent."""

    begin: _Minutes
    end: _Minutes
    days: Annotated[tuple[Annotated[int, Meta(ge=1, le=7)], ...], Meta(min_length=1, max_length=7)] = (
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    )
    bytes_per_second: Annotated[int, Meta(ge=0, le=2**50)] = 0


class UploadSchedule(_Model, frozen=True, kw_only=True):
    """How fast the site may send content to a cloud point: the first window that holds decides, else
    ``bytes_per_second`` (0: no limit). Control documents are sent at any time."""

    bytes_per_second: Annotated[int, Meta(ge=0, le=2**50)] = 0
    windows: Annotated[tuple[UploadWindow, ...], Meta(max_length=50)] = ()


class HealthDetail(_Model, frozen=True, kw_only=True):
    """One thing that was looked at. ``state`` is ``good``, ``bad`` or ``unknown``."""

    name: str
    state: str
    message: str = ""


class CloudHealth(_Model, frozen=True, kw_only=True):
    """``status`` is Ready, Provisioning, Upgrading, Stopped, Degraded or Error."""

    status: str
    checked: int
    details: tuple[HealthDetail, ...]


class CloudMetrics(_Model, frozen=True, kw_only=True):
    """What the cloud itself counted, for comparison with the site's own books. None: it does not tell (yet). Clouds
    count storage about once an hour and charge by it; figures may be a day old."""

    stored_bytes: int | None
    stored_objects: int | None
    egress_bytes: int | None  # of the gateways
    since: int
    until: int
    store_egress_bytes: int | None = None  # of the store: to gateways, and to clients by links


class CloudResources(_Model, frozen=True, kw_only=True):
    """What a cloud point is made of now, with what each part costs a month (R25, R27).

    Attributes:
        running: a month's cost of all parts while the service runs; what clients download comes on top. None: no
            price is known.
        stopped: of those that stay, and go on costing, when it is stopped; None as well.
        unpriced: meters without a known price: they are in neither sum.
    """

    resources: tuple[PlannedResource, ...]
    running: float | None
    stopped: float | None
    currency: str
    unpriced: tuple[str, ...]


class Reconciled(_Model, frozen=True, kw_only=True):
    """One figure of the cloud beside the site's own. ``verdict`` is ``agrees``, ``differs`` or ``unknown``; ``message``
    says why in English, and ``reason`` is that sentence's id."""

    figure: str
    by_cloud: int | None
    by_site: int | None
    verdict: str
    message: str
    reason: str = ""


class Reconciliation(_Model, frozen=True, kw_only=True):
    """The cloud's figures of a period of whole hours, held against the site's own of the same hours."""

    since: int
    until: int
    figures: tuple[Reconciled, ...]


class Comparison(_Model, frozen=True, kw_only=True):
    """What the last daily comparison of the cloud's figures with the site's own found.

    Attributes:
        at: when it was made; 0: never.
        age_seconds: how old it is, where it is shown.
        since, until: the days whose transfers it compared.
        lasting: figures that differed in the comparison before, too: these open an alert.
        awaited: figures that are not told, and differed when they last were: what was found of them stays.
        tried: when the cloud was last asked.
        error: why that brought no figures; empty when it did.
    """

    at: int = 0
    age_seconds: int = 0
    since: int = 0
    until: int = 0
    figures: tuple[Reconciled, ...] = ()
    lasting: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    tried: int = 0
    error: str = ""


class Orphan(_Model, frozen=True, kw_only=True):
    """A service in a cloud that carries this hierarchy's mark and that the database does not know. ``parts`` name what
    is left of one that is not whole: it can be removed, not adopted. ``stored_bytes`` None: the cloud does not tell."""

    service: str
    point: str
    fqdn: str
    state: str
    stored_bytes: int | None
    account: CloudAccount
    parts: tuple[str, ...] = ()


class OrphanSearch(_Model, frozen=True, kw_only=True):
    """Where to look; without an account in all subscriptions that cloud points of the site use."""

    account: CloudAccount | None = None


class OrphanRequest(_Model, frozen=True, kw_only=True):
    """Remove an orphan, with all that it stores. ``point`` must be the one that was listed."""

    service: _Short
    point: _Short
    account: CloudAccount
