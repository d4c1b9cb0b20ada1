"""Client assertions (RFC 7523) and device assertions."""

import hmac
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from entrepot.core.encoding import b64url, to_json
from entrepot.core.errors import BadInputError, UnauthenticatedError
from entrepot.protocol import SignedType
from entrepot.protocol.enrolment import DeviceClaims
from entrepot.protocol.tokens import site_audience
from entrepot.trust.assertions import (
    body_hash,
    claimed_device,
    claimed_subscription,
    make_client_assertion,
    make_device_assertion,
    sign_device,
    verify_client_assertion,
    verify_device,
)
from entrepot.trust.certificates import new_management, thumbprint
from entrepot.trust.signing import SigningKey, sign

AUDIENCE = "https://cloud.example:8443/oauth2/token"


@pytest.fixture(params=["rsa", "ec"])
def pair(request, rsa_pair, ec_pair):
    return rsa_pair if request.param == "rsa" else ec_pair


@pytest.fixture
def assertion(hierarchy):
    def make(pair, *, subscription="sub-1", audience=AUDIENCE, now=None, jti="j1"):
        when = hierarchy.now if now is None else now
        return make_client_assertion(pair.key, pair.certificate, subscription, audience, when, jti)

    return make


def raw_signature(algorithm, key, data):
    """A JWS signature, made without any JOSE library."""
    if algorithm == "HS256":
        return hmac.digest(key, data, "sha256")
    if algorithm == "ES256":
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    digest = hashes.SHA384() if algorithm.endswith("384") else hashes.SHA256()
    if algorithm.startswith("RS"):
        return key.sign(data, padding.PKCS1v15(), digest)
    return key.sign(data, padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size), digest)


