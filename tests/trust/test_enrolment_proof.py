"""The proof of an enrolment code."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import UnauthenticatedError
from entrepot.core.secret import Secret
from entrepot.protocol.enrolment import EnrolRequest, Kind
from entrepot.trust.enrolment import check_mac, enrolment_mac, key_fingerprint

SECRET = bytes(range(16))


def request(**changes):
    fields = {"nonce": b"n" * 16, "kind": Kind.DEVICE, "name": "PC-1", "public_key": bytes(32), "csr": b""}
    mac = enrolment_mac(SECRET, **fields)
    return msgspec.structs.replace(EnrolRequest(code_id="c", mac=mac, **fields), **changes)


def test_who_knows_the_secret_is_believed():
    check_mac(SECRET, request())
    check_mac(Secret(SECRET), request())


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": b"m" * 16},
        {"kind": Kind.POINT},
        {"name": "PC-2"},
        {"public_key": bytes(31) + b"\x01"},
        {"csr": b"x"},
        {"mac": b""},
        {"mac": bytes(32)},
    ],
)
def test_nothing_can_be_changed_on_the_way(change):
    with pytest.raises(UnauthenticatedError, match="new enrolment code"):
        check_mac(SECRET, request(**change))


def test_another_code_is_refused():
    with pytest.raises(UnauthenticatedError):
        check_mac(bytes(16), request())


@given(
    st.tuples(st.binary(max_size=4), st.text(max_size=4), st.binary(max_size=4), st.binary(max_size=4)),
    st.tuples(st.binary(max_size=4), st.text(max_size=4), st.binary(max_size=4), st.binary(max_size=4)),
)
def test_no_two_requests_have_one_mac(first, second):
    macs = [
        enrolment_mac(SECRET, nonce=nonce, kind=Kind.POINT, name=name, public_key=public, csr=csr)
        for nonce, name, public, csr in (first, second)
    ]
    assert (macs[0] == macs[1]) == (first == second)


def test_a_fingerprint_is_for_people_to_compare():
    assert key_fingerprint(bytes(32)).startswith("6668-7AAD-F862-BD77-")
