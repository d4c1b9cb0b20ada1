"""Cloud points and management certificates.

A cloud point is two rows with one id: ``point`` (what every distribution point has) and ``cloud_point``. They come
and go in one transaction. Private keys pass through here only as sealed by the server's vault.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Select, delete, or_, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import ConflictError
from entrepot.core.names import name_key
from entrepot.database import points
from entrepot.database.hierarchy import note_change
from entrepot.database.names import MAX_COMPARED, find, refuse_taken, unknown
from entrepot.database.tables.cloud import cloud_point, control_document, management_certificate
from entrepot.database.tables.devices import device
from entrepot.database.tables.points import boundary_point, distribution, point, point_set
from entrepot.protocol.cloudhost import Instance
from entrepot.protocol.cloudpointapi import CloudPointState, Thresholds
from entrepot.protocol.control import Delivery, ServiceState
from entrepot.protocol.deviceapi import DeviceState

_THRESHOLDS = Thresholds.__struct_fields__


class ManagementCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A management certificate (R3). ``certificate`` DER; ``sealed_key`` opens only with this server's vault."""

    id: str
    name: str
    subject: str
    thumbprint: str
    key_kind: str
    not_before: int
    not_after: int
    imported: int
    certificate: bytes
    sealed_key: bytes

    def __repr__(self) -> str:
        return f"ManagementCertificate({self.id}, {self.name!r})"


class CloudPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A cloud point. ``wanted`` is what its control document says; ``address`` is the provider's ``host:port``;
    ``task`` is the one in charge; ``begun``: something of it may exist in the cloud; ``ready`` when its creation was
    complete, ``checked`` when it was last looked at; ``behind``: why the cloud lacks the certificate and options that
    are kept here; empty when it has them; ``host_next_pin``: of the certificate that the cloud host will show later.
    """

    point: str
    name: str
    site: str
    service: str
    description: str
    provider: str
    host_url: str
    host_pin: str
    subscription: str
    management_certificate: str
    region: str
    fqdn: str
    port: int
    address: str
    state: CloudPointState
    wanted: ServiceState
    message: str
    instances_wanted: int
    instances: tuple[Instance, ...]
    certificate_subject: str
    certificate_thumbprint: str
    certificate_expires: int
    certificate: str
    sealed_key: bytes
    thresholds: Thresholds
    created: int
    task: str = ""
    begun: bool = False
    ready: int = 0
    checked: int = 0
    delivery: Delivery = Delivery.STREAM
    behind: str = ""
    host_next_pin: str = ""

    @property
    def url(self) -> str:
        """Where clients reach it; empty while the cloud has given it no address and none was chosen."""
        port = self.port or int(self.address.rpartition(":")[2] or 0)
        if not port:
            return ""
        return f"https://{self.fqdn}" if port == 443 else f"https://{self.fqdn}:{port}"

    def __repr__(self) -> str:
        return f"CloudPoint({self.point}, {self.service!r}, {self.state.value})"


def add_certificate(connection: Connection, certificate: ManagementCertificate) -> None:
    """Keep a management certificate.

    Raises:
        ConflictError: its name is taken, or the same certificate is here under another name.
    """
    refuse_taken(connection, management_certificate, certificate.name, "management certificate")
    same = connection.execute(
        select(management_certificate.c.name).where(management_certificate.c.thumbprint == certificate.thumbprint)
    ).scalar()
    if same is not None:
        raise ConflictError(f"This certificate has been imported already, as {same!r}.", next_step="Use that one.")
    values = msgspec.structs.asdict(certificate)
    connection.execute(management_certificate.insert().values(**values, name_key=name_key(certificate.name)))


def replace_key(connection: Connection, certificate: ManagementCertificate) -> bool:
    """Import the same certificate again under its name (after a restore, R39): the key is sealed anew."""
    table = management_certificate
    return (
        connection.execute(
            update(table)
            .where(table.c.name_key == name_key(certificate.name), table.c.thumbprint == certificate.thumbprint)
            .values(sealed_key=certificate.sealed_key, imported=certificate.imported)
        ).rowcount
        == 1
    )


def certificate(connection: Connection, name_or_id: str) -> ManagementCertificate:
    """One management certificate.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    row = find(connection, management_certificate, name_or_id, "management certificate")
    return ManagementCertificate(**{name: getattr(row, name) for name in ManagementCertificate.__struct_fields__})


def certificates(connection: Connection) -> list[ManagementCertificate]:
    """All management certificates, by name."""
    columns = [management_certificate.c[name] for name in ManagementCertificate.__struct_fields__]
    rows = connection.execute(select(*columns).order_by(management_certificate.c.name_key))
    return [ManagementCertificate(**row) for row in rows.mappings()]


def users_of(connection: Connection, certificate_id: str) -> list[str]:
    """Names of the cloud points that a management certificate opens the cloud for."""
    query = (
        select(point.c.name)
        .join(cloud_point, cloud_point.c.point == point.c.id)
        .where(cloud_point.c.management_certificate == certificate_id)
    )
    return list(connection.scalars(query.order_by(point.c.name)))


def delete_certificate(connection: Connection, certificate_id: str) -> None:
    """Forget a management certificate.

    Raises:
        ConflictError: cloud points use it; they are named.
    """
    users = users_of(connection, certificate_id)
    if users:
        raise ConflictError(
            f"The management certificate is used by {', '.join(users)}.",
            next_step="Delete these cloud points first: without it the site cannot reach their cloud.",
        )
    connection.execute(delete(management_certificate).where(management_certificate.c.id == certificate_id))


