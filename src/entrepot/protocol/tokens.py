"""Claims of the tokens that a site mints (architecture 3). JWT, ``alg`` Ed25519 (RFC 9864)."""

import msgspec

MAX_TOKEN_BYTES = 6 * 1024
MAX_TOKEN_SETS = 64
MAX_TOKEN_LIFETIME = 8 * 3600
MAX_SITE_TOKEN_LIFETIME = 600
CLOCK_SKEW = 120


class ContentClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client shows to a distribution point: the object sets it may read there.

    ``iss`` site code, ``sub`` device id, ``aud`` one cloud point's id or ``points:<site>``; ``sets`` are
    base64url object-set ids, at most 64; the first listed set that holds the object is charged. ``allow`` is the
    token's allowance where a budget is active: bytes that all instances together may send on it; 0: no bound. ``rate``:
    bytes a second that each instance sends on it at most, where a budget throttles; 0: no bound.
    """

    iss: str
    sub: str
    aud: str
    jti: str
    iat: int
    nbf: int
    exp: int
    sets: tuple[str, ...]
    allow: int = 0
    rate: int = 0


class SiteClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What the site shows to a point to read and change what it holds. ``aud`` is the point's id."""

    iss: str
    aud: str
    jti: str
    iat: int
    exp: int


def points_audience(site: str) -> str:
    """The audience that all on-premises points of a site share."""
    return f"points:{site}"


def site_audience(site: str) -> str:
    """The audience of device assertions sent to a site's management point."""
    return f"site:{site}"
