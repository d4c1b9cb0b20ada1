"""Fixtures of the trust room: a small hierarchy with one key a role, made from fixed seeds."""

import hashlib
from typing import Final

import pytest

from entrepot.core.secret import Secret
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust.certificates import Pair, new_management
from entrepot.trust.root import RootKey
from entrepot.trust.signing import Ring, SigningKey

NOW: Final = 1_774_274_400  # 2026-03-23T14:00:00Z
YEAR: Final = 365 * 86_400


def fixed_key(name: str) -> SigningKey:
    """The key of a name: the same in every run."""
    return SigningKey.from_private(Secret(hashlib.sha256(f"entrepot test {name}".encode()).digest()))


def entry(
    key: SigningKey, role: Role, site: str = "PS1", *, begins: int = NOW - YEAR, ends: int = NOW + YEAR
) -> KeyEntry:
    """How the trust document lists a key."""
    return KeyEntry(kid=key.kid, role=role, site=site, public=key.public, not_before=begins, not_after=ends)


class Hierarchy:
    """A root, the role keys of site PS1, and a token key of a second site."""

    def __init__(self) -> None:
        self.now = NOW
        self.root = RootKey(fixed_key("root"))
        self.keys = {role: fixed_key(role) for role in Role if role is not Role.CA}
        self.foreign = fixed_key("token of PS2")
        self.entry = entry
        self.fixed_key = fixed_key

    def document(self, number: int = 1, epoch: int = 0, **changes: object) -> TrustDocument:
        """A trust document."""
        keys = (
            *(entry(key, role) for role, key in self.keys.items()),
            entry(self.foreign, Role.TOKEN, "PS2"),
        )
        fields = {"hierarchy": "Contoso", "number": number, "epoch": epoch, "issued": NOW, "keys": keys} | changes
        return TrustDocument(**fields)  # type: ignore[arg-type]

    @property
    def ring(self) -> Ring:
        """The ring of the plain document."""
        return Ring(self.document())


@pytest.fixture(scope="session")
def hierarchy() -> Hierarchy:
    """A small hierarchy."""
    return Hierarchy()


@pytest.fixture(scope="session")
def rsa_pair() -> Pair:
    """A management certificate with an RSA key, valid at the hierarchy's now."""
    return new_management("Contoso management", 365, "rsa", now=NOW)


@pytest.fixture(scope="session")
def ec_pair() -> Pair:
    """A management certificate with a P-256 key, valid at the hierarchy's now."""
    return new_management("Contoso management", 365, "ec", now=NOW)
