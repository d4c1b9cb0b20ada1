"""The one-line text form of an enrolment code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError
from entrepot.protocol.enrolment import EnrolmentCode, parse_enrolment_code

CODE = EnrolmentCode(
    url="https://site.contoso.com", site="PS1", code_id="code-1", secret=bytes(16), fingerprint=bytes(32)
)


def test_a_code_reads_back_also_with_what_copying_adds() -> None:
    assert parse_enrolment_code(CODE.encode()) == CODE
    assert parse_enrolment_code(f"  {CODE.encode()}\r\n") == CODE


def test_a_code_never_prints_its_secret() -> None:
    assert "secret=***" in repr(CODE)


@given(st.integers(0, len(CODE.encode()) - 1))
def test_a_truncated_code_is_refused_with_advice(length: int) -> None:
    with pytest.raises(BadInputError, match="Copy the whole line"):
        parse_enrolment_code(CODE.encode()[:length])


def test_a_code_for_an_address_without_tls_is_refused() -> None:
    plain = EnrolmentCode(url="http://site", site="PS1", code_id="c", secret=bytes(16), fingerprint=bytes(32))
    with pytest.raises(BadInputError):
        parse_enrolment_code(plain.encode())
