"""What a site's vault has sealed beside its secrets, signing keys and references: passwords, and keys of certificates.

One list for export and import (R39). A value is known by the SHA-256 of its sealed bytes, and every sealing is another:
so what was exported comes back exactly where the database still has what it had then, and nothing outdated ever does.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from shlex import quote

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import EntrepotError
from entrepot.core.secret import Secret
from entrepot.database import cloud, clouddetails, devices, notifications
from entrepot.database.cloud import ManagementCertificate
from entrepot.database.clouddetails import CloudDetail
from entrepot.database.notifications import MailServer, Subscription
from entrepot.protocol.alertapi import Channel
from entrepot.protocol.enrolment import Kind
from entrepot.site.cloud.providers import management_secret, registry_secret, service_secret
from entrepot.site.enrolment import code_secret
from entrepot.site.notifications.outbox import mail_password, webhook_secret
from entrepot.trust.vault import ServerVault


class Vaulted(msgspec.Struct, frozen=True, kw_only=True):
    """One sealed value: what it is, whose, how it comes back by hand, and how another sealing takes its place.

    ``certificate``: it is a certificate's key, which is best kept apart from everything else (R39).
    ``lasting``: it is worth exporting; what expires within days is made anew instead.
    """

    what: str
    name: str
    remedy: str
    under: str
    sealed: bytes
    keep: Callable[[bytes], object]
    certificate: bool = False
    lasting: bool = True

    @property
    def known_by(self) -> str:
        """The SHA-256 of the sealed bytes."""
        return hashlib.sha256(self.sealed).hexdigest()


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """Something sealed that does not open on this server, and what to do."""

    what: str
    name: str
    remedy: str


def opens(vault: ServerVault, name: str, sealed: bytes) -> bool:
    """Whether a vault opens what is sealed under a name."""
    try:
        vault.open(name, sealed)
    except EntrepotError:
        return False
    return True


def open_for_export(
    connection: Connection, site: str, vault: ServerVault, *, certificates: bool, now: float
) -> tuple[dict[str, bytes], tuple[Closed, ...]]:
    """What an export carries, by the SHA-256 of how it is sealed here; and what it cannot, for it does not open."""
    found: dict[str, bytes] = {}
    closed = []
    for each in _everything(connection, site, now):
        if not each.lasting or (each.certificate and not certificates):
            continue
        if opens(vault, each.under, each.sealed):
            found[each.known_by] = vault.open(each.under, each.sealed).reveal()
        else:
            closed.append(_closed(each))
    return found, tuple(closed)


def bring_back(
    connection: Connection, site: str, exported: Mapping[str, bytes], vault: ServerVault, *, now: float
) -> tuple[int, tuple[Closed, ...]]:
    """Seal to this vault what was exported and does not open; how much, and what stays closed."""
    count, closed = 0, []
    for each in _everything(connection, site, now):
        if opens(vault, each.under, each.sealed):
            continue
        if each.known_by in exported:
            each.keep(vault.seal(each.under, Secret(exported[each.known_by])))
            count += 1
        else:
            closed.append(_closed(each))
    return count, tuple(closed)


def _closed(each: Vaulted) -> Closed:
    return Closed(what=each.what, name=each.name, remedy=each.remedy)


def _everything(connection: Connection, site: str, now: float) -> list[Vaulted]:
    """All of it; a list, because what reads it changes the same rows."""
    return [
        *_management(connection),
        *_services(connection, site),
        *_registries(connection, site),
        *_mail(connection, site),
        *_webhooks(connection, site, now),
        *_codes(connection, now),
    ]


def _management(connection: Connection) -> Iterator[Vaulted]:
    for each in cloud.certificates(connection):

        def keep(sealed: bytes, each: ManagementCertificate = each) -> None:
            cloud.replace_key(connection, msgspec.structs.replace(each, sealed_key=sealed))

        yield Vaulted(
            what="key of the management certificate",
            name=each.name,
            remedy=f"entrepot certificate import {quote(each.name)} FILE.pfx",
            under=management_secret(each.id),
            sealed=each.sealed_key,
            keep=keep,
            certificate=True,
        )


def _services(connection: Connection, site: str) -> Iterator[Vaulted]:
    for point in cloud.cloud_points(connection, site=site):

        def keep(sealed: bytes, point: str = point.point) -> None:
            cloud.update_cloud_point(connection, point, sealed_key=sealed)

        if point.sealed_key:
            yield Vaulted(
                what="key of the service certificate of",
                name=point.name,
                remedy=f"entrepot cloud renew-certificate {quote(point.name)} FILE.pfx (the same one will do)",
                under=service_secret(point.point),
                sealed=point.sealed_key,
                keep=keep,
                certificate=True,
            )


def _registries(connection: Connection, site: str) -> Iterator[Vaulted]:
    for point in cloud.cloud_points(connection, site=site):
        kept = clouddetails.detail(connection, point.point)

        def keep(sealed: bytes, point: str = point.point, kept: CloudDetail = kept) -> None:
            clouddetails.keep_options(connection, point, kept.azure, sealed)

        if kept.sealed_secret and kept.azure is not None:
            user = f"--registry-user {quote(kept.azure.registry_user)} --registry-password-file FILE"
            yield Vaulted(
                what="password at the image registry of",
                name=point.name,
                remedy=f"entrepot cloud update {quote(point.name)} {user}",
                under=registry_secret(point.point),
                sealed=kept.sealed_secret,
                keep=keep,
            )


def _mail(connection: Connection, site: str) -> Iterator[Vaulted]:
    server = notifications.get_mail_server(connection, site)
    if server is None or not server.sealed:
        return

    def keep(sealed: bytes, server: MailServer = server) -> None:
        notifications.set_mail_server(connection, site, msgspec.structs.replace(server, sealed=sealed))

    again = f"--port {server.port} --security {server.security.value} --sender {quote(server.sender)}"
    authority = " --authority FILE.pem" if server.authority else ""
    yield Vaulted(
        what="password at the mail server",
        name=server.host,
        remedy=f"entrepot alert mail set {quote(server.host)} {again} --account {quote(server.account)}{authority}",
        under=mail_password(site),
        sealed=server.sealed,
        keep=keep,
    )


def _webhooks(connection: Connection, site: str, now: float) -> Iterator[Vaulted]:
    for each in notifications.subscriptions(connection):

        def keep(sealed: bytes, each: Subscription = each) -> None:
            new = msgspec.structs.replace(each, sealed=sealed)
            notifications.change_subscription(connection, each, new, now=int(now))

        if each.site == site and each.channel is Channel.WEBHOOK:
            yield Vaulted(
                what="secret that signs the webhook",
                name=each.name,
                remedy=f"entrepot alert subscription change {quote(each.name)} --secret-file FILE",
                under=webhook_secret(each.id),
                sealed=each.sealed,
                keep=keep,
            )


def _codes(connection: Connection, now: float) -> Iterator[Vaulted]:
    for code in devices.list_codes(connection, now=now):
        name = quote(code.name)
        device = f"entrepot device withdraw {code.id}, then: entrepot device code"
        point = f"entrepot point remove {name}, then: entrepot point add {name}"
        yield Vaulted(
            what=f"enrolment code of a {code.kind.value}",
            name=code.name or code.id,
            remedy=point if code.kind is Kind.POINT else device,
            under=code_secret(code.id),
            sealed=code.sealed,
            keep=_keep_nothing,
            lasting=False,
        )


def _keep_nothing(_: bytes) -> None:
    """Enrolment codes are not exported."""
