"""Exported secrets bring a site back on another computer: what was published before can be opened."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from entrepot.content.reading import open_root, parts
from entrepot.content.sealing import open_sealed
from entrepot.core.errors import BadInputError, ConflictError, FormatError, IntegrityError, TrustError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.database import cloud, clouddetails, contents, devices, notifications
from entrepot.database.engine import open_database
from entrepot.database.hierarchy import add_role_key, sealed_secrets
from entrepot.database.notifications import MailServer, Subscription
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef
from entrepot.protocol.alertapi import Channel, Language, Security
from entrepot.protocol.cloudapi import AzureOptions
from entrepot.protocol.enrolment import Kind
from entrepot.protocol.keysapi import RotationInfo, RotationRequest
from entrepot.protocol.trust import KeyEntry, Role
from entrepot.site.cloud.providers import management_secret, registry_secret, service_secret
from entrepot.site.enrolment import code_secret
from entrepot.site.keys.exporting import ExportedInfo, ImportedInfo, export_secrets, import_secrets
from entrepot.site.keys.loading import load_keys
from entrepot.site.keys.sitekeys import root_name, sealed_signing_key
from entrepot.site.notifications.outbox import mail_password, webhook_secret
from entrepot.site.settings import Home, load_settings
from entrepot.site.setup import NewSite, init_site
from entrepot.trust import escrow
from entrepot.trust.signing import SigningKey
from entrepot.trust.vault import ServerVault, wrap

from ..rows import certificate_row
from .cloud_rows import cloud_row

PASSPHRASE = Secret("several words to keep apart")


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that a reader takes: what a passphrase costs is not the matter here."""
    monkeypatch.setattr(escrow, "_TIME", 1)
    monkeypatch.setattr(escrow, "_MEMORY_KIB", 64 * 1024)


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
    assert export_secrets(site.home.folder, target, PASSPHRASE, now=site.clock()) == ExportedInfo(
        file=str(target), secrets=4, keys=5, others=0, closed=()
    )
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


def kept_by_the_vault(site: Any, connection: Connection) -> None:
    """One of everything that the vault seals beside secrets and keys, each with ``secret`` sealed in it."""

    def sealed(name: str) -> bytes:
        return wrap(site.keys.vault.public, name, Secret(b"secret"))

    certificate = msgspec.structs.replace(certificate_row(), sealed_key=sealed(management_secret("cert-1")))
    cloud.add_certificate(connection, certificate)
    cloud.add_cloud_point(
        connection, msgspec.structs.replace(cloud_row(), sealed_key=sealed(service_secret("pt-cloud")))
    )
    azure = AzureOptions(tenant=GUID, application=GUID, image="reg.example/gateway", registry_user="puller")
    clouddetails.keep_options(connection, "pt-cloud", azure, sealed(registry_secret("pt-cloud")))
    server = MailServer(
        host="smtp.example", port=587, security=Security.STARTTLS, account="ops", sender="ops@example.com",
        authority="", changed=1, sealed=sealed(mail_password("PS1")),
    )  # fmt: skip
    notifications.set_mail_server(connection, "PS1", server)
    for number in (1, 2):
        hook = Subscription(
            id=f"asub-{number}", name=f"pager {number}", channel=Channel.WEBHOOK, target="https://hooks.example/x",
            language=Language.ENGLISH, types=(), severities=(), digest_minutes=0, private_networks=False,
            authority="", site="PS1", created=1, sealed=sealed(webhook_secret(f"asub-{number}")),
        )  # fmt: skip
        notifications.add_subscription(connection, hook)
    code = devices.Code(
        id="code-1", kind=Kind.DEVICE, name="", sealed=sealed(code_secret("code-1")), uses_left=1, expires=2**40
    )
    devices.add_code(connection, code, now=site.clock())


GUID = "01234567-89ab-cdef-0123-456789abcdef"
CERTIFICATES = {"entrepot certificate import", "entrepot cloud renew-certificate"}


@pytest.mark.parametrize("certificates", [False, True])
async def test_passwords_come_back_and_what_stays_closed_is_named_with_what_to_do(
    site: Any, tmp_path: Path, certificates: bool
) -> None:
    """Keys of certificates come back only when they were exported, enrolment codes never, nor what changed since."""
    with site.database.transaction() as connection:
        kept_by_the_vault(site, connection)
    target = tmp_path / "ps1.secrets"
    told = export_secrets(site.home.folder, target, PASSPHRASE, now=site.clock(), certificates=certificates)
    assert (told.others, told.closed) == (6 if certificates else 4, ())
    with site.database.transaction() as connection:  # a secret that is not what it was when it was exported
        before = notifications.get_subscription(connection, "pager 2")
        changed = site.keys.vault.seal(webhook_secret(before.id), Secret(b"another"))
        new = msgspec.structs.replace(before, sealed=changed)
        notifications.change_subscription(connection, before, new, now=int(site.clock()))
    home = elsewhere(site, tmp_path / "other", vault=True)
    info = import_secrets(home.folder, target.read_bytes(), PASSPHRASE, now=site.clock())
    assert info.others == told.others - 1
    named = {each.remedy.partition(" --")[0] for each in info.closed}
    always = {
        "entrepot alert subscription change 'pager 2'",
        "entrepot device withdraw code-1, then: entrepot device code",
    }
    assert always <= named
    assert len(named) == 2 if certificates else len(named) == 4
    for command in CERTIFICATES:
        assert any(each.startswith(command) for each in named) is not certificates
    database = open_database(home.database_url(load_settings(home)))
    vault = ServerVault.load(home.vault_key)
    with database.reading() as connection:
        server = notifications.get_mail_server(connection, "PS1")
        hook = notifications.get_subscription(connection, "pager 1")
        kept = clouddetails.detail(connection, "pt-cloud")
        point = cloud.get_cloud_point(connection, "cloud-eu")
    database.close()
    assert server is not None and kept.azure is not None and kept.azure.registry_user == "puller"
    opened = {
        mail_password("PS1"): server.sealed,
        webhook_secret("asub-1"): hook.sealed,
        registry_secret("pt-cloud"): kept.sealed_secret,
    } | ({service_secret("pt-cloud"): point.sealed_key} if certificates else {})
    assert {vault.open(name, sealed).reveal() for name, sealed in opened.items()} == {b"secret"}
    again = import_secrets(home.folder, target.read_bytes(), PASSPHRASE, now=site.clock())
    assert (again.others, again.closed) == (0, info.closed)


async def test_an_export_names_what_does_not_open_on_this_server(site: Any, tmp_path: Path) -> None:
    with site.database.transaction() as connection:
        cloud.add_certificate(connection, certificate_row())
    told = export_secrets(site.home.folder, tmp_path / "ps1.secrets", PASSPHRASE, now=site.clock(), certificates=True)
    assert [each.remedy for each in told.closed] == [f"entrepot certificate import {certificate_row().name} FILE.pfx"]
    assert told.others == 0


async def test_an_export_that_lacks_a_signing_key_is_refused(site: Any, exported: bytes, tmp_path: Path) -> None:
    with site.database.transaction() as connection:
        made = SigningKey.generate()
        entry = KeyEntry(kid="newer", role=Role.TOKEN, site="PS1", public=made.public, not_before=0, not_after=2**40)
        add_role_key(connection, sealed_signing_key(made, entry, site.keys.vault))
    home = elsewhere(site, tmp_path / "other")
    with pytest.raises(ConflictError, match="lacks the signing keys token newer"):
        import_secrets(home.folder, exported, PASSPHRASE, now=site.clock())


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
