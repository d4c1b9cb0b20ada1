"""Everything that a site signs, seals and issues with at one moment, as it was loaded (``loading``)."""

from typing import Final

import msgspec

from entrepot.core.secret import Secret
from entrepot.core.times import DAY
from entrepot.database.hierarchy import Hierarchy, RoleKey, Site
from entrepot.protocol.trust import Role
from entrepot.trust.authority import Authority
from entrepot.trust.signing import Ring, SigningKey
from entrepot.trust.vault import ServerVault


class Signer(msgspec.Struct, frozen=True):
    """A signing key of the site, and what the database says of it."""

    row: RoleKey
    key: SigningKey


ISSUER_WAIT: Final = 7 * DAY
"""A new internal CA issues nothing for so long after it was listed: by then everyone has the trust document."""


class Issuer(msgspec.Struct, frozen=True):
    """An internal CA of the site that the trust document lists, and what the database says of it."""

    row: RoleKey
    authority: Authority


class KeySet(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a site signs, seals, issues and verifies with, at one moment.

    ``generation`` is the number of the newest content secret; what is published is sealed under it and shares objects
    with nothing older. ``trust_document`` is the signed form that everyone gets. ``signers`` are the keys of each role
    that the site holds, the newest first, dropped ones included. ``issuers`` are the listed CAs, the newest first;
    ``authority`` issues where none of them may. ``change`` counts changes of keys. ``wrapping`` is the
    wrapping key's number.
    """

    site: Site
    hierarchy: Hierarchy
    vault: ServerVault
    ring: Ring
    trust_document: str
    signers: dict[Role, tuple[Signer, ...]]
    authority: Authority
    generation: int
    content_secret: Secret
    dedupe_secret: Secret
    nonce_secret: Secret
    wrapping: int
    change: int
    issuers: tuple[Issuer, ...] = ()

    def issuer(self, now: float) -> Authority:
        """Who issues: the newest that is valid and known to everyone; a newer one only where no older one is left."""
        valid = [each for each in self.issuers if each.row.not_before <= now < each.row.not_after]
        known = (each for each in valid if now >= each.row.listed_at + ISSUER_WAIT)
        chosen = next(known, valid[-1] if valid else None)
        return self.authority if chosen is None else chosen.authority

    def usable(self, role: Role, now: float) -> tuple[Signer, ...]:
        """The keys of a role that the present trust document lists and that are valid now, the newest first."""
        return tuple(
            each
            for each in self.signers[role]
            if each.row.listed_in and not each.row.dropped_in and each.row.not_before <= now < each.row.not_after
        )
