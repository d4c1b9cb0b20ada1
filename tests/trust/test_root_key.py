"""The hierarchy root and its trust document."""

import base64

import msgspec
import pytest

from entrepot.core.encoding import b64url, to_json
from entrepot.core.errors import BadInputError, EntrepotError, FormatError, TrustError
from entrepot.core.secret import Secret
from entrepot.protocol import SignedType
from entrepot.protocol.trust import KeyEntry, Role
from entrepot.trust import root as root_module
from entrepot.trust.root import (
    RootKey,
    check_trust,
    fingerprint,
    readable,
    verify_trust,
    verify_trust_by_fingerprint,
)
from entrepot.trust.signing import SigningKey, kid_of, sign

PASSPHRASE = Secret("correct horse battery staple")


@pytest.fixture(scope="module")
def pem():
    return RootKey.create(PASSPHRASE)


def test_a_root_key_opens_with_its_passphrase_only(pem):
    root = RootKey.load(pem, PASSPHRASE)
    assert root.public in base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    with pytest.raises(BadInputError, match="passphrase does not open"):
        RootKey.load(pem, Secret("correct horse battery stable"))


def test_the_file_holds_neither_the_key_nor_the_passphrase(pem):
    root = RootKey.load(pem, PASSPHRASE)
    private = root._key.private.reveal()
    body = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    assert private not in body
    assert PASSPHRASE.reveal() not in body
    assert private.hex() not in repr(root)


def test_a_short_passphrase_is_refused():
    with pytest.raises(BadInputError, match="too short"):
        RootKey.create(Secret("1234567"))


def test_a_file_with_another_public_key_written_into_it_does_not_open(pem):
    other = RootKey.generate().public
    body = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    swapped = body.replace(RootKey.load(pem, PASSPHRASE).public, other)
    assert swapped != body
    swapped = b"\n".join([pem.splitlines()[0], base64.b64encode(swapped), pem.splitlines()[-1]])
    with pytest.raises(BadInputError, match="does not open"):
        RootKey.load(swapped, PASSPHRASE)


@pytest.mark.parametrize(
    ("n", "r", "p"), [(2**30, 8, 1), (2**20, 16, 1), (2**16 + 1, 8, 1), (1, 8, 1), (2**14, 0, 1), (2**14, 8, 99)]
)
def test_a_file_that_asks_for_too_much_work_is_refused_before_any_is_done(n, r, p):
    file = root_module._RootFile(
        version=1, public=bytes(32), n=n, r=r, p=p, salt=bytes(16), nonce=bytes(12), sealed=bytes(48)
    )
    body = base64.b64encode(root_module.pack(file)).decode()
    with pytest.raises(FormatError, match="out of bounds"):
        RootKey.load(
            f"-----BEGIN ENTREPOT ROOT KEY-----\n{body}\n-----END ENTREPOT ROOT KEY-----\n".encode(), PASSPHRASE
        )


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"hello",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN ENTREPOT ROOT KEY-----\n!!!\n-----END ENTREPOT ROOT KEY-----\n",
        b"-----BEGIN ENTREPOT ROOT KEY-----\nAAAA\n-----END ENTREPOT ROOT KEY-----\n",
        b"-----BEGIN ENTREPOT ROOT KEY-----\n" + b"A" * 5000 + b"\n-----END ENTREPOT ROOT KEY-----\n",
        b"\xff\xfe" * 40,
    ],
)
def test_other_files_are_no_root_key_files(junk):
    with pytest.raises(FormatError):
        RootKey.load(junk, PASSPHRASE)


def test_a_trust_document_is_believed_by_key_and_by_fingerprint(hierarchy):
    document = hierarchy.document()
    signed = hierarchy.root.sign_trust(document)
    assert verify_trust(signed, hierarchy.root.public) == document
    assert verify_trust_by_fingerprint(signed.encode(), hierarchy.root.fingerprint) == document


