"""The part of the admin API that is about keys: content secrets, signing keys, the trust document.

========= =========================== ===========================================================================
GET       ``/keys``                   :class:`KeysInfo`
POST      ``/keys/rotate``            :class:`RotationRequest` → :class:`RotationInfo`
POST      ``/keys/reseal``            → :class:`RotationInfo`: asks again for what is still to be sealed anew
POST      ``/keys/roll``              :class:`RollRequest` → :class:`TrustDraft`, to be signed with the root key
POST      ``/keys/roll/removal``      :class:`RollRequest` → ``removalapi.Removal``: what it would do; nothing is made
POST      ``/keys/trust``             :class:`SignedTrust` → :class:`KeysInfo`
========= =========================== ===========================================================================

No secret is ever in a request or a reply. Exporting and importing secrets is done on the server itself.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from entrepot.protocol.trust import Role

MAX_LISTED = 1000
MAX_TRUST = 512 * 1024
ROLLED = (Role.MANIFEST, Role.TOKEN, Role.POLICY, Role.CONTROL)
"""Roles whose keys sign; each can be rolled over, and so can the internal CA."""


class _Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown fields are refused."""


class GenerationInfo(_Model, frozen=True, kw_only=True):
    """A generation of the content secret, and how many versions are sealed under it."""

    number: int
    created: int
    versions: int
    newest: bool


class SigningKeyInfo(_Model, frozen=True, kw_only=True):
    """A signing key. ``state``: ``pending`` (in no trust document yet), ``listed`` (believed, does not sign),
    ``signing``, ``ended`` (its time is over) or ``withdrawn``. ``versions``: how many it has signed (manifest keys)."""

    kid: str
    role: Role
    state: str
    not_before: int
    not_after: int
    versions: int = 0


class CertificateInfo(_Model, frozen=True, kw_only=True):
    """A TLS certificate of the internal authority. ``state``: ``ok``, ``due`` (renewal is overdue) or ``expired``."""

    subject: str
    expires: int
    state: str


class KeysInfo(_Model, frozen=True, kw_only=True):
    """All keys of a site. ``to_reseal`` versions are sealed under an older generation, or signed by a withdrawn key;
    ``resealing`` tasks work on it. ``behind``: points that have not confirmed the present trust document."""

    trust_number: int
    epoch: int
    wrapping: int
    generations: tuple[GenerationInfo, ...]
    signing: tuple[SigningKeyInfo, ...]
    certificates: tuple[CertificateInfo, ...]
    to_reseal: int
    resealing: int
    behind: tuple[str, ...]


class RotationRequest(_Model, frozen=True, kw_only=True):
    """``POST /keys/rotate``. ``compromised``: also make a new content secret and seal everything anew."""

    compromised: bool = False
    dry_run: bool = False


class ResealInfo(_Model, frozen=True, kw_only=True):
    """A version that is to be sealed anew."""

    content: str
    name: str
    number: int
    stored_size: int


class RotationInfo(_Model, frozen=True, kw_only=True):
    """What a rotation does, or would do. ``versions`` lists at most 1,000 of ``to_reseal``; ``tasks`` were started."""

    wrapping: int
    generation: int
    to_reseal: int
    bytes: int
    versions: tuple[ResealInfo, ...]
    tasks: int


class RollRequest(_Model, frozen=True, kw_only=True):
    """``POST /keys/roll``. New keys for these roles; ``withdraw``: key ids that are believed no more at once;
    ``raise_epoch``: nothing signed before is fresh any more; ``force``: withdraw manifest keys that are in use."""

    roles: Annotated[tuple[Role, ...], Meta(max_length=8)] = ()
    withdraw: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=100)] = ()
    raise_epoch: bool = False
    force: bool = False


class TrustDraft(_Model, frozen=True, kw_only=True):
    """The next trust document, unsigned (JSON, base64 on the wire), and the present one, signed."""

    document: bytes
    present: str


class SignedTrust(_Model, frozen=True, kw_only=True):
    """``POST /keys/trust``: a trust document that the root key has signed (compact JWS)."""

    document: Annotated[str, Meta(max_length=MAX_TRUST)]
