"""Exported secrets bring a site back on another computer: what was published before can be opened."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from entrepot.content.reading import open_root, parts
from entrepot.content.sealing import open_sealed
from entrepot.core.errors import BadInputError, ConflictError, FormatError, IntegrityError, TrustError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.database import contents
from entrepot.database.cloud import ManagementCertificate, add_certificate
from entrepot.database.engine import open_database
from entrepot.database.hierarchy import sealed_secrets
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef
from entrepot.protocol.keysapi import RotationInfo, RotationRequest
from entrepot.site.cloud.providers import management_secret
from entrepot.site.exporting import ImportedInfo, export_secrets, import_secrets
from entrepot.site.keyloading import load_keys
from entrepot.site.keys import root_name
from entrepot.site.settings import Home, load_settings
from entrepot.site.setup import NewSite, init_site
from entrepot.trust.vault import ServerVault

PASSPHRASE = Secret("several words to keep apart")


@pytest.fixture
async def exported(site: Any, source: Path, tmp_path: Path) -> bytes:
    """A site with two generations of content, one of it isolated; its exported secrets."""
    await site.publish("App", source)
    await site.publish("Closed", source, isolated=True)
    await site.call("POST", "/keys/rotate", RotationInfo, RotationRequest(compromised=True))
    # the first version of App stays in generation 1, as if its task had been cancelled
    tasks = await site.call("GET", "/tasks", list[Any], query="kind=reseal")
    for task in tasks:
        if "App" in task["title"]:
            await site.call("POST", f"/tasks/{task['id']}/cancel", dict[str, Any])
    await site.run_tasks()
    (source / "later").write_bytes(b"later" * 100)
    await site.next_version("App")
    target = tmp_path / "ps1.secrets"
    assert export_secrets(site.home.folder, target, PASSPHRASE, now=site.clock()) == 4 + 5
    return contents_of(target)


def contents_of(path: Path) -> bytes:
    return path.read_bytes()


def stored(home: Home) -> dict[str, bytes]:
    database = open_database(home.database_url(load_settings(home)))
    with database.reading() as connection:
        found = sealed_secrets(connection, "PS1")
    database.close()
    return found


def elsewhere(site: Any, folder: Path, *, vault: bool = False) -> Home:
    """A restored home on another computer: settings, database and library, without what never leaves a server."""
    shutil.copytree(site.home.folder, folder, ignore=shutil.ignore_patterns("*.lock", "root.key"))
    home = Home(folder)
    for lost in (home.tls_key, home.tls_certificate, home.vault_key):
        lost.unlink()
    if vault:
        ServerVault.create(home.vault_key)
    return home


def everything(home: Home, now: float) -> dict[str, dict[str, bytes]]:
    """All files of all versions, opened with the keys of this home."""
    shelf = Shelf(FolderStore(home.library))
    database = open_database(home.database_url(load_settings(home)))

    def read(wanted: SealedRef) -> bytes:
        return shelf.read_whole(ObjectId(wanted.object_id))

    found: dict[str, dict[str, bytes]] = {}
    with database.reading() as connection:
        keys = load_keys(connection, site="PS1", vault=ServerVault.load(home.vault_key), now=now, clock=lambda: now)
        for version in contents.list_versions(connection):
            ref = keys.open_ref(root_name(version.content, version.number), version.root)
            files = found.setdefault(f"{version.content} {version.number}", {})
            for part in parts(open_root(read(ref), ref, keys.verify_manifest), read):
                for entry in part.entries:
                    for extent in entry.extents:
                        plain = open_sealed(read(part.chunks[extent.chunk]), part.chunks[extent.chunk])
                        piece = plain[extent.offset : extent.offset + extent.length]
                        files[entry.path] = files.get(entry.path, b"") + piece
    database.close()
    return found


@pytest.mark.parametrize("vault", [False, True])
async def test_what_was_published_before_can_be_opened_after_an_import(
    site: Any, exported: bytes, tmp_path: Path, vault: bool
) -> None:
    expected = everything(site.home, site.clock())
    assert len(expected) == 3
    home = elsewhere(site, tmp_path / "other", vault=vault)
    info = import_secrets(home.folder, exported, PASSPHRASE, now=site.clock())
    assert info == ImportedInfo(site="PS1", secrets=4, keys=5, versions=3, lost=())
    assert everything(home, site.clock()) == expected
    assert home.tls_certificate.exists()
    again = import_secrets(home.folder, exported, PASSPHRASE, now=site.clock())
    assert (again.versions, again.lost) == (0, ())  # nothing is left to do


async def test_certificates_whose_keys_stay_closed_are_named(site: Any, exported: bytes, tmp_path: Path) -> None:
    """They are not exported; where the vault is another one they have to be imported again."""
    home = elsewhere(site, tmp_path / "other", vault=True)
    database = open_database(home.database_url(load_settings(home)))
    with database.transaction() as connection:
        for number, vault in enumerate((site.keys.vault, ServerVault.load(home.vault_key))):
            name = f"cloud {number}"
            row = ManagementCertificate(
                id=f"cert-{number}", name=name, subject=name, thumbprint=name, key_kind="ec", not_before=0, not_after=1,
                imported=0, certificate=b"der", sealed_key=vault.seal(management_secret(f"cert-{number}"), PASSPHRASE),
            )  # fmt: skip
            add_certificate(connection, row)
    database.close()
    assert import_secrets(home.folder, exported, PASSPHRASE, now=site.clock()).certificates == ("cloud 0",)


async def test_without_the_import_nothing_opens(site: Any, exported: bytes, tmp_path: Path) -> None:
    home = elsewhere(site, tmp_path / "other", vault=True)
    assert exported
    with pytest.raises(IntegrityError):
        everything(home, site.clock())


async def test_a_wrong_passphrase_changes_nothing(site: Any, exported: bytes, tmp_path: Path) -> None:
    home = elsewhere(site, tmp_path / "other")
    before = stored(home)
    with pytest.raises(BadInputError, match="passphrase does not open"):
        import_secrets(home.folder, exported, Secret("not this one at all"), now=site.clock())
    assert not home.vault_key.exists()
    assert stored(home) == before


async def test_secrets_of_another_hierarchy_are_refused(site: Any, exported: bytes, tmp_path: Path) -> None:
    new = NewSite(
        code="PS1",
        name="Fabrikam",
        url="https://127.0.0.1:8444",
        administrator="admin",
        password=Secret("correct horse battery"),
        passphrase=Secret("a long passphrase"),
    )
    init_site(tmp_path / "fabrikam", new, now=site.clock())
    with pytest.raises(TrustError, match="not ours"):
        import_secrets(tmp_path / "fabrikam", exported, PASSPHRASE, now=site.clock())


async def test_an_older_export_never_replaces_what_works_and_is_not_enough_for_what_came_later(
    site: Any, exported: bytes, tmp_path: Path
) -> None:
    await site.call("POST", "/keys/rotate", RotationInfo, RotationRequest(compromised=True))
    await site.run_tasks()
    expected = everything(site.home, site.clock())
    home = elsewhere(site, tmp_path / "other")
    with pytest.raises(ConflictError, match="lacks content/3"):
        import_secrets(home.folder, exported, PASSPHRASE, now=site.clock())
    # on the site itself it does no harm
    import_secrets(site.home.folder, exported, PASSPHRASE, now=site.clock())
    assert everything(site.home, site.clock()) == expected


async def test_an_export_overwrites_nothing_and_wants_a_long_passphrase(site: Any, tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(BadInputError, match="too short"):
        export_secrets(site.home.folder, target, Secret("short"), now=site.clock())
    target.write_text("mine")
    with pytest.raises(ConflictError, match="exists"):
        export_secrets(site.home.folder, target, PASSPHRASE, now=site.clock())
    assert target.read_text() == "mine"


async def test_a_file_that_is_none_is_refused(site: Any) -> None:
    with pytest.raises(FormatError, match="no file of exported secrets"):
        import_secrets(site.home.folder, b"-----BEGIN CERTIFICATE-----", PASSPHRASE, now=site.clock())
