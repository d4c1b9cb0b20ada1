"""The trust document: which keys of which site may sign what (architecture 3)."""

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What a key is good for. A key never has two roles."""

    MANIFEST = "manifest"  # manifest roots and delta index roots
    TOKEN = "token"  # content access tokens and site tokens
    POLICY = "policy"  # policy and location replies
    CONTROL = "control"  # control documents
    CA = "ca"  # X.509: issues TLS certificates of sites and points


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One key. ``public`` is the raw 32-byte Ed25519 key, or the DER certificate for role ``ca``."""

    kid: str
    role: Role
    site: str
    public: bytes
    not_before: int
    not_after: int


class TrustDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Signed by the hierarchy root. ``number`` only grows; everyone keeps the highest seen."""

    version: int = 1
    hierarchy: str
    number: int
    epoch: int
    issued: int
    keys: tuple[KeyEntry, ...]


class KeyChange(StrEnum):
    """What the next trust document does to a key: it is believed from now on, until an earlier time, or no more."""

    COMES = "comes"
    ENDS = "ends"
    GOES = "goes"


def key_changes(present: TrustDocument, following: TrustDocument) -> list[tuple[KeyChange, KeyEntry]]:
    """The keys that come, end at another time, or go with the trust document that follows the present one."""
    before, after = ({each.kid: each for each in document.keys} for document in (present, following))
    comes = [(KeyChange.COMES, each) for kid, each in after.items() if kid not in before]
    both = [(each, before[kid]) for kid, each in after.items() if kid in before]
    ends = [(KeyChange.ENDS, each) for each, was in both if each.not_after != was.not_after]
    return [*comes, *ends, *((KeyChange.GOES, each) for kid, each in before.items() if kid not in after)]
