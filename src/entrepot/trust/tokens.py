"""Tokens that a site mints: content tokens for clients, site tokens for itself (architecture 3).

A token only narrows: one audience, at most 64 object sets, at most 8 hours. Both are JWTs in the strict envelope of
``trust.signing``; verification failures are :class:`UnauthenticatedError`, whatever their cause, because a bearer may
not learn more than that its credential is of no use.
"""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from entrepot.core.encoding import b64url, from_json, to_json, unb64url
from entrepot.core.errors import BadInputError, IntegrityError, TrustError, UnauthenticatedError
from entrepot.core.ids import OBJECT_ID_BYTES
from entrepot.protocol import SignedType
from entrepot.protocol.tokens import (
    CLOCK_SKEW,
    MAX_SITE_TOKEN_LIFETIME,
    MAX_TOKEN_LIFETIME,
    MAX_TOKEN_SETS,
    ContentClaims,
    SiteClaims,
)
from entrepot.protocol.trust import Role
from entrepot.trust.signing import Ring, SigningKey, Verified, sign

MAX_JTI: Final = 64
_EXPIRED: Final = "Ask the management point for a new token."


def mint_content_token(
    key: SigningKey,
    *,
    site: str,
    device: str,
    audience: str,
    sets: Sequence[bytes],
    now: float,
    jti: str,
    lifetime: int = MAX_TOKEN_LIFETIME,
    allow: int = 0,
    rate: int = 0,
) -> str:
    """Make a content token.

    Args:
        key: a token key of the site.
        site: site code (``iss``).
        device: who may use it (``sub``).
        audience: one cloud point's id, or ``points:<site>``.
        sets: object-set ids, 32 bytes each; the first that holds an object is charged with it.
        now: seconds since 1970.
        jti: unique id, for revocation.
        lifetime: seconds.
        allow: bytes that may be sent on it in all, where a budget is active; 0: no bound.
        rate: bytes a second that an instance sends on it at most, where a budget throttles; 0: no bound.

    Raises:
        BadInputError: no sets or more than 64, a lifetime over 8 hours, a jti that is empty or too long, or a negative
            allowance.
    """
    if allow < 0 or rate < 0:
        raise BadInputError("An allowance or rate is not negative.")
    if not 1 <= len(sets) <= MAX_TOKEN_SETS or any(len(set_id) != OBJECT_ID_BYTES for set_id in sets):
        raise BadInputError(f"A content token names 1 to {MAX_TOKEN_SETS} object sets.")
    _check_minting(jti, lifetime, MAX_TOKEN_LIFETIME)
    issued = int(now)
    claims = ContentClaims(
        iss=site,
        sub=device,
        aud=audience,
        jti=jti,
        iat=issued,
        nbf=issued,
        exp=issued + lifetime,
        sets=tuple(b64url(set_id) for set_id in sets),
        allow=allow,
        rate=rate,
    )
    return sign(to_json(claims), typ=SignedType.CONTENT_TOKEN, key=key)


def verify_content_token(
    token: str, ring: Ring, site: str, audience: str, kids: Collection[str] | None, now: float
) -> ContentClaims:
    """Believe a content token.

    Args:
        token: as the client showed it.
        ring: keys of the highest trust document.
        site: the site that this holder belongs to.
        audience: what this holder is called in tokens.
        kids: token keys that the control document allows now; None leaves it to the trust document.
        now: seconds since 1970.

    Raises:
        UnauthenticatedError: not valid here and now. Revocation is the caller's to check.
    """
    with _refusals():
        verified = ring.verify(token, typ=SignedType.CONTENT_TOKEN, role=Role.TOKEN, now=now, site=site)
        claims = from_json(verified.payload, ContentClaims, "content token")
    _check_claims(claims, verified, audience, kids, now)
    if claims.exp - claims.iat > MAX_TOKEN_LIFETIME or claims.nbf > now + CLOCK_SKEW or not claims.sub:
        raise UnauthenticatedError("The content token's lifetime is not acceptable.", next_step=_EXPIRED)
    if claims.allow < 0 or claims.rate < 0:
        raise UnauthenticatedError("The content token's allowance or rate is not acceptable.")
    if not 1 <= len(claims.sets) <= MAX_TOKEN_SETS:
        raise UnauthenticatedError("The content token names no object set, or too many.")
    with _refusals():
        if any(len(set_id) != OBJECT_ID_BYTES for set_id in set_ids(claims)):
            raise TrustError("The content token names something that is no object set.")
    return claims


def set_ids(claims: ContentClaims) -> tuple[bytes, ...]:
    """The object-set ids of a token, raw, in its order.

    Raises:
        FormatError: one is not base64url (never after :func:`verify_content_token`).
    """
    return tuple(unb64url(text, "object set id") for text in claims.sets)


def mint_site_token(
    key: SigningKey, *, site: str, audience: str, now: float, jti: str, lifetime: int = MAX_SITE_TOKEN_LIFETIME
) -> str:
    """Make a token by which the site reads and changes what a point holds.

    Raises:
        BadInputError: a lifetime over 10 minutes, or a jti that is empty or too long.
    """
    _check_minting(jti, lifetime, MAX_SITE_TOKEN_LIFETIME)
    issued = int(now)
    claims = SiteClaims(iss=site, aud=audience, jti=jti, iat=issued, exp=issued + lifetime)
    return sign(to_json(claims), typ=SignedType.SITE_TOKEN, key=key)


def verify_site_token(
    token: str, ring: Ring, site: str, audience: str, kids: Collection[str] | None, now: float
) -> SiteClaims:
    """Believe a site token; arguments as of :func:`verify_content_token`.

    Before a point has its first control document, ``kids`` is None: the trust document alone decides.

    Raises:
        UnauthenticatedError: not valid here and now.
    """
    with _refusals():
        verified = ring.verify(token, typ=SignedType.SITE_TOKEN, role=Role.TOKEN, now=now, site=site)
        claims = from_json(verified.payload, SiteClaims, "site token")
    _check_claims(claims, verified, audience, kids, now)
    if claims.exp - claims.iat > MAX_SITE_TOKEN_LIFETIME:
        raise UnauthenticatedError("The site token's lifetime is not acceptable.")
    return claims


def _check_minting(jti: str, lifetime: int, longest: int) -> None:
    if not 0 < lifetime <= longest:
        raise BadInputError(f"The lifetime of this token is 1 to {longest} seconds.")
    if not 0 < len(jti) <= MAX_JTI:
        raise BadInputError(f"A token's id has 1 to {MAX_JTI} characters.")


def _check_claims(
    claims: ContentClaims | SiteClaims, verified: Verified, audience: str, kids: Collection[str] | None, now: float
) -> None:
    if kids is not None and verified.kid not in kids:
        raise UnauthenticatedError("The token is signed with a key that is no longer in use.", next_step=_EXPIRED)
    if claims.iss != verified.site:
        raise UnauthenticatedError("The token names another site than the one that signed it.")
    if claims.aud != audience:
        raise UnauthenticatedError("The token is for another distribution point.")
    if claims.exp <= now:
        raise UnauthenticatedError("The token has expired.", next_step=_EXPIRED)
    if claims.iat > now + CLOCK_SKEW or claims.exp <= claims.iat:
        raise UnauthenticatedError(
            "The token is not valid yet.", next_step="Compare the clocks of the site and of this server."
        )
    if not 0 < len(claims.jti) <= MAX_JTI:
        raise UnauthenticatedError("The token has no proper id.")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (TrustError, IntegrityError) as error:
        raise UnauthenticatedError(error.message, next_step=error.next_step) from None
