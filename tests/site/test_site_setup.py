"""Setting up a hierarchy with its first site."""

import json
import stat
import tomllib
from pathlib import Path

import msgspec
import pytest

from entrepot.cli.failures import run
from entrepot.core.errors import BadInputError, ConflictError, IntegrityError, NotFoundError, TrustError
from entrepot.core.secret import Secret
from entrepot.core.times import DAY
from entrepot.database.engine import Database
from entrepot.protocol.trust import Role
from entrepot.site.keys.loading import load_keys
from entrepot.site.settings import Home, Settings, load_settings, save_settings
from entrepot.site.setup import NewSite, init_site
from entrepot.trust.root import RootKey, readable, verify_trust
from entrepot.trust.vault import ServerVault

NOW = 1_774_267_200
NEW = NewSite(
    code="PS1",
    name="Contoso",
    url="https://127.0.0.1:8443",
    administrator="admin",
    password=Secret("correct horse battery"),
    passphrase=Secret("a long passphrase"),
)


def test_the_trust_document_names_a_key_for_every_role(home: Home, database: Database) -> None:
    vault = ServerVault.load(home.vault_key)
    with database.reading() as connection:
        keys = load_keys(connection, site="PS1", vault=vault, now=NOW)
    trust = verify_trust(keys.trust_document, keys.hierarchy.root_public)
    assert {entry.role for entry in trust.keys} == set(Role)
    assert (trust.number, trust.epoch, trust.hierarchy) == (1, 1, "Contoso")
    assert keys.token_kids(NOW) == (keys.token.kid,)


def test_the_roots_fingerprint_is_printed_on_the_site_server_without_a_login(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    root = RootKey.load(home.root_key.read_bytes(), Secret("a long passphrase"))
    assert run(["site", "fingerprint", "--home", str(home.folder)]) == 0
    assert capsys.readouterr().out == readable(root.fingerprint) + "\n"
    assert run(["site", "fingerprint", "--home", str(home.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["site"], told["fingerprint"]) == ("PS1", readable(root.fingerprint))


def test_private_files_are_private(home: Home) -> None:
    for path in (home.root_key, home.vault_key, home.tls_key, home.settings_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_the_root_key_opens_with_its_passphrase_only(home: Home) -> None:
    pem = home.root_key.read_bytes()
    assert RootKey.load(pem, Secret("a long passphrase"))
    with pytest.raises(BadInputError):
        RootKey.load(pem, Secret("another passphrase"))


def test_the_database_alone_opens_nothing(home: Home, database: Database, tmp_path: Path) -> None:
    stranger = ServerVault.create(tmp_path / "vault.key")
    with pytest.raises(IntegrityError), database.reading() as connection:
        load_keys(connection, site="PS1", vault=stranger, now=NOW)


def test_expired_keys_are_said_so(home: Home, database: Database) -> None:
    vault = ServerVault.load(home.vault_key)
    with pytest.raises(TrustError, match="no valid key"), database.reading() as connection:
        load_keys(connection, site="PS1", vault=vault, now=NOW + 4000 * DAY)


def test_a_home_is_set_up_once(home: Home) -> None:
    with pytest.raises(ConflictError, match="already"):
        init_site(home.folder, NEW, now=NOW)


def test_an_unfinished_set_up_begins_anew(tmp_path: Path) -> None:
    home = Home(tmp_path / "site")
    init_site(home.folder, NEW, now=NOW)
    home.settings_file.unlink()
    home.database.unlink()
    before = home.root_key.read_bytes()
    init_site(home.folder, NEW, now=NOW)
    assert home.root_key.read_bytes() != before


def test_a_set_up_that_missed_its_last_step_is_finished(home: Home, database: Database) -> None:
    database.close()
    home.settings_file.unlink()
    before = home.root_key.read_bytes()
    other = msgspec.structs.replace(NEW, passphrase=Secret("not the passphrase"))
    with pytest.raises(BadInputError, match="passphrase"):
        init_site(home.folder, other, now=NOW)
    init_site(home.folder, NEW, now=NOW)
    assert home.root_key.read_bytes() == before
    assert load_settings(home).site == "PS1"


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "ps1"},
        {"url": "http://127.0.0.1"},
        {"url": "https://host/path"},
        {"url": "https://"},
        {"password": Secret("short")},
        {"passphrase": Secret("short")},
        {"administrator": ""},
        {"database": "mysql://x"},
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_usable(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(BadInputError):
        init_site(tmp_path / "site", msgspec.structs.replace(NEW, **changes), now=NOW)
    with pytest.raises(NotFoundError):
        load_settings(Home(tmp_path / "site"))


def test_settings_survive_being_written(tmp_path: Path) -> None:
    home = Home(tmp_path)
    settings = Settings(
        site="PS1",
        url="https://site:8443",
        listen="[::1]:8443",
        resolve={"cloud.example": "127.0.0.1:9443", 'odd "name"': "1.2.3.4"},
        transfers=9,
        drain_seconds=0.5,
    )
    save_settings(home, settings)
    assert load_settings(home) == settings
    assert "proxy" not in tomllib.loads(home.settings_file.read_text())


@pytest.mark.parametrize(
    "text",
    ["site = 'PS1'", "nonsense", "site='PS1'\nurl='https://x'\nlisten='x:1'\nunknown=1", "\xff"],
)
def test_settings_that_cannot_be_understood_are_refused(home: Home, text: str) -> None:
    home.settings_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInputError):
        load_settings(home)


def test_settings_out_of_bounds_are_refused(home: Home) -> None:
    with home.settings_file.open("a") as file:
        file.write("transfers = 0\n")
    with pytest.raises(BadInputError, match="transfers"):
        load_settings(home)
