"""The keys and secrets that a site server holds in memory while it serves.

At rest secrets are wrapped by a wrapping key; it and the signing keys are sealed to the server's vault key, which is a
file beside the server and never in a backup. The hierarchy root is not among them: it is used at set-up and to change
the trust document, and lies offline otherwise.
"""

import secrets
import time
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from entrepot.content.chunking import DomainKeys, domain_keys
from entrepot.content.sealing import Generation
from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import TrustError
from entrepot.core.ids import prefixed_id
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database.hierarchy import Hierarchy, RoleKey, Site
from entrepot.protocol import SealedRef, SignedType
from entrepot.protocol.control import CONTROL_LIFETIME
from entrepot.protocol.trust import KeyEntry, Role
from entrepot.site.keys.keyset import KeySet, Signer
from entrepot.trust.authority import Authority
from entrepot.trust.pins import ca_certificates
from entrepot.trust.root import fingerprint
from entrepot.trust.signing import Ring, SigningKey, check_signature, sign, take_apart
from entrepot.trust.vault import ServerVault

SIGNING_ROLES: Final = (Role.MANIFEST, Role.TOKEN, Role.POLICY, Role.CONTROL)
CONTENT_SECRET: Final = "content/{}"
"""Name of a generation of the content secret."""
DEDUPE_SECRET: Final = "dedupe"
NONCE_SECRET: Final = "nonce"
WRAPPING_PREFIX: Final = "wrapping/"
SECRET_BYTES: Final = 32


