"""Exported secrets: they open with their passphrase only, and a hostile file costs little."""

import base64
import textwrap
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.core.encoding import pack
from entrepot.core.errors import BadInputError, FormatError
from entrepot.core.secret import Secret
from entrepot.protocol.trust import Role
from entrepot.trust import escrow
from entrepot.trust.escrow import Exported, ExportedKey, Header, protect, read_header, unprotect

PASSPHRASE = Secret("several words to keep apart")
GOLDEN = Path(__file__).parent / "golden" / "exported-secrets.pem"
EXPORTED = Exported(
    {"content/1": b"c" * 32, "dedupe": b"d" * 32},
    (ExportedKey("kid", Role.TOKEN, b"p" * 32, b"k" * 32, 1, 2, 1, 0, 0),),
)
HEADER = Header(1, "Contoso", b"r" * 32, "PS1", 5, 1, 64 * 1024, 1, b"s" * 16, b"n" * 12)


@pytest.fixture(scope="module")
def file() -> bytes:
    return protect(EXPORTED, PASSPHRASE, hierarchy="Contoso", root=b"r" * 32, site="PS1", now=5)


def armoured(header: Header, sealed: bytes = b"x" * 40) -> bytes:
    body = base64.b64encode(pack([pack(header), sealed])).decode()
    lines = ["-----BEGIN ENTREPOT SECRETS-----", *textwrap.wrap(body, 64), "-----END ENTREPOT SECRETS-----", ""]
    return "\n".join(lines).encode()


def test_what_is_protected_opens_with_its_passphrase(file: bytes) -> None:
    header, exported = unprotect(file, PASSPHRASE)
    assert (header.hierarchy, header.site, header.root) == ("Contoso", "PS1", b"r" * 32)
    assert exported == EXPORTED
    assert b"c" * 16 not in file


def test_the_header_says_what_the_file_is_for_without_the_passphrase(file: bytes) -> None:
    header = read_header(file)
    assert (header.site, header.created) == ("PS1", 5)
    assert header.memory_kib >= 64 * 1024
    assert header.time >= 3


def test_a_wrong_passphrase_opens_nothing(file: bytes) -> None:
    with pytest.raises(BadInputError, match="passphrase does not open"):
        unprotect(file, Secret("another one entirely"))


def test_the_header_is_proven_too(file: bytes) -> None:
    header = read_header(file)
    sealed = msgspec.msgpack.decode(base64.b64decode(b"".join(file.split(b"\n")[1:-2])))[1]
    with pytest.raises(BadInputError, match="was changed"):
        unprotect(armoured(msgspec.structs.replace(header, site="PS2"), sealed), PASSPHRASE)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_kib": 2 * 1024 * 1024},
        {"memory_kib": 1024},
        {"time": 11},
        {"time": 0},
        {"lanes": 17},
        {"salt": b"s"},
        {"root": b"r"},
        {"hierarchy": "x" * 129},
    ],
)
def test_parameters_out_of_bounds_are_refused_before_anything_is_spent_on_them(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    spent: list[object] = []
    monkeypatch.setattr(escrow, "hash_secret_raw", lambda *given, **more: spent.append((given, more)))
    with pytest.raises(FormatError, match="out of bounds"):
        unprotect(armoured(msgspec.structs.replace(HEADER, **changes)), PASSPHRASE)
    assert not spent


def test_another_version_is_named() -> None:
    with pytest.raises(FormatError, match="version 2"):
        read_header(armoured(msgspec.structs.replace(HEADER, version=2)))


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(FormatError, match="no file of exported secrets"):
        read_header(armoured(HEADER, bytes(2**20)))


@settings(max_examples=200)
@given(data=st.binary(max_size=500))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    body = base64.b64encode(data)
    for attempt in (data, b"-----BEGIN ENTREPOT SECRETS-----\n" + body + b"\n-----END ENTREPOT SECRETS-----"):
        with pytest.raises(FormatError):
            read_header(attempt)


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(BadInputError, match="too short"):
        protect(EXPORTED, Secret("short"), hierarchy="Contoso", root=b"r" * 32, site="PS1", now=5)


def test_what_earlier_versions_exported_opens() -> None:
    header, exported = unprotect(GOLDEN.read_bytes(), PASSPHRASE)
    assert (header.hierarchy, header.site, header.created) == ("Contoso", "PS1", 1_774_274_400)
    assert exported == EXPORTED
