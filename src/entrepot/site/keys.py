"""The keys and secrets that a site server holds in memory while it serves.

At rest they are sealed to the server's vault key, which is a file beside the server and never in a backup. The
hierarchy root is not among them: it is used at set-up and to change the trust document, and lies offline otherwise.
"""

import secrets
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection

from entrepot.content.chunking import DomainKeys, domain_keys
from entrepot.content.sealing import Generation
from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import TrustError
from entrepot.core.ids import prefixed_id
from entrepot.core.secret import Secret
from entrepot.database import hierarchy
from entrepot.database.hierarchy import Hierarchy, RoleKey, Site
from entrepot.protocol import SealedRef, SignedType
from entrepot.protocol.trust import KeyEntry, Role
from entrepot.trust.authority import Authority
from entrepot.trust.root import fingerprint, verify_trust
from entrepot.trust.signing import Ring, SigningKey, sign
from entrepot.trust.vault import ServerVault

SIGNING_ROLES: Final = (Role.MANIFEST, Role.TOKEN, Role.POLICY, Role.CONTROL)
CONTENT_SECRET: Final = "content/{}"
"""Name of a generation of the content secret."""
DEDUPE_SECRET: Final = "dedupe"
NONCE_SECRET: Final = "nonce"
SECRET_BYTES: Final = 32


class SiteKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a site signs, seals, issues and verifies with.

    ``generation`` is the number of the newest content secret. ``trust_document`` is the signed form that everyone gets.
    """

    site: Site
    hierarchy: Hierarchy
    vault: ServerVault
    ring: Ring
    trust_document: str
    manifest: SigningKey
    token: SigningKey
    policy: SigningKey
    control: SigningKey
    authority: Authority
    generation: int
    content_secret: Secret
    dedupe_secret: Secret
    nonce_secret: Secret

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the root's raw public key."""
        return fingerprint(self.hierarchy.root_public)

    def token_kids(self, now: float) -> tuple[str, ...]:
        """The token keys that are valid now: what control documents list."""
        return self.ring.kids(Role.TOKEN, site=self.site.code, now=now)

    def domain(self, content: str, *, isolated: bool) -> DomainKeys:
        """The dedupe domain of a content: the hierarchy's, or one of its own (secrets derived by HKDF-SHA256)."""
        generation, dedupe = self.content_secret, self.dedupe_secret
        if isolated:
            generation, dedupe = _derive(generation, content), _derive(dedupe, content)
        return domain_keys(dedupe, Generation(self.generation, generation))

    def sign_manifest(self, payload: bytes) -> str:
        """Sign a manifest root."""
        return sign(payload, typ=SignedType.MANIFEST, key=self.manifest)

    def sign_delta(self, payload: bytes) -> str:
        """Sign a delta root."""
        return sign(payload, typ=SignedType.DELTA, key=self.manifest)

    def seal_ref(self, name: str, ref: SealedRef) -> bytes:
        """Seal the reference that opens a content, for the database."""
        return self.vault.seal(name, Secret(pack(ref)))

    def open_ref(self, name: str, sealed: bytes) -> SealedRef:
        """Inverse of :meth:`seal_ref`.

        Raises:
            IntegrityError: sealed to another server, or under another name.
        """
        return unpack(self.vault.open(name, sealed).reveal(), SealedRef, "root reference")


def _derive(secret: Secret, content: str) -> Secret:
    info = b"entrepot/isolated/1/" + content.encode()
    return Secret(HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=None, info=info).derive(secret.reveal()))


def root_name(content: str, number: int, from_version: int = 0) -> str:
    """The name under which a version's root reference (or a delta's) is sealed."""
    return f"root/{content}/{number}" + (f"/from/{from_version}" if from_version else "")


def role_name(role: Role, kid: str) -> str:
    """The name under which a role key is sealed."""
    return f"role/{role.value}/{kid}"


def secret_name(name: str) -> str:
    """The name under which a secret is sealed."""
    return f"secret/{name}"


def sealed_signing_key(key: SigningKey, entry: KeyEntry, vault: ServerVault) -> RoleKey:
    """A signing key as the database keeps it."""
    return _role_key(entry, vault.seal(role_name(entry.role, entry.kid), key.private))


def sealed_authority(authority: Authority, entry: KeyEntry, vault: ServerVault) -> RoleKey:
    """The issuer as the database keeps it."""
    return _role_key(entry, vault.seal(role_name(entry.role, entry.kid), authority.key_pem()))


def _role_key(entry: KeyEntry, sealed: bytes) -> RoleKey:
    return RoleKey(
        kid=entry.kid,
        role=entry.role,
        site=entry.site,
        public=entry.public,
        sealed=sealed,
        not_before=entry.not_before,
        not_after=entry.not_after,
    )


def load_keys(connection: Connection, *, site: str, vault: ServerVault, now: float) -> SiteKeys:
    """Open everything that the server needs.

    Raises:
        TrustError: a key is missing or has expired.
        IntegrityError: sealed to another server's vault.
        NotFoundError: no such site in this database.
    """
    record = hierarchy.get_hierarchy(connection)
    trust = verify_trust(record.trust_document, record.root_public)
    sealed = hierarchy.sealed_secrets(connection, site)
    generations = [int(name.removeprefix("content/")) for name in sealed if name.startswith("content/")]
    if not generations:
        raise TrustError("The site has no content secret.", next_step="Restore the site from its backup.")
    newest = max(generations)
    opened = {
        name: vault.open(secret_name(name), sealed[name])
        for name in (CONTENT_SECRET.format(newest), DEDUPE_SECRET, NONCE_SECRET)
    }
    listed = {entry.kid for entry in trust.keys}
    stored = [key for key in hierarchy.site_role_keys(connection, site) if key.kid in listed]
    ca = _valid(stored, Role.CA, now)
    signing = {role: _signing_key(_valid(stored, role, now), vault) for role in SIGNING_ROLES}
    return SiteKeys(
        site=hierarchy.get_site(connection, site),
        hierarchy=record,
        vault=vault,
        ring=Ring(trust),
        trust_document=record.trust_document,
        manifest=signing[Role.MANIFEST],
        token=signing[Role.TOKEN],
        policy=signing[Role.POLICY],
        control=signing[Role.CONTROL],
        authority=Authority.load(ca.public, vault.open(role_name(ca.role, ca.kid), ca.sealed)),
        generation=newest,
        content_secret=opened[CONTENT_SECRET.format(newest)],
        dedupe_secret=opened[DEDUPE_SECRET],
        nonce_secret=opened[NONCE_SECRET],
    )


def _valid(keys: list[RoleKey], role: Role, now: float) -> RoleKey:
    for key in keys:  # newest first
        if key.role is role and key.not_before <= now < key.not_after:
            return key
    raise TrustError(
        f"The site has no valid key for {role.value}.",
        next_step="Check the clock; if it is right, sign a new trust document with the root key.",
    )


def _signing_key(key: RoleKey, vault: ServerVault) -> SigningKey:
    return SigningKey.from_private(vault.open(role_name(key.role, key.kid), key.sealed))


def new_id(prefix: str) -> str:
    """A fresh id such as ``dev-0123456789abcdef``."""
    return prefixed_id(prefix, secrets.token_bytes(8))
