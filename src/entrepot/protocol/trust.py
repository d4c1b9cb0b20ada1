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
