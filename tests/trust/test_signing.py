"""The signed envelope: what is believed, and everything that is not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from entrepot.core.encoding import b64url, unb64url
from entrepot.core.errors import EntrepotError, FormatError, TrustError
from entrepot.core.secret import Secret
from entrepot.protocol import SignedType
from entrepot.protocol.trust import Role
from entrepot.trust.signing import LIMITS, Ring, SigningKey, kid_of, sign


def believed(hierarchy, document, *, typ=SignedType.POLICY, role=Role.POLICY, **changes):
    arguments = {"now": hierarchy.now, "site": "PS1"} | changes
    return hierarchy.ring.verify(document, typ=typ, role=role, **arguments)


def forged(hierarchy, header, payload=b"{}"):
    """A document that the policy key really signed, under any header."""
    signed = f"{b64url(json.dumps(header).encode())}.{b64url(payload)}"
    return f"{signed}.{b64url(hierarchy.keys[Role.POLICY].sign_bytes(signed.encode()))}"


def test_what_a_key_signs_is_believed_with_its_payload_key_and_site(hierarchy):
    key = hierarchy.keys[Role.POLICY]
    verified = believed(hierarchy, sign(b'{"a":1}', typ=SignedType.POLICY, key=key))
    assert (verified.payload, verified.kid, verified.site) == (b'{"a":1}', key.kid, "PS1")


def test_bytes_and_text_are_the_same_document(hierarchy):
    document = sign(b"x", typ=SignedType.POLICY, key=hierarchy.keys[Role.POLICY])
    assert believed(hierarchy, document.encode()) == believed(hierarchy, document)


def test_another_library_verifies_what_we_sign_and_we_what_it_signs(hierarchy):
    key = hierarchy.keys[Role.POLICY]
    jwk = OKPKey.import_key(
        {"kty": "OKP", "crv": "Ed25519", "x": b64url(key.public), "d": b64url(key.private.reveal())}
    )
    ours = sign(b"payload", typ=SignedType.POLICY, key=key)
    assert jws.deserialize_compact(ours, jwk, algorithms=["Ed25519"]).payload == b"payload"
    header = {"typ": "entrepot-policy", "alg": "Ed25519", "kid": key.kid}
    theirs = jws.serialize_compact(header, b"payload", jwk, algorithms=["Ed25519"])
    assert believed(hierarchy, theirs).payload == b"payload"


@pytest.mark.parametrize("typ", [typ for typ in SignedType if typ is not SignedType.POLICY])
def test_a_document_of_one_type_never_passes_for_another(hierarchy, typ):
    document = sign(b"{}", typ=typ, key=hierarchy.keys[Role.POLICY], show_key=typ is SignedType.TRUST)
    with pytest.raises(EntrepotError):
        believed(hierarchy, document)


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"]},
        {"jku": "https://elsewhere.example/keys"},
        {"x5u": "https://elsewhere.example/cert"},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}},
        {"x5c": ["AA"]},
        {"b64": False},
        {"zip": "DEF"},
        {"typ": "ENTREPOT-POLICY"},
        {"alg": "EdDSA"},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": ["Ed25519"]},
        {"kid": None},
    ],
)
def test_a_header_that_says_anything_else_is_refused_even_when_it_is_signed(hierarchy, extra):
    header = {"alg": "Ed25519", "kid": hierarchy.keys[Role.POLICY].kid, "typ": "entrepot-policy"}
    assert believed(hierarchy, forged(hierarchy, header)).payload == b"{}"
    with pytest.raises(TrustError):
        believed(hierarchy, forged(hierarchy, header | extra))


@pytest.mark.parametrize("missing", ["alg", "kid", "typ"])
def test_a_header_that_says_less_is_refused(hierarchy, missing):
    header = {"alg": "Ed25519", "kid": hierarchy.keys[Role.POLICY].kid, "typ": "entrepot-policy"}
    del header[missing]
    with pytest.raises(TrustError):
        believed(hierarchy, forged(hierarchy, header))


def test_a_key_of_another_role_is_refused(hierarchy):
    document = sign(b"{}", typ=SignedType.POLICY, key=hierarchy.keys[Role.TOKEN])
    with pytest.raises(TrustError, match="is for token, not for policy"):
        believed(hierarchy, document)


def test_a_key_of_another_site_is_refused(hierarchy):
    document = sign(b"{}", typ=SignedType.SITE_TOKEN, key=hierarchy.foreign)
    with pytest.raises(TrustError, match="belongs to site PS2"):
        believed(hierarchy, document, typ=SignedType.SITE_TOKEN, role=Role.TOKEN)


def test_without_a_named_site_every_site_of_the_hierarchy_counts(hierarchy):
    document = sign(b"{}", typ=SignedType.SITE_TOKEN, key=hierarchy.foreign)
    verified = believed(hierarchy, document, typ=SignedType.SITE_TOKEN, role=Role.TOKEN, site=None)
    assert verified.site == "PS2"


def test_a_key_is_good_from_its_first_second_until_before_its_last(hierarchy):
    key = hierarchy.keys[Role.POLICY]
    document = sign(b"{}", typ=SignedType.POLICY, key=key)
    listed = hierarchy.entry(key, Role.POLICY, begins=1000, ends=2000)
    ring = Ring(hierarchy.document(keys=(listed,)))
    for now in (1000, 1999.9):
        assert ring.verify(document, typ=SignedType.POLICY, role=Role.POLICY, now=now).kid == key.kid
    for now in (999.9, 2000):
        with pytest.raises(TrustError, match="valid from 1970"):
            ring.verify(document, typ=SignedType.POLICY, role=Role.POLICY, now=now)


def test_a_stranger_who_borrows_a_key_id_is_refused(hierarchy):
    stranger = SigningKey.generate()
    stranger.kid = hierarchy.keys[Role.POLICY].kid
    with pytest.raises(TrustError, match="signature"):
        believed(hierarchy, sign(b"{}", typ=SignedType.POLICY, key=stranger))


def test_a_strangers_own_key_id_is_not_known(hierarchy):
    with pytest.raises(TrustError, match="does not list"):
        believed(hierarchy, sign(b"{}", typ=SignedType.POLICY, key=SigningKey.generate()))


def test_an_issuer_signs_no_documents(hierarchy):
    key = hierarchy.keys[Role.POLICY]
    ring = Ring(hierarchy.document(keys=(hierarchy.entry(key, Role.CA),)))
    with pytest.raises(TrustError, match="does not list"):
        ring.verify(sign(b"{}", typ=SignedType.POLICY, key=key), typ=SignedType.POLICY, role=Role.CA, now=hierarchy.now)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 6))
def test_a_flipped_bit_anywhere_is_noticed(hierarchy, position, bit):
    document = bytearray(sign(b'{"some":"payload"}', typ=SignedType.POLICY, key=hierarchy.keys[Role.POLICY]).encode())
    document[position % len(document)] ^= 1 << bit
    with pytest.raises(EntrepotError):
        believed(hierarchy, bytes(document))


@given(st.binary(max_size=300) | st.text(max_size=300) | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*"))
def test_foreign_bytes_raise_an_error_of_ours(hierarchy, junk):
    with pytest.raises(EntrepotError):
        believed(hierarchy, junk)


def test_every_type_has_a_limit_and_what_exceeds_it_is_refused_unparsed(hierarchy):
    assert set(LIMITS) == set(SignedType)
    with pytest.raises(FormatError, match="larger than 6144 bytes"):
        hierarchy.ring.verify("x" * 6145, typ=SignedType.CONTENT_TOKEN, role=Role.TOKEN, now=hierarchy.now)
    with pytest.raises(FormatError, match="are allowed"):
        sign(bytes(6144), typ=SignedType.CONTENT_TOKEN, key=hierarchy.keys[Role.TOKEN])


def test_an_overlong_header_is_refused_unparsed(hierarchy):
    header = {"alg": "Ed25519", "kid": "x" * 600, "typ": "entrepot-policy"}
    with pytest.raises(FormatError, match="not a compact JWS"):
        believed(hierarchy, forged(hierarchy, header))


def test_padding_and_stray_bits_make_no_second_spelling(hierarchy):
    head, payload, signature = sign(b"a", typ=SignedType.POLICY, key=hierarchy.keys[Role.POLICY]).split(".")
    assert unb64url(payload) == b"a"
    for spelling in (f"{head}.{payload}==.{signature}", f"{head}.YR.{signature}", f"{head}.{payload}.{signature}\n"):
        with pytest.raises(EntrepotError):
            believed(hierarchy, spelling)


def test_a_key_survives_storage_and_never_prints_itself():
    key = SigningKey.generate()
    again = SigningKey.from_private(key.private)
    assert again.public == key.public
    assert again.kid == kid_of(key.public) == key.kid
    assert key.private.reveal().hex() not in repr(key)
    with pytest.raises(FormatError, match="32 bytes"):
        SigningKey.from_private(Secret(b"short"))


def test_a_ring_lists_the_keys_that_are_valid_now(hierarchy):
    old = hierarchy.fixed_key("old")
    future = hierarchy.fixed_key("future")
    now = hierarchy.now
    extra = (
        hierarchy.entry(old, Role.TOKEN, ends=now),
        hierarchy.entry(future, Role.TOKEN, begins=now + 1),
    )
    ring = Ring(hierarchy.document(keys=(*hierarchy.document().keys, *extra)))
    assert ring.kids(Role.TOKEN, site="PS1", now=now) == (hierarchy.keys[Role.TOKEN].kid,)
    assert set(ring.kids(Role.TOKEN, site="PS1", now=now + 1)) == {hierarchy.keys[Role.TOKEN].kid, future.kid}
