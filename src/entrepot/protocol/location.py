"""A client asks its management point where to get content (architecture 4.3; R30 to R35).

``POST /mp/locations`` with :class:`LocationRequest`, authenticated by a device assertion; the answer is a
:class:`LocationReply` signed with the site's policy key (``typ`` entrepot-location) that echoes the nonce.
"""

from enum import StrEnum

import msgspec

from entrepot.protocol import Freshness, SealedRef


class Network(StrEnum):
    """Where the site sees the client."""

    INTRANET = "intranet"
    INTERNET = "internet"


class TierKind(StrEnum):
    """In the order in which a client tries them (R32)."""

    PREFERRED = "preferred"
    REMOTE = "remote"
    INTERNET_FACING = "internet-facing"
    CLOUD = "cloud"


class LocationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``content`` id; ``version`` 0 means the current one; ``addresses`` the client's own IP addresses;
    ``held`` versions of the content that the client has whole (for deltas)."""

    nonce: str
    content: str
    version: int = 0
    addresses: tuple[str, ...] = ()
    held: tuple[int, ...] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One distribution point to try. ``url`` without trailing slash; ``audience`` selects the token;
    ``trust`` says how its TLS certificate is verified: ``hierarchy`` (the trust document's CA) or ``system``
    (the device's own trusted roots, plus the hierarchy's CA and what the agent's settings add)."""

    point: str
    name: str
    url: str
    audience: str
    trust: str
    reason: str
    deltas: tuple[int, ...] = ()  # versions from which this point holds the delta


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """Sources of equal rank, already in the order in which to try them."""

    kind: TierKind
    sources: tuple[Source, ...]


class Withheld(msgspec.Struct, frozen=True, kw_only=True):
    """A point that has the content but is not offered, and why: so that people need not guess. Where no source is
    offered at all, points that lack the version are named, too."""

    name: str
    reason: str
    retry_after: int = 0  # seconds after which asking again may help; 0: not said


class DeltaOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A delta index from a version that the client holds. ``fetched`` is what such a client fetches in all, delta and
    the full objects that no patch makes; 0 from a site that does not know it yet."""

    from_version: int
    root: SealedRef
    set_id: bytes
    size: int  # sealed bytes of index and packs together
    fetched: int = 0


class LocationReply(msgspec.Struct, frozen=True, kw_only=True):
    """``tokens`` maps a source's audience to its content access token. ``trust_number`` is of the site's present trust
    document: a client that has an older one fetches it before it judges the content. ``addresses`` of the client are
    those by which its ``network`` was judged; none from a site that does not say."""

    nonce: str
    fresh: Freshness
    site: str
    device: str
    network: Network
    content: str
    name: str
    version: int
    root: SealedRef
    set_id: bytes
    tiers: tuple[Tier, ...]
    withheld: tuple[Withheld, ...]
    tokens: dict[str, str]
    deltas: tuple[DeltaOffer, ...] = ()
    trust_number: int = 0
    addresses: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"LocationReply({self.device}, {self.content}, version {self.version}, tokens=***)"