def test_another_root_is_refused_and_its_fingerprint_shown(hierarchy):
    other = RootKey.generate()
    signed = other.sign_trust(hierarchy.document())
    with pytest.raises(TrustError, match=readable(other.fingerprint)):
        verify_trust(signed, hierarchy.root.public)


def test_the_roots_public_key_in_the_header_proves_nothing_by_itself(hierarchy):
    stranger = SigningKey.generate()
    honest = hierarchy.root.sign_trust(hierarchy.document(1))
    head = honest.split(".", 1)[0]
    payload = b64url(to_json(hierarchy.document(2)))
    signature = b64url(stranger.sign_bytes(f"{head}.{payload}".encode()))
    with pytest.raises(TrustError, match="signature"):
        verify_trust(f"{head}.{payload}.{signature}", hierarchy.root.public)


def test_a_trust_document_without_the_roots_key_is_refused(hierarchy):
    signed = sign(to_json(hierarchy.document()), typ=SignedType.TRUST, key=hierarchy.fixed_key("root"))
    with pytest.raises(TrustError, match="misses the one it must carry"):
        verify_trust(signed, hierarchy.root.public)


def change(hierarchy, **fields):
    first, *rest = hierarchy.document().keys
    return hierarchy.document(keys=(msgspec.structs.replace(first, **fields), *rest))


def test_no_key_stands_twice_even_in_another_role_or_site(hierarchy):
    first = hierarchy.document().keys[0]
    for other in ({"role": Role.CONTROL}, {"site": "PS9"}, {}):
        twice = hierarchy.document(keys=(first, msgspec.structs.replace(first, **other)))
        with pytest.raises(FormatError, match="twice"):
            check_trust(twice)


def test_malformed_documents_are_not_even_signed(hierarchy):
    wrong = [
        hierarchy.document(version=2),
        hierarchy.document(number=0),
        hierarchy.document(epoch=-1),
        hierarchy.document(hierarchy=""),
        change(hierarchy, kid="AAAAAAAAAAAAAAAA"),
        change(hierarchy, site=""),
        change(hierarchy, not_before=10, not_after=10),
        change(hierarchy, not_after=10**18),
        hierarchy.document(
            keys=(
                KeyEntry(kid=kid_of(b"short"), role=Role.TOKEN, site="PS1", public=b"short", not_before=0, not_after=1),
            )
        ),
    ]
    for document in wrong:
        with pytest.raises(FormatError):
            hierarchy.root.sign_trust(document)


def test_a_malformed_document_is_refused_even_with_a_good_signature(hierarchy):
    signed = sign(
        to_json(change(hierarchy, site="")), typ=SignedType.TRUST, key=hierarchy.fixed_key("root"), show_key=True
    )
    with pytest.raises(FormatError, match="malformed"):
        verify_trust(signed, hierarchy.root.public)


def test_the_root_gets_no_second_role(hierarchy):
    listed = hierarchy.entry(hierarchy.fixed_key("root"), Role.TOKEN)
    with pytest.raises(FormatError, match="second role"):
        verify_trust(hierarchy.root.sign_trust(hierarchy.document(keys=(listed,))), hierarchy.root.public)


def test_a_document_of_a_later_version_says_so(hierarchy):
    signed = sign(
        to_json(hierarchy.document(version=7)), typ=SignedType.TRUST, key=hierarchy.fixed_key("root"), show_key=True
    )
    with pytest.raises(FormatError, match="has version 7"):
        verify_trust(signed, hierarchy.root.public)


def test_a_fingerprint_reads_in_groups_of_four(hierarchy):
    text = readable(fingerprint(hierarchy.root.public))
    groups = text.split("-")
    assert len(groups) == 16
    assert bytes.fromhex("".join(groups)) == hierarchy.root.fingerprint


def test_every_error_of_verification_is_one_of_ours(hierarchy):
    signed = hierarchy.root.sign_trust(hierarchy.document())
    for cut in range(0, len(signed), 97):
        with pytest.raises(EntrepotError):
            verify_trust(signed[:cut], hierarchy.root.public)