def add_cloud_point(connection: Connection, new: CloudPoint) -> None:
    """Reserve the name and remember everything, before anything is created in the cloud.

    Raises:
        ConflictError: the name, or the service FQDN, is taken by another service or by a device (R4).
    """
    refuse_fqdn(connection, new.fqdn)
    points.add_point(
        connection,
        points.Point(
            id=new.point,
            name=new.name,
            kind=points.CLOUD,
            site=new.site,
            state=points.PENDING,
            url=new.url,
            certificate_expires=new.certificate_expires,
            fallback=True,
            created=new.created,
        ),
    )
    values = msgspec.structs.asdict(new)
    for elsewhere in ("name", "site", "thresholds"):
        del values[elsewhere]
    values |= msgspec.structs.asdict(new.thresholds) | {"instances": to_json(new.instances).decode()}
    connection.execute(cloud_point.insert().values(values))


def refuse_fqdn(connection: Connection, fqdn: str, *, own: str = "") -> None:
    """Check that no other service and no registered device has this name (R4). A device that waits for approval is not
    registered: anybody may wait, under any name.

    Raises:
        ConflictError: who has it.
    """
    other = connection.execute(
        select(cloud_point.c.service).where(cloud_point.c.fqdn == fqdn, cloud_point.c.point != own)
    ).scalar()
    if other is not None:
        raise ConflictError(
            f"The cloud point {other} has the service name {fqdn} already.",
            next_step="Request a service certificate with another name. To renew that point's, with the hierarchy's own"
            f" CA: entrepot certificate issue-service {fqdn} --renews {other}; then entrepot cloud renew-certificate.",
        )
    registered = device.c.name_key == name_key(fqdn), device.c.state != DeviceState.PENDING.value
    if connection.execute(select(device.c.id).where(*registered)).first() is not None:
        raise ConflictError(
            f"A registered device is named {fqdn}: the name of a cloud service must be unique.",
            next_step="Request a service certificate with another name.",
        )


def service_names(connection: Connection) -> set[str]:
    """The names of the services of all cloud points, of every site."""
    return set(connection.scalars(select(cloud_point.c.service)))


def cloud_points(connection: Connection, *, site: str) -> list[CloudPoint]:
    """The cloud points that a site manages, by name."""
    rows = connection.execute(_select().where(point.c.site == site).order_by(point.c.name_key))
    return [_cloud_point(dict(row)) for row in rows.mappings()]


def larger_than(connection: Connection, instances: int) -> list[CloudPoint]:
    """The cloud points of all sites that have more instances than this, by name."""
    rows = connection.execute(_select().where(cloud_point.c.instances_wanted > instances).order_by(point.c.name_key))
    return [_cloud_point(dict(row)) for row in rows.mappings()]


def get_cloud_point(connection: Connection, name_or_id: str, *, locked: bool = False) -> CloudPoint:
    """One cloud point.

    Args:
        locked: nobody else changes it until the transaction ends: for what is decided by what is there.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    query = _select().where(or_(point.c.id == name_or_id, point.c.name_key == name_key(name_or_id)))
    if locked:
        query = query.with_for_update(of=cloud_point, key_share=True)
    row = connection.execute(query).mappings().first()
    if row is None:
        names = _select().with_only_columns(point.c.name).order_by(point.c.name_key).limit(MAX_COMPARED)
        raise unknown(name_or_id, "cloud point", connection.scalars(names))
    return _cloud_point(dict(row))


def delivery_of(connection: Connection, point_id: str) -> Delivery:
    """How a distribution point shall deliver: by streams, unless a cloud point was told otherwise."""
    found = connection.execute(select(cloud_point.c.delivery).where(cloud_point.c.point == point_id)).scalar()
    return Delivery(found) if found else Delivery.STREAM


def _select() -> Select[Any]:
    return select(cloud_point, point.c.name, point.c.site).join(point, point.c.id == cloud_point.c.point)


def _cloud_point(values: dict[str, Any]) -> CloudPoint:
    thresholds = msgspec.convert({name: values.pop(name) for name in _THRESHOLDS}, Thresholds)
    values["instances"] = from_json(values["instances"], tuple[Instance, ...], "list of instances")
    values["state"] = CloudPointState(values["state"])
    values["wanted"] = ServiceState(values["wanted"])
    values["delivery"] = Delivery(values["delivery"])
    return CloudPoint(**values, thresholds=thresholds)


def update_cloud_point(connection: Connection, point_id: str, **values: Any) -> CloudPoint:
    """Change columns of a cloud point; what clients may be told follows in the same transaction.

    Raises:
        NotFoundError: it is gone.
    """
    if "instances" in values:
        values["instances"] = to_json(values["instances"]).decode()
    if "thresholds" in values:
        values |= msgspec.structs.asdict(values.pop("thresholds"))
    before = get_cloud_point(connection, point_id)
    connection.execute(update(cloud_point).where(cloud_point.c.point == point_id).values(values))
    changed = get_cloud_point(connection, point_id)
    connection.execute(
        update(point)
        .where(point.c.id == point_id)
        .values(
            url=changed.url,
            message=changed.message,
            certificate_expires=changed.certificate_expires,
            state=_point_state(changed),
        )
    )
    if (changed.state, changed.wanted, changed.url) != (before.state, before.wanted, before.url):
        note_change(connection)
    return changed


def _point_state(cloud: CloudPoint) -> str:
    """State of the row in ``point``: it is active from when the cloud gave it a store until it is being deleted."""
    if cloud.state is CloudPointState.DELETING:
        return points.REMOVED
    return points.ACTIVE if cloud.address else points.PENDING


def delete_cloud_point(connection: Connection, point_id: str) -> None:
    """Forget a cloud point of which nothing is left in the cloud."""
    for table in (control_document, cloud_point, distribution, point_set, boundary_point):
        connection.execute(delete(table).where(table.c.point == point_id))
    connection.execute(delete(point).where(point.c.id == point_id))
    note_change(connection)
