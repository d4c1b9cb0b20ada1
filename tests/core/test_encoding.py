import tomllib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.encoding import b64url, from_json, pack, to_json, toml_value, unb64url, unpack
from entrepot.core.errors import FormatError


class Thing(msgspec.Struct, frozen=True, array_like=True):
    name: str
    numbers: tuple[int, ...] = ()


class Document(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    raw: bytes = b""


THINGS = st.builds(Thing, name=st.text(), numbers=st.lists(st.integers(0, 2**63 - 1)).map(tuple))


@given(THINGS)
def test_packed_values_read_back_and_are_canonical(thing: Thing) -> None:
    assert unpack(pack(thing), Thing, "thing") == thing
    assert pack(unpack(pack(thing), Thing, "thing")) == pack(thing)


@given(st.text(), st.binary())
def test_documents_read_back(name: str, raw: bytes) -> None:
    document = Document(name=name, raw=raw)
    assert from_json(to_json(document), Document, "document") == document
    assert from_json(to_json(document).decode(), Document, "document") == document


def test_mappings_are_written_in_one_order() -> None:
    assert to_json({"b": 1, "a": 2}) == to_json({"a": 2, "b": 1})
    assert pack({"b": 1, "a": 2}) == pack({"a": 2, "b": 1})


@given(st.binary(max_size=100))
def test_foreign_bytes_are_refused_by_the_formats_name(data: bytes) -> None:
    for read in (unpack, from_json):
        try:
            read(data, Thing, "thing")
        except FormatError as error:
            assert "The thing cannot be read" in str(error)


@pytest.mark.parametrize("depth", [1000, 200_000])
def test_deep_nesting_is_an_error_not_a_crash(depth: int) -> None:
    with pytest.raises(FormatError):
        unpack(b"\x91" * depth, Thing, "thing")
    with pytest.raises(FormatError):
        from_json(b"[" * depth, Document, "document")


@given(st.binary(max_size=60))
def test_base64url_reads_back(data: bytes) -> None:
    text = b64url(data)
    assert unb64url(text) == data
    assert not set(text) & set("+/=")


@pytest.mark.parametrize("text", ["A", "AA=", "AA==", "A+", "A/", "Ä", "AB", "AA\n", " AA", "A A"])
def test_other_spellings_are_refused(text: str) -> None:
    """``AB`` decodes to the same byte as ``AA``: two spellings of one value would be two names of one thing."""
    with pytest.raises(FormatError, match="token is not"):
        unb64url(text, "token")


_SCALARS = (
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@given(key=st.text(), value=_SCALARS | st.lists(st.text()))
def test_settings_read_back_from_toml_whatever_they_are(key: str, value: object) -> None:
    text = f"{toml_value(key)} = {toml_value(value)}\n"  # type: ignore[arg-type]  # one of its types each
    assert tomllib.loads(text) == {key: value}


def test_toml_escapes_what_json_does_not() -> None:
    assert toml_value("a\x7fb") == '"a\\u007fb"'
    assert toml_value(True) == "true"
