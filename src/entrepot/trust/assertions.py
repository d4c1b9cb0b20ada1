"""Assertions: short-lived proofs of possession that a caller makes about itself.

*Client assertion* (RFC 7523): the site's provider to the cloud host, signed with the management certificate: PS256 or
ES256, ``x5t#S256``, ``iss`` = ``sub`` = subscription, exact ``aud``, at most five minutes, ``jti`` used once. The
certificate is found by its whole thumbprint among those that were uploaded to the subscription; nothing in the
header can bring one along.

*Device assertion*: a device to its management point, signed with its Ed25519 identity and bound to one request body.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from entrepot.core.encoding import b64url, from_json, to_json, unb64url
from entrepot.core.errors import BadInputError, FormatError, IntegrityError, TrustError, UnauthenticatedError
from entrepot.core.sizes import KIB
from entrepot.protocol import SignedType
from entrepot.protocol.enrolment import DeviceClaims
from entrepot.protocol.tokens import CLOCK_SKEW, site_audience
from entrepot.trust.certificates import assertion_algorithm
from entrepot.trust.inspection import PrivateKey, describe, load_cer, thumbprint
from entrepot.trust.inspection import check_validity as check_certificate_validity
from entrepot.trust.signing import SigningKey, check_signature, kid_of, sign, take_apart

MAX_LIFETIME: Final = 300
MAX_ASSERTION: Final = 4 * KIB
MAX_JTI: Final = 128
CLIENT_TYP: Final = "JWT"


class _ClientHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alg: str
    typ: str
    x5t: str = msgspec.field(name="x5t#S256")


class _ClientClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    iss: str
    sub: str
    aud: str
    jti: str
    iat: int
    exp: int
    nbf: int | None = None


class Assertion(msgspec.Struct, frozen=True, kw_only=True):
    """A believed client assertion. ``certificate`` is the DER of the uploaded one; ``exp`` bounds how long ``jti`` is
    kept."""

    subscription: str
    jti: str
    exp: int
    certificate: bytes


def make_client_assertion(
    key: PrivateKey, certificate: x509.Certificate, subscription: str, audience: str, now: float, jti: str
) -> str:
    """Make a client assertion that is valid for five minutes.

    Args:
        key: of the management certificate: RSA, or EC P-256.
        certificate: the management certificate.
        subscription: its id at the cloud host.
        audience: the token endpoint's URL, exactly.
        now: seconds since 1970.
        jti: unique id, 1 to 128 characters.

    Raises:
        BadInputError: another kind of key, or no proper ``jti``.
    """
    if not 0 < len(jti) <= MAX_JTI:
        raise BadInputError(f"An assertion's id has 1 to {MAX_JTI} characters.")
    algorithm = assertion_algorithm(certificate)
    issued = int(now)
    claims = _ClientClaims(
        iss=subscription, sub=subscription, aud=audience, jti=jti, iat=issued, exp=issued + MAX_LIFETIME
    )
    header = {"alg": algorithm, "typ": CLIENT_TYP, "x5t#S256": b64url(thumbprint(certificate))}
    return jws.serialize_compact(header, to_json(claims), _jwk(key), algorithms=[algorithm])


def claimed_subscription(token: str) -> str:
    """The subscription that an assertion *claims*: to look up its certificates, and for nothing else.

    Raises:
        UnauthenticatedError: not an assertion.
    """
    try:
        return _parts(token)[1].sub
    except IntegrityError as error:
        raise _refused(error.message) from None


def verify_client_assertion(token: str, certificates: Iterable[bytes], audience: str, now: float) -> Assertion:
    """Believe a client assertion. That its ``jti`` is used once is the caller's to keep.

    Args:
        token: the ``client_assertion`` parameter.
        certificates: DER (or PEM) of those uploaded to the claimed subscription (:func:`claimed_subscription`), and
            of no other.
        audience: the token endpoint's URL, exactly.
        now: seconds since 1970.

    Raises:
        UnauthenticatedError: not valid, with the reason, which helps the subscription's owner and nobody else.
    """
    try:
        header, claims = _parts(token)
        wanted = unb64url(header.x5t, "certificate thumbprint")
    except IntegrityError as error:
        raise _refused(error.message) from None
    loaded = (load_cer(data) for data in certificates)
    found = next((one for one in loaded if hmac.compare_digest(thumbprint(one), wanted)), None)
    if found is None:
        raise _refused("no certificate of the subscription has this thumbprint", "Upload the .cer file first.")
    try:
        check_certificate_validity(found, now)
        if header.alg != assertion_algorithm(found):
            raise _refused(f"the algorithm must be {assertion_algorithm(found)} for {describe(found)}")
    except BadInputError as error:
        raise _refused(error.message, error.next_step) from None
    try:
        jws.deserialize_compact(token, _jwk(found.public_key()), algorithms=[header.alg])
    except (JoseError, ValueError):
        raise _refused("its signature is not valid") from None
    _check_client_claims(claims, audience, now)
    return Assertion(
        subscription=claims.sub, jti=claims.jti, exp=claims.exp, certificate=found.public_bytes(Encoding.DER)
    )


def _parts(token: str) -> tuple[_ClientHeader, _ClientClaims]:
    parts = token.split(".", 3) if len(token) <= MAX_ASSERTION else []
    if len(parts) != 3:
        raise FormatError("it is not a compact JWT, or larger than 4 KiB")
    header = from_json(unb64url(parts[0], "header"), _ClientHeader, "header")
    if header.typ != CLIENT_TYP or header.alg not in ("PS256", "ES256"):
        raise FormatError("its header must say typ JWT and alg PS256 or ES256")
    return header, from_json(unb64url(parts[1], "claims"), _ClientClaims, "claims")


def _check_client_claims(claims: _ClientClaims, audience: str, now: float) -> None:
    if claims.iss != claims.sub or not claims.sub:
        raise _refused("issuer and subject must both be the subscription")
    if claims.aud != audience:
        raise _refused(f"its audience is not {audience}", "Use the cloud host's address exactly as it is configured.")
    if not 0 < len(claims.jti) <= MAX_JTI:
        raise _refused("it has no proper id (jti)")
    _check_times(claims.iat, claims.exp, claims.nbf, now)


def _check_times(issued: int, expires: int, not_before: int | None, now: float) -> None:
    if not 0 < expires - issued <= MAX_LIFETIME:
        raise _refused("it is valid for more than five minutes, or for no time at all")
    if now >= expires:
        raise _refused("it has expired", "Compare the clocks of both computers.")
    if max(issued, not_before or issued) > now + CLOCK_SKEW:
        raise _refused("it is not valid yet", "Compare the clocks of both computers.")


def _refused(reason: str, next_step: str = "") -> UnauthenticatedError:
    return UnauthenticatedError(f"The assertion is refused: {reason.rstrip('.')}.", next_step=next_step)


def _jwk(key: object) -> RSAKey | ECKey:
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return RSAKey.import_key(key)
    assert isinstance(
        key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey
    )  # assertion_algorithm admits no other
    return ECKey.import_key(key)


def make_device_assertion(key: SigningKey, *, device: str, site: str, body: bytes, now: float, jti: str) -> str:
    """A device's proof for one request to its site's management point, valid for five minutes."""
    issued = int(now)
    claims = DeviceClaims(
        sub=device, aud=site_audience(site), iat=issued, exp=issued + MAX_LIFETIME, jti=jti, bh=body_hash(body)
    )
    return sign_device(claims, key)


def sign_device(claims: DeviceClaims, key: SigningKey) -> str:
    """Sign the claims of a device assertion."""
    return sign(to_json(claims), typ=SignedType.DEVICE_ASSERTION, key=key)


def body_hash(body: bytes) -> str:
    """What ``bh`` must be for this request body."""
    return b64url(hashlib.sha256(body).digest())


def claimed_device(token: str) -> str:
    """The device that an assertion *claims* to come from: to look up its key, and for nothing else.

    Raises:
        UnauthenticatedError: not a device assertion.
    """
    try:
        envelope = take_apart(token, typ=SignedType.DEVICE_ASSERTION)
        return from_json(envelope.payload, DeviceClaims, "device assertion").sub
    except (TrustError, IntegrityError) as error:
        raise _refused(error.message) from None


def verify_device(token: str, public: bytes, audience: str, body: bytes, now: float) -> DeviceClaims:
    """Believe a device assertion.

    Args:
        token: as the device sent it.
        public: the claimed device's raw public key.
        audience: ``site:<code>`` of this site.
        body: the request's body.
        now: seconds since 1970.

    Raises:
        UnauthenticatedError: not this device's assertion for this request, here and now. Whether the device is
            blocked is the caller's to check, and that its ``jti`` is used once where that matters.
    """
    try:
        envelope = take_apart(token, typ=SignedType.DEVICE_ASSERTION)
        if envelope.header.kid != kid_of(public):
            raise TrustError("another key signed it than the device's")
        check_signature(envelope, public)
        claims = from_json(envelope.payload, DeviceClaims, "device assertion")
    except (TrustError, IntegrityError) as error:
        raise _refused(error.message) from None
    if claims.aud != audience or not claims.sub or not 0 < len(claims.jti) <= MAX_JTI:
        raise _refused("it is for another site, or misses a claim")
    if not hmac.compare_digest(claims.bh.encode(), body_hash(body).encode()):
        raise _refused("it belongs to another request body")
    _check_times(claims.iat, claims.exp, None, now)
    return claims
