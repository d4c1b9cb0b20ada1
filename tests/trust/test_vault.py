"""Secrets at rest: only the server they were sealed to opens them, under the name they were sealed with."""

import stat
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import ConflictError, EntrepotError, FormatError, IntegrityError, NotFoundError
from entrepot.core.secret import Secret
from entrepot.trust.vault import OVERHEAD, ServerVault, wrap


@pytest.fixture
def vault(tmp_path):
    return ServerVault.create(tmp_path / "vault.key")


@pytest.fixture(scope="module")
def shared_vault(tmp_path_factory):
    return ServerVault.create(tmp_path_factory.mktemp("vault") / "vault.key")


@given(st.binary(max_size=2000), st.text(max_size=50))
def test_what_is_sealed_opens_under_its_name(shared_vault, secret, name):
    sealed = shared_vault.seal(name, Secret(secret))
    assert len(sealed) == len(secret) + OVERHEAD
    assert shared_vault.open(name, sealed).reveal() == secret


def test_the_key_survives_a_restart(vault, tmp_path):
    sealed = vault.seal("a", Secret("s"))
    again = ServerVault.load(tmp_path / "vault.key")
    assert again.public == vault.public
    assert again.open("a", sealed).reveal_text() == "s"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permission bits")
def test_the_key_file_is_for_its_owner_only(vault, tmp_path):
    assert stat.S_IMODE((tmp_path / "vault.key").stat().st_mode) == 0o600


def test_a_key_file_is_never_replaced(vault, tmp_path):
    with pytest.raises(ConflictError):
        ServerVault.create(tmp_path / "vault.key")
    assert ServerVault.load(tmp_path / "vault.key").public == vault.public


def test_a_missing_or_damaged_key_file_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="entrepot key import"):
        ServerVault.load(tmp_path / "vault.key")
    for size in (0, 31, 33):
        (tmp_path / "vault.key").write_bytes(bytes(size))
        with pytest.raises(FormatError, match="damaged"):
            ServerVault.load(tmp_path / "vault.key")


def test_anyone_wraps_to_a_server_and_only_that_server_opens(vault, shared_vault):
    sealed = wrap(vault.public, "hierarchy secret", Secret("s"))
    assert vault.open("hierarchy secret", sealed).reveal() == b"s"
    with pytest.raises(IntegrityError, match="does not open on this server"):
        shared_vault.open("hierarchy secret", sealed)


def test_a_secret_moved_under_another_name_does_not_open(vault):
    sealed = vault.seal("certificate:1", Secret("s"))
    with pytest.raises(IntegrityError):
        vault.open("certificate:2", sealed)


@given(position=st.integers(0, 200), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed(shared_vault, position, bit):
    sealed = bytearray(shared_vault.seal("n", Secret(b"some secret")))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(EntrepotError):
        shared_vault.open("n", bytes(sealed))


@given(st.binary(max_size=100))
def test_foreign_bytes_raise_an_error_of_ours(shared_vault, junk):
    with pytest.raises(EntrepotError):
        shared_vault.open("n", junk)


def test_a_public_key_of_low_order_is_refused(vault):
    with pytest.raises(FormatError):
        wrap(bytes(32), "n", Secret("s"))
    with pytest.raises(IntegrityError):
        vault.open("n", b"\x01" + bytes(32) + bytes(20))


def test_two_sealings_of_one_secret_differ(vault):
    assert vault.seal("n", Secret("s")) != vault.seal("n", Secret("s"))


def test_size_is_bounded(vault):
    with pytest.raises(FormatError, match="1 MiB"):
        vault.seal("n", Secret(bytes(1024 * 1024 + 1)))


def test_a_vault_does_not_print_its_key(vault):
    assert repr(vault) == "ServerVault(***)"
