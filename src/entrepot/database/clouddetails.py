"""Options, upload limits and health of cloud points; and the exchange of their certificates."""

from typing import Final

import msgspec
from sqlalchemy import Connection, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.database.cloud import CloudPoint, ManagementCertificate
from entrepot.database.engine import insert_into
from entrepot.database.tables.cloud import cloud_point, management_certificate
from entrepot.database.tables.clouddetails import cloud_detail
from entrepot.database.tables.points import point as point_table
from entrepot.protocol.cloudapi import AzureOptions, HealthDetail, UploadSchedule

NO_LIMIT: Final = UploadSchedule()


class CloudDetail(msgspec.Struct, frozen=True, kw_only=True):
    """See ``database.tables.clouddetails``. ``azure`` is without the registry's password: that is ``sealed_secret``."""

    azure: AzureOptions | None = None
    sealed_secret: bytes = b""
    upload: UploadSchedule = NO_LIMIT
    health: tuple[HealthDetail, ...] = ()
    looked: int = 0


def detail(connection: Connection, point: str) -> CloudDetail:
    """The details of a cloud point; defaults where none were kept."""
    row = connection.execute(select(cloud_detail).where(cloud_detail.c.point == point)).first()
    if row is None:
        return CloudDetail()
    return CloudDetail(
        azure=from_json(row.options, AzureOptions, "options of a cloud point") if row.options else None,
        sealed_secret=row.sealed_secret,
        upload=from_json(row.upload, UploadSchedule, "upload schedule") if row.upload else NO_LIMIT,
        health=from_json(row.health, tuple[HealthDetail, ...], "health of a cloud point") if row.health else (),
        looked=row.looked,
    )


def keep_options(connection: Connection, point: str, options: AzureOptions | None, sealed_secret: bytes) -> None:
    """Keep a kind of cloud's own options; the password is taken out of them."""
    plain = None if options is None else msgspec.structs.replace(options, registry_password="")
    _keep(connection, point, options="" if plain is None else to_json(plain).decode(), sealed_secret=sealed_secret)


def keep_upload(connection: Connection, point: str, upload: UploadSchedule) -> None:
    """Keep the limits of what the site sends."""
    _keep(connection, point, upload="" if upload == NO_LIMIT else to_json(upload).decode())


def keep_health(connection: Connection, point: str, health: tuple[HealthDetail, ...], now: int) -> None:
    """Keep what was seen last."""
    _keep(connection, point, health=to_json(health).decode(), looked=now)


def _keep(connection: Connection, point: str, **values: object) -> None:
    fresh = {"options": "", "sealed_secret": b"", "upload": "", "health": "", "looked": 0} | values
    statement = insert_into(connection, cloud_detail).values(point=point, **fresh)
    connection.execute(statement.on_conflict_do_update(index_elements=[cloud_detail.c.point], set_=values))


def exchange_management(connection: Connection, certificate: ManagementCertificate, *, before: str) -> None:
    """Put a renewed management certificate in the place of the one with the thumbprint ``before``.

    Raises:
        NotFoundError: it is gone, or was renewed by somebody else meanwhile.
        ConflictError: the new one is here already, under another name.
    """
    table = management_certificate
    other = connection.execute(
        select(table.c.name).where(table.c.thumbprint == certificate.thumbprint, table.c.id != certificate.id)
    ).scalar()
    if other is not None:
        raise ConflictError(f"This certificate has been imported already, as {other!r}.")
    values = msgspec.structs.asdict(certificate)
    for kept in ("id", "name"):
        del values[kept]
    changed = connection.execute(
        update(table).where(table.c.id == certificate.id, table.c.thumbprint == before).values(values)
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"The management certificate {certificate.name} was changed meanwhile.")


def points_of_certificate(connection: Connection, certificate_id: str) -> list[str]:
    """Ids of the cloud points that use a management certificate."""
    return list(
        connection.scalars(
            select(cloud_point.c.point)
            .where(cloud_point.c.management_certificate == certificate_id)
            .order_by(cloud_point.c.point)
        )
    )


def known_points(connection: Connection) -> set[str]:
    """Ids of all cloud points of the hierarchy, whichever site manages them."""
    return set(connection.scalars(select(cloud_point.c.point)))


def points_of_service(connection: Connection, subscription: str, service: str) -> list[str]:
    """Ids of the cloud points that have, or will have, a service of that name in a subscription."""
    chosen = (cloud_point.c.subscription == subscription) & (cloud_point.c.service == service)
    return list(connection.scalars(select(cloud_point.c.point).where(chosen)))


def accounts(connection: Connection, *, site: str) -> list[str]:
    """One cloud point for each subscription that a site uses."""
    seen: dict[tuple[str, str, str], str] = {}
    rows = connection.execute(
        select(cloud_point.c.provider, cloud_point.c.host_url, cloud_point.c.subscription, cloud_point.c.point)
        .join(point_table, point_table.c.id == cloud_point.c.point)
        .where(point_table.c.site == site)
        .order_by(cloud_point.c.point)
    )
    for row in rows:
        seen.setdefault((row.provider, row.host_url, row.subscription), row.point)
    return list(seen.values())


def keep_service_certificate(connection: Connection, point: CloudPoint) -> None:
    """Keep a renewed service certificate, its key sealed."""
    connection.execute(
        update(cloud_point)
        .where(cloud_point.c.point == point.point)
        .values(
            certificate=point.certificate,
            certificate_subject=point.certificate_subject,
            certificate_thumbprint=point.certificate_thumbprint,
            certificate_expires=point.certificate_expires,
            sealed_key=point.sealed_key,
        )
    )
    connection.execute(
        update(point_table).where(point_table.c.id == point.point).values(certificate_expires=point.certificate_expires)
    )
