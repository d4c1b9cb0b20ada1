"""What the roles say to each other: one file per conversation, models only, no I/O.

Everything signed travels as a compact JWS (``trust.signing``): header ``alg`` Ed25519, ``kid``, ``typ``; the
payload is the canonical encoding of a struct from here. ``typ`` names are in :class:`SignedType` so that a
document of one kind can never pass for another.
"""

from enum import StrEnum

import msgspec


class SignedType(StrEnum):
    """The ``typ`` header of each signed document."""

    TRUST = "entrepot-trust"
    MANIFEST = "entrepot-manifest"
    DELTA = "entrepot-delta"
    CONTROL = "entrepot-control"
    POLICY = "entrepot-policy"
    LOCATION = "entrepot-location"
    CONTENT_TOKEN = "entrepot-content+jwt"
    SITE_TOKEN = "entrepot-site+jwt"
    DEVICE_ASSERTION = "entrepot-device+jwt"


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """Protects a signed document against replay: nothing older than what was seen, nothing expired.

    ``(epoch, counter)`` only grows; a restore of the site raises the epoch. Times are seconds since 1970.
    """

    epoch: int
    counter: int
    issued: int
    expires: int


class SealedRef(msgspec.Struct, frozen=True, array_like=True):
    """Everything needed to fetch, verify and open one sealed object (architecture 2.2, 2.4).

    ``object_id`` 32 bytes, ``sealed_size`` and ``plain_size`` in bytes, ``key`` 32 bytes (AES-256),
    ``digest`` of the plain bytes (``content/digests.py``): it is checked after opening and commits the key.
    """

    object_id: bytes
    sealed_size: int
    plain_size: int
    key: bytes
    digest: bytes

    def __repr__(self) -> str:
        return f"SealedRef({self.object_id.hex()[:12]}…, {self.plain_size} bytes, key=***)"
