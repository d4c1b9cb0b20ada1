"""What administrators see of a site's keys: numbers, dates and states, never a secret."""

from collections.abc import Iterator

from cryptography import x509
from sqlalchemy import Connection

from entrepot.core.times import DAY
from entrepot.database import hierarchy, points, sealings
from entrepot.database.hierarchy import RoleKey
from entrepot.protocol.keysapi import CertificateInfo, GenerationInfo, KeysInfo, SigningKeyInfo
from entrepot.protocol.trust import Role
from entrepot.site.certificatealert import LATE_DAYS
from entrepot.site.keys.keyset import Signer
from entrepot.site.keys.rotation import count_resealing
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.inspection import expires


def keys_info(connection: Connection, keys: SiteKeys, certificate: x509.Certificate, *, now: float) -> KeysInfo:
    """All keys of a site.

    Args:
        certificate: the site's own TLS certificate.
    """
    sealed, signed = sealings.count_versions(connection)
    confirmed = hierarchy.confirmed_trust(connection, keys.site.code)
    names = {point.id: point.name for point in points.list_points(connection, site=keys.site.code)}
    current = keys.now
    outdated = sealings.outdated(
        connection, keys.generation, site=keys.site.code, signed_by=keys.withdrawn(Role.MANIFEST)
    )
    return KeysInfo(
        trust_number=current.hierarchy.trust_number,
        epoch=current.hierarchy.epoch,
        wrapping=current.wrapping,
        generations=tuple(_generations(connection, keys, sealed)),
        signing=(
            *(_signing(keys, each, signed, now) for signers in current.signers.values() for each in signers),
            *(_issuing(keys, each.row, now) for each in current.issuers),
        ),
        certificates=tuple(_certificates(connection, keys, certificate, now)),
        to_reseal=len(outdated),
        resealing=count_resealing(connection),
        behind=tuple(
            names.get(point, point) for point, number in confirmed.items() if number < current.hierarchy.trust_number
        ),
    )


def _generations(connection: Connection, keys: SiteKeys, sealed: dict[int, int]) -> Iterator[GenerationInfo]:
    for name, created in sorted(hierarchy.secret_dates(connection, keys.site.code).items()):
        if name.startswith("content/"):
            number = int(name.removeprefix("content/"))
            yield GenerationInfo(
                number=number, created=created, versions=sealed.get(number, 0), newest=number == keys.generation
            )


def _signing(keys: SiteKeys, each: Signer, signed: dict[str, int], now: float) -> SigningKeyInfo:
    row = each.row
    signing = {Role.MANIFEST: keys.manifest, Role.TOKEN: keys.token, Role.POLICY: keys.policy}
    newest = signing.get(row.role) or keys.now.usable(row.role, now)[0].key
    if not row.listed_in:
        state = "pending"
    elif row.dropped_in:
        state = "withdrawn"
    elif not row.not_before <= now < row.not_after:
        state = "ended"
    else:
        state = "signing" if newest.kid == row.kid else "listed"
    return SigningKeyInfo(
        kid=row.kid,
        role=row.role,
        state=state,
        not_before=row.not_before,
        not_after=row.not_after,
        versions=signed.get(row.kid, 0),
    )


def _issuing(keys: SiteKeys, row: RoleKey, now: float) -> SigningKeyInfo:
    """An internal CA: it *signs* when it issues."""
    issuing = keys.authority.key_entry(row.site).kid == row.kid
    ended = not row.not_before <= now < row.not_after
    return SigningKeyInfo(
        kid=row.kid,
        role=row.role,
        state="ended" if ended else "signing" if issuing else "listed",
        not_before=row.not_before,
        not_after=row.not_after,
    )


def _certificates(
    connection: Connection, keys: SiteKeys, certificate: x509.Certificate, now: float
) -> Iterator[CertificateInfo]:
    yield _certificate("the site", expires(certificate), now)
    for point in points.list_points(connection, site=keys.site.code, kind=points.STANDARD, state=points.ACTIVE):
        yield _certificate(point.name, point.certificate_expires, now)


def _certificate(subject: str, ends: int, now: float) -> CertificateInfo:
    state = "expired" if ends <= now else "due" if ends - now < LATE_DAYS * DAY else "ok"
    return CertificateInfo(subject=subject, expires=ends, state=state)