def by_hand(pair, now, header=None, key=None, **changes):
    """An assertion with any header and claims, really signed; None leaves a member out."""
    algorithm = "PS256" if isinstance(pair.key, rsa.RSAPrivateKey) else "ES256"
    full = {"alg": algorithm, "typ": "JWT", "x5t#S256": b64url(thumbprint(pair.certificate))} | (header or {})
    claims = {"iss": "sub-1", "sub": "sub-1", "aud": AUDIENCE, "jti": "j1", "iat": now, "exp": now + 300} | changes
    parts = [{name: value for name, value in part.items() if value is not None} for part in (full, claims)]
    signed = ".".join(b64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{b64url(raw_signature(full['alg'], key or pair.key, signed.encode()))}"


def test_an_assertion_names_its_subscription_and_certificate(pair, assertion, hierarchy):
    token = assertion(pair)
    assert claimed_subscription(token) == "sub-1"
    found = verify_client_assertion(token, [pair.cer], AUDIENCE, hierarchy.now)
    assert (found.subscription, found.jti, found.exp, found.certificate) == (
        "sub-1",
        "j1",
        hierarchy.now + 300,
        pair.cer,
    )


def test_the_header_is_what_the_cloud_host_demands(pair, assertion):
    header = jws.extract_compact(assertion(pair).encode()).headers()
    algorithm = "PS256" if isinstance(pair.key, rsa.RSAPrivateKey) else "ES256"
    assert header == {"alg": algorithm, "typ": "JWT", "x5t#S256": b64url(thumbprint(pair.certificate))}


def test_an_assertion_that_another_library_made_is_taken(pair, hierarchy):
    kind, key = ("PS256", RSAKey) if isinstance(pair.key, rsa.RSAPrivateKey) else ("ES256", ECKey)
    header = {"alg": kind, "x5t#S256": b64url(thumbprint(pair.certificate))}
    now = hierarchy.now
    claims = {"iss": "s", "sub": "s", "aud": AUDIENCE, "jti": "j", "iat": now, "exp": now + 60}
    theirs = jwt.encode(header, claims, key.import_key(pair.key), algorithms=[kind])
    assert verify_client_assertion(theirs, [pair.cer], AUDIENCE, now).subscription == "s"


def test_an_assertion_made_by_hand_is_taken(pair, hierarchy):
    assert verify_client_assertion(by_hand(pair, hierarchy.now), [pair.cer], AUDIENCE, hierarchy.now).jti == "j1"
    with_nbf = by_hand(pair, hierarchy.now, nbf=hierarchy.now)
    assert verify_client_assertion(with_nbf, [pair.cer], AUDIENCE, hierarchy.now).jti == "j1"


def test_the_certificate_is_found_among_several(pair, rsa_pair, ec_pair, assertion, hierarchy):
    uploaded = [rsa_pair.cer, ec_pair.cer]
    assert verify_client_assertion(assertion(pair), uploaded, AUDIENCE, hierarchy.now).certificate == pair.cer


def test_a_certificate_that_was_not_uploaded_is_refused_even_with_the_same_name_and_key(pair, assertion, hierarchy):
    twin = new_management("Contoso management", 365, "ec", now=hierarchy.now)
    for uploaded in ([], [twin.cer]):
        with pytest.raises(UnauthenticatedError, match="no certificate of the subscription"):
            verify_client_assertion(assertion(pair), uploaded, AUDIENCE, hierarchy.now)


def test_a_thief_of_the_public_certificate_cannot_sign(pair, hierarchy):
    if isinstance(pair.key, rsa.RSAPrivateKey):
        thief = rsa.generate_private_key(65537, 2048)
    else:
        thief = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(UnauthenticatedError, match="signature is not valid"):
        verify_client_assertion(by_hand(pair, hierarchy.now, key=thief), [pair.cer], AUDIENCE, hierarchy.now)


def test_the_public_key_is_no_shared_secret(ec_pair, hierarchy):
    token = by_hand(ec_pair, hierarchy.now, header={"alg": "HS256"}, key=ec_pair.cer)
    with pytest.raises(UnauthenticatedError, match="PS256 or ES256"):
        verify_client_assertion(token, [ec_pair.cer], AUDIENCE, hierarchy.now)


@pytest.mark.parametrize("algorithm", ["RS256", "PS384"])
def test_other_rsa_algorithms_are_refused(rsa_pair, hierarchy, algorithm):
    token = by_hand(rsa_pair, hierarchy.now, header={"alg": algorithm})
    with pytest.raises(UnauthenticatedError, match="PS256 or ES256"):
        verify_client_assertion(token, [rsa_pair.cer], AUDIENCE, hierarchy.now)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "jwt"},
        {"typ": None},
        {"x5t#S256": None},
        {"x5t#S256": "AAAA"},
        {"x5t#S256": "not base64url!"},
        {"kid": "k"},
        {"jku": "https://elsewhere.example"},
        {"x5u": "https://elsewhere.example"},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"], "exp": 1},
    ],
)
def test_a_header_that_says_anything_else_is_refused(pair, hierarchy, header):
    with pytest.raises(UnauthenticatedError):
        verify_client_assertion(by_hand(pair, hierarchy.now, header=header), [pair.cer], AUDIENCE, hierarchy.now)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "sub-2"},
        {"sub": "sub-2"},
        {"iss": "", "sub": ""},
        {"aud": AUDIENCE + "/"},
        {"aud": [AUDIENCE]},
        {"aud": AUDIENCE.upper()},
        {"jti": None},
        {"jti": ""},
        {"jti": "j" * 129},
        {"exp": None},
        {"iat": None},
        {"sub": None},
    ],
    ids=repr,
)
def test_claims_must_be_exact(ec_pair, hierarchy, claims):
    with pytest.raises(UnauthenticatedError):
        verify_client_assertion(by_hand(ec_pair, hierarchy.now, **claims), [ec_pair.cer], AUDIENCE, hierarchy.now)


def test_an_assertion_lives_five_minutes_at_most(ec_pair, hierarchy):
    now = hierarchy.now
    for times in (
        {"exp": now + 301},
        {"iat": now - 1},
        {"iat": now + 121, "exp": now + 200},
        {"nbf": now + 121},
        {"exp": now},
    ):
        with pytest.raises(UnauthenticatedError):
            verify_client_assertion(by_hand(ec_pair, now, **times), [ec_pair.cer], AUDIENCE, now)
    token = by_hand(ec_pair, now)
    assert verify_client_assertion(token, [ec_pair.cer], AUDIENCE, now + 299)
    with pytest.raises(UnauthenticatedError, match="expired"):
        verify_client_assertion(token, [ec_pair.cer], AUDIENCE, now + 300)