class SiteKeys:
    """The keys that count now: one object that all parts of a server share, renewed when keys change.

    Whoever needs several keys that fit together takes :attr:`now` once.

    Args:
        current: as loaded.
        confirmed: the number of the trust document that each active point has confirmed.
        clock: seconds since 1970.
    """

    def __init__(self, current: KeySet, confirmed: dict[str, int], *, clock: Clock = time.time) -> None:
        self._current = current
        self._confirmed = confirmed
        self._clock = clock

    def renew(self, current: KeySet, confirmed: dict[str, int]) -> None:
        """From now on these count."""
        self._current, self._confirmed = current, confirmed

    def confirm(self, point: str, number: int) -> None:
        """A point has confirmed this trust document."""
        self._confirmed = self._confirmed | {point: number}

    def confirmed(self, point: str) -> int:
        """The trust document that a point has confirmed; 0 when none is known."""
        return self._confirmed.get(point, 0)

    @property
    def now(self) -> KeySet:
        """All that counts now, of one moment."""
        return self._current

    @property
    def site(self) -> Site:
        """The site."""
        return self._current.site

    @property
    def hierarchy(self) -> Hierarchy:
        """The hierarchy, with the present trust document."""
        return self._current.hierarchy

    @property
    def vault(self) -> ServerVault:
        """What secrets at rest are sealed to."""
        return self._current.vault

    @property
    def ring(self) -> Ring:
        """The keys that everyone believes."""
        return self._current.ring

    @property
    def trust_document(self) -> str:
        """The present trust document, signed."""
        return self._current.trust_document

    @property
    def authority(self) -> Authority:
        """Issues TLS certificates."""
        return self._current.issuer(self._clock())

    @property
    def authorities(self) -> str:
        """PEM of all internal CAs that the trust document lists, this hierarchy's other sites' among them."""
        return ca_certificates(self.ring.document, now=self._clock())

    @property
    def nonce_secret(self) -> Secret:
        """Makes enrolment nonces."""
        return self._current.nonce_secret

    @property
    def generation(self) -> int:
        """Number of the newest content secret."""
        return self._current.generation

    @property
    def policy(self) -> SigningKey:
        """Signs policy and location replies: clients that do not know it yet fetch the trust document."""
        return self._newest(Role.POLICY)

    @property
    def token(self) -> SigningKey:
        """Signs content tokens: the newest key that every active point knows.

        A point that has not confirmed the trust document for eight hours serves nobody any more, and is not waited for.
        """
        now = self._clock()
        usable = self._usable(Role.TOKEN)
        for each in usable:
            known = all(number >= each.row.listed_in for number in self._confirmed.values())
            if known or now >= each.row.listed_at + CONTROL_LIFETIME:
                return each.key
        return usable[-1].key

    def token_for(self, point: str) -> SigningKey:
        """Signs what the site sends to this point: a key of the trust document that the point has confirmed, although
        the present one may list it no more, or the point could never learn of its successor."""
        return self._known_to(point, self._current.signers[Role.TOKEN]) or self._newest(Role.TOKEN)

    def control_for(self, point: str) -> SigningKey:
        """Signs this point's control document: the newest key that the point knows, else the newest."""
        return self._known_to(point, self._usable(Role.CONTROL)) or self._newest(Role.CONTROL)

    def knows(self, point: str, kid: str) -> bool:
        """Whether the trust document that a point has confirmed lists this key of ours."""
        number = self.confirmed(point)
        rows = [each.row for signers in self._current.signers.values() for each in signers if each.row.kid == kid]
        return any(_listed(row, number) for row in rows)

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the root's raw public key."""
        return fingerprint(self.hierarchy.root_public)

    def token_kids(self, now: float) -> tuple[str, ...]:
        """The token keys that are valid now: what control documents list."""
        return self.ring.kids(Role.TOKEN, site=self.site.code, now=now)

    def domain(self, content: str, *, isolated: bool) -> DomainKeys:
        """The dedupe domain of a content: the hierarchy's, or one of its own (secrets derived by HKDF-SHA256).

        Each generation of the content secret has an index of its own: after a compromise nothing older is found, hence
        nothing older is reused, and cuts stay where they were.
        """
        current = self._current
        generation, dedupe = current.content_secret, current.dedupe_secret
        if isolated:
            generation, dedupe = derive_isolated(generation, content), derive_isolated(dedupe, content)
        keys = domain_keys(dedupe, Generation(current.generation, generation))
        if current.generation == 1:
            return keys
        info = b"entrepot/index/1/generation/%d" % current.generation
        index_key = HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=None, info=info).derive(keys.index_key.reveal())
        return msgspec.structs.replace(keys, index_key=Secret(index_key))

    @property
    def manifest(self) -> SigningKey:
        """Signs manifests and deltas."""
        return self._newest(Role.MANIFEST)

    def sign_delta(self, payload: bytes) -> str:
        """Sign a delta root."""
        return sign(payload, typ=SignedType.DELTA, key=self.manifest)

    def verify_manifest(self, document: bytes) -> bytes:
        """Payload of a manifest root that this site signed, with a key that may be withdrawn by now, or another site.

        What the site reads back is named by references that it sealed itself; clients judge by the trust document.

        Raises:
            TrustError, FormatError: it is not to be believed.
        """
        envelope = take_apart(document, typ=SignedType.MANIFEST)
        for each in self._current.signers[Role.MANIFEST]:
            if each.row.kid == envelope.header.kid:
                check_signature(envelope, each.row.public)
                return envelope.payload
        ring = self.ring
        return ring.verify(document, typ=SignedType.MANIFEST, role=Role.MANIFEST, now=self._clock()).payload

    def withdrawn(self, role: Role) -> tuple[str, ...]:
        """Key ids of this role that the present trust document lists no more."""
        return tuple(each.row.kid for each in self._current.signers[role] if each.row.dropped_in)

    def seal_ref(self, name: str, ref: SealedRef) -> bytes:
        """Seal the reference that opens a content, for the database."""
        return self.vault.seal(name, Secret(pack(ref)))

    def open_ref(self, name: str, sealed: bytes) -> SealedRef:
        """Inverse of :meth:`seal_ref`.

        Raises:
            IntegrityError: sealed to another server, or under another name.
        """
        return unpack(self.vault.open(name, sealed).reveal(), SealedRef, "root reference")

    def _usable(self, role: Role) -> tuple[Signer, ...]:
        found = self._current.usable(role, self._clock())
        if not found:
            raise no_key(role)
        return found

    def _newest(self, role: Role) -> SigningKey:
        return self._usable(role)[0].key

    def _known_to(self, point: str, signers: tuple[Signer, ...]) -> SigningKey | None:
        number, now = self.confirmed(point), self._clock()
        known = (each for each in signers if _listed(each.row, number))
        return next((each.key for each in known if each.row.not_before <= now < each.row.not_after), None)


def _listed(row: RoleKey, number: int) -> bool:
    return 0 < row.listed_in <= number and (not row.dropped_in or number < row.dropped_in)


def derive_isolated(secret: Secret, content: str) -> Secret:
    """The secret of an isolated content's own dedupe domain."""
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


def no_key(role: Role) -> TrustError:
    """The site cannot sign in this role."""
    return TrustError(
        f"The site has no valid key for {role.value}.",
        next_step="Check the clock; if it is right, sign a new trust document: entrepot key roll",
    )


def new_id(prefix: str) -> str:
    """A fresh id such as ``dev-0123456789abcdef``."""
    return prefixed_id(prefix, secrets.token_bytes(8))
