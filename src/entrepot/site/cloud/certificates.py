"""Management and service certificates at the site (R3, R4). Passwords open a file once and are forgotten."""

import secrets
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError, IntegrityError
from entrepot.core.ids import prefixed_id
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database import cloud
from entrepot.database.cloud import ManagementCertificate
from entrepot.database.engine import Database
from entrepot.database.names import check_name
from entrepot.protocol.cloudpointapi import CertificateInfo, PublicCertificate, ServiceCertificate
from entrepot.site.cloud.providers import management_secret
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.certificates import (
    LoadedPfx,
    UnsuitableCertificateError,
    check_management_certificate,
    check_service_certificate,
    expires,
    load_pfx,
    thumbprint,
    to_pem,
)
from entrepot.trust.publishsettings import PublishedSubscription, choose, is_publish_settings, load_publish_settings
from entrepot.trust.vault import ServerVault

Random = Callable[[int], bytes]


class Certificates:
    """The certificates that a site holds, and those that it issues."""

    def __init__(self, database: Database, keys: SiteKeys, *, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def import_management(self, name: str, pfx: bytes, password: Secret, subscription: str = "") -> CertificateInfo:
        """Keep a management certificate, its key sealed by the vault.

        ``pfx`` may be a ``.publishsettings`` file: then its certificate for ``subscription`` is kept.

        Importing the same certificate under the same name again seals its key anew: what a restore onto another
        computer needs (R39).

        Raises:
            BadInputError: wrong password, no private key, expired … (``trust.certificates`` says which).
            ConflictError: the name is taken, or the certificate is here under another name.
        """
        now = self._clock()
        tidy = check_name(name, "management certificate")
        published = choose(load_publish_settings(pfx), subscription) if is_publish_settings(pfx) else None
        if published is not None:
            pfx, password = published.pfx.reveal(), Secret(b"")
        loaded = load_pfx(pfx, password, now)
        check_management_certificate(loaded)
        notes = () if published is None else published_notes(published, loaded, tidy)
        new_id = prefixed_id("cert", secrets.token_bytes(8))
        with self._database.transaction() as connection:
            kept = _kept_under(connection, tidy, loaded.certificate)
            certificate = sealed_certificate(kept or new_id, tidy, loaded, self._keys.vault, now)
            if not (kept and cloud.replace_key(connection, certificate)):
                cloud.add_certificate(connection, certificate)
        told = "" if published is None else published.id
        return msgspec.structs.replace(self.info(certificate), subscription=told, notes=notes)

    def management(self) -> list[CertificateInfo]:
        """All management certificates."""
        with self._database.reading() as connection:
            kept = cloud.certificates(connection)
        return [self.info(certificate) for certificate in kept]

    def public(self, name_or_id: str) -> PublicCertificate:
        """The public half of a management certificate, for the cloud.

        Raises:
            NotFoundError: there is none with this id or name.
        """
        with self._database.reading() as connection:
            kept = cloud.certificate(connection, name_or_id)
        return PublicCertificate(name=kept.name, thumbprint=kept.thumbprint, certificate=kept.certificate)

    def delete_management(self, name_or_id: str) -> None:
        """Forget a management certificate.

        Raises:
            NotFoundError: there is none with this id or name.
            ConflictError: cloud points use it.
        """
        with self._database.transaction() as connection:
            cloud.delete_certificate(connection, cloud.certificate(connection, name_or_id).id)

    def issue_service(self, fqdn: str, days: int, password: Secret, *, renews: str = "") -> ServiceCertificate:
        """Let the hierarchy's own issuer make a service certificate; the site keeps no copy.

        Args:
            renews: name or id of the cloud point that serves by this name and is to get the new certificate.

        Raises:
            BadInputError: no proper name, or an empty password; or the point to be renewed serves by another name.
            NotFoundError: there is no such cloud point.
            ConflictError: another service or a device has the name (R4).
        """
        now = self._clock()
        pfx = self._keys.authority.issue_service_pfx(fqdn, days=days, password=password, now=now)
        loaded = load_pfx(pfx, password, now)
        name = check_service_certificate(loaded, fqdn, now)
        with self._database.reading() as connection:
            own = _served_by(connection, name, renews) if renews else ""
            cloud.refuse_fqdn(connection, name, own=own)
        return ServiceCertificate(
            fqdn=name,
            pfx=pfx,
            certificate=to_pem(loaded.certificate, *loaded.chain),
            not_after=expires(loaded.certificate),
        )

    def info(self, certificate: ManagementCertificate) -> CertificateInfo:
        """A management certificate as the API shows it."""
        return CertificateInfo(
            id=certificate.id,
            name=certificate.name,
            subject=certificate.subject,
            thumbprint=certificate.thumbprint,
            key=certificate.key_kind,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            imported=certificate.imported,
            usable=_opens(self._keys.vault, certificate),
        )


def sealed_certificate(
    certificate_id: str, name: str, loaded: LoadedPfx, vault: ServerVault, now: float
) -> ManagementCertificate:
    """A management certificate to keep, its key sealed."""
    return ManagementCertificate(
        id=certificate_id,
        name=name,
        subject=loaded.certificate.subject.rfc4514_string(),
        thumbprint=thumbprint(loaded.certificate).hex(),
        key_kind=key_kind(loaded.certificate),
        not_before=int(loaded.certificate.not_valid_before_utc.timestamp()),
        not_after=expires(loaded.certificate),
        imported=int(now),
        certificate=loaded.certificate.public_bytes(Encoding.DER),
        sealed_key=vault.seal(management_secret(certificate_id), loaded.key_pem()),
    )


def published_notes(published: PublishedSubscription, loaded: LoadedPfx, name: str) -> tuple[str, ...]:
    """What else is needed before the certificate of a ``.publishsettings`` file can be used.

    Args:
        name: under which the site keeps it.

    Raises:
        UnsuitableCertificateError: the file is for Azure, and its key is not RSA.
    """
    if not published.classic_azure:
        where = published.url or "its cloud host"
        return (
            f"It opens the subscription {published.id} at {where}, once that knows its .cer.",
            f"Write that: entrepot certificate export {name}",
        )
    if not isinstance(loaded.key, rsa.RSAPrivateKey):
        raise UnsuitableCertificateError(
            "The certificate of this .publishsettings file has no RSA key; Azure takes RSA only.",
            next_step="Make one: entrepot certificate new-management NAME --key rsa",
        )
    return (
        "The file names Azure's classic management API, which Azure has retired: only its certificate was taken.",
        "Needed besides: the tenant (directory) id, and the client id of an application registration.",
        "Upload the certificate's .cer to that application registration (Certificates and secrets). "
        f"Write it: entrepot certificate export {name}",
        f"Give that application the role of docs/azure-role.json in the subscription {published.id}.",
    )


def _served_by(connection: Connection, name: str, renews: str) -> str:
    """The id of the cloud point whose certificate is renewed.

    Raises:
        NotFoundError: there is none with this name or id.
        BadInputError: it serves by another name.
    """
    point = cloud.get_cloud_point(connection, renews)
    if point.fqdn != name:
        raise BadInputError(
            f"The cloud point {point.name} serves by the name {point.fqdn}: a renewal keeps the name.",
            next_step=f"entrepot certificate issue-service {point.fqdn} --renews {point.name}",
        )
    return point.point


def key_kind(certificate: Certificate) -> str:
    """``rsa-3072``, ``ec-secp256r1`` …"""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    return f"ec-{key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else "other"


def _opens(vault: ServerVault, certificate: ManagementCertificate) -> bool:
    try:
        vault.open(management_secret(certificate.id), certificate.sealed_key)
    except IntegrityError:
        return False
    return True


def _kept_under(connection: Connection, name: str, certificate: Certificate) -> str:
    """The id of this very certificate under this name, if it is kept already."""
    digest = thumbprint(certificate).hex()
    same = (one.id for one in cloud.certificates(connection) if one.thumbprint == digest and one.name == name)
    return next(same, "")