def test_an_expired_certificate_authenticates_nobody(pair, assertion, hierarchy):
    later = hierarchy.now + 366 * 86_400
    with pytest.raises(UnauthenticatedError, match=r"Contoso management .* expired"):
        verify_client_assertion(assertion(pair, now=later), [pair.cer], AUDIENCE, later)


def test_an_id_is_needed_to_make_one(ec_pair, assertion):
    for jti in ("", "j" * 129):
        with pytest.raises(BadInputError):
            assertion(ec_pair, jti=jti)


@given(st.text(max_size=300) | st.from_regex(r"[\w-]{0,60}\.[\w-]{0,60}\.[\w-]{0,90}") | st.just("x" * 5000))
def test_foreign_text_is_refused_as_unauthenticated(ec_pair, hierarchy, junk):
    with pytest.raises(UnauthenticatedError):
        verify_client_assertion(junk, [ec_pair.cer], AUDIENCE, hierarchy.now)
    with pytest.raises(UnauthenticatedError):
        claimed_subscription(junk)
    with pytest.raises(UnauthenticatedError):
        claimed_device(junk)
    with pytest.raises(UnauthenticatedError):
        verify_device(junk, bytes(32), "site:PS1", b"", hierarchy.now)


# --- device assertions


@pytest.fixture
def device(hierarchy):
    return hierarchy.fixed_key("device")


@pytest.fixture
def proof(hierarchy, device):
    def make(body=b"body", *, key=device, site="PS1", now=None):
        return make_device_assertion(key, device="dev-1", site=site, body=body, now=now or hierarchy.now, jti="j1")

    return make


def test_a_device_proves_itself_for_one_body(proof, device, hierarchy):
    token = proof()
    assert claimed_device(token) == "dev-1"
    found = verify_device(token, device.public, site_audience("PS1"), b"body", hierarchy.now)
    assert (found.sub, found.jti) == ("dev-1", "j1")
    with pytest.raises(UnauthenticatedError, match="another request body"):
        verify_device(token, device.public, site_audience("PS1"), b"body2", hierarchy.now)


def test_another_devices_key_is_refused(proof, device, hierarchy):
    stranger = SigningKey.generate()
    with pytest.raises(UnauthenticatedError, match="another key"):
        verify_device(proof(key=stranger), device.public, site_audience("PS1"), b"body", hierarchy.now)
    stranger.kid = device.kid
    with pytest.raises(UnauthenticatedError, match="signature"):
        verify_device(proof(key=stranger), device.public, site_audience("PS1"), b"body", hierarchy.now)


def test_an_assertion_for_another_site_is_refused(proof, device, hierarchy):
    with pytest.raises(UnauthenticatedError, match="another site"):
        verify_device(proof(site="PS2"), device.public, site_audience("PS1"), b"body", hierarchy.now)


def test_a_device_assertion_ends_after_five_minutes(proof, device, hierarchy):
    now = hierarchy.now
    assert verify_device(proof(), device.public, site_audience("PS1"), b"body", now + 299)
    for when in (now + 300, now - 121):
        with pytest.raises(UnauthenticatedError):
            verify_device(proof(), device.public, site_audience("PS1"), b"body", when)


def test_claims_out_of_bounds_are_refused_even_when_signed(device, hierarchy):
    now = hierarchy.now
    good = {"sub": "dev-1", "aud": "site:PS1", "iat": now, "exp": now + 300, "jti": "j", "bh": body_hash(b"")}
    assert verify_device(sign_device(DeviceClaims(**good), device), device.public, "site:PS1", b"", now)
    for changes in ({"sub": ""}, {"jti": ""}, {"exp": now + 301}, {"exp": now}, {"bh": "é"}, {"bh": ""}):
        token = sign_device(DeviceClaims(**(good | changes)), device)
        with pytest.raises(UnauthenticatedError):
            verify_device(token, device.public, "site:PS1", b"", now)


def test_a_document_of_another_type_is_no_device_assertion(device, hierarchy):
    claims = DeviceClaims(sub="d", aud="site:PS1", iat=hierarchy.now, exp=hierarchy.now + 9, jti="j", bh=body_hash(b""))
    token = sign(to_json(claims), typ=SignedType.SITE_TOKEN, key=device)
    with pytest.raises(UnauthenticatedError):
        verify_device(token, device.public, "site:PS1", b"", hierarchy.now)
