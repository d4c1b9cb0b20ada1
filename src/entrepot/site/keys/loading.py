"""Opens a site's keys from its database, and follows what other processes of the site change there."""

import time

from sqlalchemy import Connection

from entrepot.core.errors import IntegrityError, TrustError
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database import hierarchy
from entrepot.database.hierarchy import RoleKey
from entrepot.protocol.trust import Role
from entrepot.site.keys.keyset import Issuer, KeySet, Signer
from entrepot.site.keys.sitekeys import (
    CONTENT_SECRET,
    DEDUPE_SECRET,
    NONCE_SECRET,
    SIGNING_ROLES,
    WRAPPING_PREFIX,
    SiteKeys,
    no_key,
    role_name,
    secret_name,
)
from entrepot.trust.authority import Authority
from entrepot.trust.root import verify_trust
from entrepot.trust.signing import Ring, SigningKey
from entrepot.trust.vault import ServerVault
from entrepot.trust.wrapping import WrappingKey, is_wrapped, wrapping_number


def open_secrets(connection: Connection, *, site: str, vault: ServerVault) -> tuple[dict[str, Secret], int]:
    """A site's secrets by name, and the number of the wrapping key; 0 while they are sealed to the vault directly.

    Raises:
        IntegrityError: sealed to another server's vault, or damaged.
    """
    sealed = hierarchy.sealed_secrets(connection, site)
    numbers = [int(name.removeprefix(WRAPPING_PREFIX)) for name in sealed if name.startswith(WRAPPING_PREFIX)]
    keys = {
        number: WrappingKey(number, vault.open(secret_name(f"{WRAPPING_PREFIX}{number}"), sealed[f"wrapping/{number}"]))
        for number in numbers
    }
    opened: dict[str, Secret] = {}
    for name, value in sealed.items():
        if name.startswith(WRAPPING_PREFIX):
            continue
        if not is_wrapped(value):
            opened[name] = vault.open(secret_name(name), value)
            continue
        wrapping = keys.get(wrapping_number(value))
        if wrapping is None:
            raise IntegrityError(
                f"The wrapping key of the secret {name!r} is missing.", next_step="Import the exported keys."
            )
        opened[name] = wrapping.unwrap(secret_name(name), value)
    return opened, max(numbers, default=0)


def load_key_set(connection: Connection, *, site: str, vault: ServerVault, now: float) -> KeySet:
    """Open everything that the server needs.

    Raises:
        TrustError: a key is missing or has expired.
        IntegrityError: sealed to another server's vault.
        NotFoundError: no such site in this database.
    """
    record = hierarchy.get_hierarchy(connection)
    trust = verify_trust(record.trust_document, record.root_public)
    secrets_, wrapping = open_secrets(connection, site=site, vault=vault)
    generations = [int(name.removeprefix("content/")) for name in secrets_ if name.startswith("content/")]
    if not generations or DEDUPE_SECRET not in secrets_ or NONCE_SECRET not in secrets_:
        raise TrustError("The site has no content secret.", next_step="Import the exported keys: entrepot key import")
    newest = max(generations)
    listed = {entry.kid for entry in trust.keys}
    stored = hierarchy.site_role_keys(connection, site)
    ca = _valid([key for key in stored if key.kid in listed], Role.CA, now)
    issuers = sorted(
        (key for key in stored if key.role is Role.CA and key.kid in listed),
        key=lambda key: (key.listed_in, key.not_before),
        reverse=True,
    )
    keys = KeySet(
        site=hierarchy.get_site(connection, site),
        hierarchy=record,
        vault=vault,
        ring=Ring(trust),
        trust_document=record.trust_document,
        signers={role: _signers(stored, role, vault) for role in SIGNING_ROLES},
        authority=_authority(ca, vault),
        generation=newest,
        content_secret=secrets_[CONTENT_SECRET.format(newest)],
        dedupe_secret=secrets_[DEDUPE_SECRET],
        nonce_secret=secrets_[NONCE_SECRET],
        wrapping=wrapping,
        change=hierarchy.count(connection, hierarchy.KEYS),
        issuers=tuple(Issuer(row, _authority(row, vault)) for row in issuers),
    )
    for role in SIGNING_ROLES:
        if not keys.usable(role, now):
            raise no_key(role)
    return keys


def load_keys(
    connection: Connection, *, site: str, vault: ServerVault, now: float, clock: Clock | None = None
) -> SiteKeys:
    """The keys that count now, in the form that a server shares; raises as :func:`load_key_set`.

    Args:
        clock: the server's; by default that of this computer.
    """
    current = load_key_set(connection, site=site, vault=vault, now=now)
    return SiteKeys(current, hierarchy.confirmed_trust(connection, site), clock=clock or time.time)


def refresh(connection: Connection, keys: SiteKeys, *, now: float) -> bool:
    """Follow what other processes changed; whether anything did.

    Raises:
        TrustError, IntegrityError: what is stored cannot be used; the keys stay as they are.
    """
    site = keys.site.code
    confirmed = hierarchy.confirmed_trust(connection, site)
    if hierarchy.count(connection, hierarchy.KEYS) == keys.now.change:
        keys.renew(keys.now, confirmed)
        return False
    keys.renew(load_key_set(connection, site=site, vault=keys.vault, now=now), confirmed)
    return True


def _authority(row: RoleKey, vault: ServerVault) -> Authority:
    return Authority.load(row.public, vault.open(role_name(row.role, row.kid), row.sealed))


def _valid(keys: list[RoleKey], role: Role, now: float) -> RoleKey:
    for key in keys:  # newest first
        if key.role is role and key.not_before <= now < key.not_after:
            return key
    raise no_key(role)


def _signers(stored: list[RoleKey], role: Role, vault: ServerVault) -> tuple[Signer, ...]:
    """All of a role, the newest first: what was listed last, then what began last."""
    rows = sorted((key for key in stored if key.role is role), key=lambda key: (key.listed_in, key.not_before))
    return tuple(
        Signer(row, SigningKey.from_private(vault.open(role_name(row.role, row.kid), row.sealed)))
        for row in reversed(rows)
    )
