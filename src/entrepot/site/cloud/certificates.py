"""Management and service certificates at the site (R3, R4). Passwords open a file once and are forgotten."""

import secrets
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from sqlalchemy import Connection

from entrepot.core.errors import IntegrityError
from entrepot.core.ids import prefixed_id
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database import cloud
from entrepot.database.cloud import ManagementCertificate
from entrepot.database.engine import Database
from entrepot.database.names import check_name
from entrepot.protocol.siteapi import CertificateInfo, ServiceCertificate
from entrepot.site.cloud.providers import management_secret
from entrepot.site.keys import SiteKeys
from entrepot.trust.certificates import (
    check_service_certificate,
    expires,
    load_pfx,
    thumbprint,
    to_pem,
)
from entrepot.trust.vault import ServerVault

Random = Callable[[int], bytes]


class Certificates:
    """The certificates that a site holds, and those that it issues."""

    def __init__(self, database: Database, keys: SiteKeys, *, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def import_management(self, name: str, pfx: bytes, password: Secret) -> CertificateInfo:
        """Keep a management certificate, its key sealed by the vault.

        Importing the same certificate under the same name again seals its key anew: what a restore onto another
        computer needs (R39).

        Raises:
            BadInputError: wrong password, no private key, expired … (``trust.certificates`` says which).
            ConflictError: the name is taken, or the certificate is here under another name.
        """
        now = self._clock()
        tidy = check_name(name, "management certificate")
        loaded = load_pfx(pfx, password, now)
        new_id = prefixed_id("cert", secrets.token_bytes(8))
        with self._database.transaction() as connection:
            kept = _kept_under(connection, tidy, loaded.certificate)
            certificate = ManagementCertificate(
                id=kept or new_id,
                name=tidy,
                subject=loaded.certificate.subject.rfc4514_string(),
                thumbprint=thumbprint(loaded.certificate).hex(),
                key_kind=key_kind(loaded.certificate),
                not_before=int(loaded.certificate.not_valid_before_utc.timestamp()),
                not_after=expires(loaded.certificate),
                imported=int(now),
                certificate=loaded.certificate.public_bytes(Encoding.DER),
                sealed_key=self._keys.vault.seal(management_secret(kept or new_id), loaded.key_pem()),
            )
            if not (kept and cloud.replace_key(connection, certificate)):
                cloud.add_certificate(connection, certificate)
        return self._info(certificate)

    def management(self) -> list[CertificateInfo]:
        """All management certificates."""
        with self._database.reading() as connection:
            kept = cloud.certificates(connection)
        return [self._info(certificate) for certificate in kept]

    def delete_management(self, name_or_id: str) -> None:
        """Forget a management certificate.

        Raises:
            NotFoundError: there is none with this id or name.
            ConflictError: cloud points use it.
        """
        with self._database.transaction() as connection:
            cloud.delete_certificate(connection, cloud.certificate(connection, name_or_id).id)

    def issue_service(self, fqdn: str, days: int, password: Secret) -> ServiceCertificate:
        """Let the hierarchy's own issuer make a service certificate; the site keeps no copy.

        Raises:
            BadInputError: no proper name, or an empty password.
            ConflictError: another service or a device has the name (R4).
        """
        now = self._clock()
        pfx = self._keys.authority.issue_service_pfx(fqdn, days=days, password=password, now=now)
        loaded = load_pfx(pfx, password, now)
        name = check_service_certificate(loaded, fqdn, now)
        with self._database.reading() as connection:
            cloud.refuse_fqdn(connection, name)
        return ServiceCertificate(
            fqdn=name,
            pfx=pfx,
            certificate=to_pem(loaded.certificate, *loaded.chain),
            not_after=expires(loaded.certificate),
        )

    def _info(self, certificate: ManagementCertificate) -> CertificateInfo:
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
