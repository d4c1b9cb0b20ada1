"""Keys and secrets of real server processes: killed in the middle, rolled over under way, brought to another server."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.content.reading import open_root, parts
from entrepot.content.sealing import open_sealed
from entrepot.core.encoding import from_json
from entrepot.core.errors import EntrepotError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.database import contents
from entrepot.database.engine import open_database
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef
from entrepot.protocol.contentapi import ContentInfo, ContentRequest, DistributionInfo, DistributionRequest
from entrepot.protocol.deviceapi import (
    DeploymentInfo,
    DeploymentOptions,
    DeploymentRequest,
    EnrolmentCodeReply,
    EnrolmentCodeRequest,
)
from entrepot.protocol.keysapi import KeysInfo, RollRequest, RotationInfo, RotationRequest, SignedTrust, TrustDraft
from entrepot.protocol.pointapi import PointCode, PointRequest
from entrepot.protocol.siteapi import PREFIX, LoginRequest, Session, TaskInfo, TaskState
from entrepot.protocol.trust import Role, TrustDocument
from entrepot.site.keys.loading import load_keys
from entrepot.site.keys.sitekeys import root_name
from entrepot.site.settings import Home, load_settings
from entrepot.site.setup import NewSite, init_site
from entrepot.trust.root import RootKey, verify_trust
from entrepot.trust.vault import ServerVault
from entrepot.web.http import HttpClient
from entrepot.web.ports import lasting_port
from entrepot.web.tls import TlsTrust

PASSWORD = "correct horse battery"
PASSPHRASE = Secret("a long passphrase")
COMMAND = [sys.executable, "-m", "entrepot"]

pytestmark = pytest.mark.process


class Server:
    """A server process of the command line, ended by its id."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self._child = subprocess.Popen([*COMMAND, *self._arguments], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._child.stdout is not None
        assert self._child.stdout.readline(), self._log.read_text()[-3000:]

    def end(self, number: int = signal.SIGTERM) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            os.kill(child.pid, number)
        child.wait(timeout=60)
        assert child.stdout is not None
        child.stdout.close()


class Estate:
    """A site in a process, and its administrator."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.home = Home(folder / "site")
        self.url = url
        self.server = Server(["site", "serve", "--home", str(self.home.folder)], folder / "site.log")
        ca = self.home.tls_certificate.read_text().split("-----END CERTIFICATE-----\n")[1]
        self.http = HttpClient(TlsTrust.hierarchy(ca + "-----END CERTIFICATE-----\n"))
        self.token = ""

    async def call(self, method: str, path: str, kind: type[Any], body: object = None) -> Any:
        if not self.token:
            login = LoginRequest(name="admin", password=PASSWORD)
            self.token = (await self.http.request_json("POST", f"{self.url}{PREFIX}/login", login, Session)).token
        return await self.http.request_json(method, f"{self.url}{PREFIX}{path}", body, kind, bearer=self.token)

    async def until(self, path: str, kind: type[Any], settled: Any) -> Any:
        deadline = time.monotonic() + 120
        while True:
            found = await self.call("GET", path, kind)
            if settled(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.02)

    async def publish(self, name: str, source: Path) -> None:
        task = await self.call("POST", "/contents", TaskInfo, ContentRequest(name=name, source=str(source)))
        ended = await self.until(f"/tasks/{task.id}", TaskInfo, lambda seen: seen.state.final)
        assert ended.state is TaskState.COMPLETED, ended.error

    def restored(self, home: Home | None = None) -> dict[str, bytes]:
        """All files of all versions, opened with the keys in a home."""
        home = home or self.home
        shelf = Shelf(FolderStore(home.library))

        def read(wanted: SealedRef) -> bytes:
            return shelf.read_whole(ObjectId(wanted.object_id))

        found: dict[str, bytes] = {}
        database = open_database(home.database_url(load_settings(home)))
        with contextlib.closing(database), database.reading() as connection:
            keys = load_keys(connection, site="PS1", vault=ServerVault.load(home.vault_key), now=time.time())
            for version in contents.list_versions(connection):
                ref = keys.open_ref(root_name(version.content, version.number), version.root)
                for part in parts(open_root(read(ref), ref, keys.verify_manifest), read):
                    for entry in part.entries:
                        for extent in entry.extents:
                            plain = open_sealed(read(part.chunks[extent.chunk]), part.chunks[extent.chunk])
                            piece = plain[extent.offset : extent.offset + extent.length]
                            found[entry.path] = found.get(entry.path, b"") + piece
        return found


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    url = f"https://127.0.0.1:{lasting_port('127.0.0.1')}"
    new = NewSite(
        code="PS1",
        name="Contoso",
        url=url,
        administrator="admin",
        password=Secret(PASSWORD),
        passphrase=PASSPHRASE,
    )
    init_site(tmp_path / "site", new, now=time.time())
    made = Estate(tmp_path, url)
    made.server.start()
    yield made
    made.server.end(signal.SIGKILL)
    await made.http.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(4):
        (folder / f"file{number}").write_bytes(os.urandom(12_000_000))
    (folder / "small").write_bytes(b"small")
    return folder


def files_of(source: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in source.iterdir()}


@pytest.mark.long
async def test_a_reseal_that_was_killed_again_and_again_is_finished(estate: Estate, source: Path) -> None:
    await estate.publish("App", source)
    await estate.call("POST", "/keys/rotate", RotationInfo, RotationRequest(compromised=True))
    for pause in (0.0, 0.15, 0.3):
        await estate.until("/keys", KeysInfo, lambda seen: not seen.to_reseal or seen.resealing)
        await asyncio.sleep(pause)
        estate.server.end(signal.SIGKILL)
        estate.server.start()
    info = await estate.until("/keys", KeysInfo, lambda seen: not seen.to_reseal and not seen.resealing)
    assert [(each.number, each.versions) for each in info.generations] == [(1, 0), (2, 1)]
    [version] = (await estate.call("GET", "/contents/App", ContentInfo)).versions
    assert version.plain_size == 48_000_005
    estate.server.end()
    assert await asyncio.to_thread(estate.restored) == files_of(source)


@pytest.mark.long
async def test_a_rotation_that_is_killed_at_any_moment_happened_whole_or_not_at_all(
    estate: Estate, tmp_path: Path
) -> None:
    small = tmp_path / "one"
    small.mkdir()
    (small / "file").write_bytes(b"content" * 1000)
    await estate.publish("App", small)
    draw = random.Random(11)
    wrapping = generation = 1
    for _ in range(6):
        asked = asyncio.create_task(
            estate.call("POST", "/keys/rotate", RotationInfo, RotationRequest(compromised=True))
        )
        await asyncio.sleep(draw.uniform(0.0, 0.05))
        estate.server.end(signal.SIGKILL)
        with contextlib.suppress(EntrepotError):
            await asked
        estate.server.start()
        info = await estate.call("GET", "/keys", KeysInfo)
        newest = max(each.number for each in info.generations)
        assert (info.wrapping - wrapping, newest - generation) in ((0, 0), (1, 1))  # both or neither
        wrapping, generation = info.wrapping, newest
    await estate.call("POST", "/keys/reseal", RotationInfo)
    await estate.until("/keys", KeysInfo, lambda seen: not seen.to_reseal and not seen.resealing)
    estate.server.end()
    assert await asyncio.to_thread(estate.restored) == files_of(small)


@pytest.fixture
async def point(estate: Estate) -> AsyncIterator[Server]:
    """A real point that has enrolled and serves."""
    added = await estate.call(
        "POST", "/points", PointCode, PointRequest(name="Berlin", fallback=True, internet_facing=True)
    )
    home = estate.folder / "point"
    init = ["point", "init", "--home", str(home), "--code", added.code, "--listen", "127.0.0.1:0"]
    await command(*init)
    process = Server(["point", "serve", "--home", str(home)], estate.folder / "point.log")
    process.start()
    yield process
    process.end(signal.SIGKILL)


async def command(*arguments: str, given: str = "") -> str:
    """Run a command; its standard output."""
    done = await asyncio.to_thread(
        subprocess.run, [*COMMAND, *arguments], input=given, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


async def roll(estate: Estate, *roles: Role, **how: Any) -> None:
    made = await estate.call("POST", "/keys/roll", TrustDraft, RollRequest(roles=roles, **how))
    root = RootKey.load(estate.home.root_key.read_bytes(), PASSPHRASE)
    signed = root.sign_trust(from_json(made.document, TrustDocument, "draft"))
    await estate.call("POST", "/keys/trust", KeysInfo, SignedTrust(document=signed))


@pytest.mark.long
async def test_points_and_clients_follow_a_rollover_of_every_key_and_a_new_sealing(
    estate: Estate, point: Server, source: Path
) -> None:
    assert point
    await estate.publish("App", source)
    body = DistributionRequest(points=("Berlin",))
    await estate.call("POST", "/contents/App/distribution", list[DistributionInfo], body)
    path = "/contents/App/distribution"
    await estate.until(path, list[DistributionInfo], lambda rows: rows[0].state.settled)
    options = DeploymentOptions(allow_remote=True, allow_fallback=True)
    deployment = DeploymentRequest(content="App", collection="All devices", options=options)
    await estate.call("POST", "/deployments", DeploymentInfo, deployment)
    homes = []
    for number in range(4):
        code = await estate.call("POST", "/enrolment-codes", EnrolmentCodeReply, EnrolmentCodeRequest())
        homes.append(str(estate.folder / f"client{number}"))
        await command("client", "enrol", "--home", homes[-1], "--name", f"pc{number}", "--code", code.code)

    async def fetched(home: str, to: str) -> None:
        target = estate.folder / to
        await command("client", "fetch", "--home", home, "App", "--to", str(target))
        found = {name.name: name.read_bytes() for name in target.iterdir() if name.is_file()}
        assert found == files_of(source)

    await fetched(homes[0], "before")
    await roll(estate, Role.MANIFEST, Role.TOKEN, Role.POLICY, Role.CONTROL, raise_epoch=True)
    await fetched(homes[1], "between")  # perhaps before the point has the new documents: no outage either way
    info = await estate.until("/keys", KeysInfo, lambda seen: not seen.behind)
    assert (info.trust_number, info.epoch) == (2, 2)
    await estate.until("/keys", KeysInfo, lambda seen: _newest_signs(seen))
    await fetched(homes[0], "after")  # a client that knew the old keys
    await fetched(homes[2], "fresh")
    await estate.call("POST", "/keys/rotate", RotationInfo, RotationRequest(compromised=True))
    await fetched(homes[1], "sealing")
    await estate.until("/keys", KeysInfo, lambda seen: not seen.to_reseal and not seen.resealing)
    await fetched(homes[2], "fresh")  # what it has whole stays as it is
    await estate.until(path, list[DistributionInfo], lambda rows: rows[0].state.settled)
    await fetched(homes[3], "anew")


def _newest_signs(info: KeysInfo) -> bool:
    states = [key.state for key in info.signing if key.role is Role.TOKEN]
    return states == ["signing", "listed"]


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "credentials"))
    yield


@pytest.mark.long
@pytest.mark.usefixtures("credentials")
async def test_the_commands_roll_rotate_export_and_import(estate: Estate, source: Path) -> None:
    record = RootKey.load(estate.home.root_key.read_bytes(), PASSPHRASE)
    await command(
        *("login", estate.url, "--fingerprint", record.fingerprint.hex(), "--name", "admin", "--password-stdin"),
        given=PASSWORD + "\n",
    )
    await estate.publish("App", source)
    passphrase = estate.folder / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("a long passphrase\n")
    root, secret = ["--root-key", str(estate.home.root_key)], ["--passphrase-file", str(passphrase)]
    out = await command("key", "roll", "token", *root, *secret, "--yes", "--json")
    assert '"trust_number": 2' in out
    draft, signed = str(estate.folder / "trust.draft"), str(estate.folder / "trust.jws")
    await command("key", "trust", "draft", draft, "--role", "policy")
    await command("key", "trust", "sign", draft, signed, *root, *secret, "--yes")
    assert verify_trust(_text(signed), record.public).number == 3
    assert '"trust_number": 3' in await command("key", "trust", "publish", signed, "--json")
    assert "App" in await command("key", "rotate", "--compromised", "--dry-run")
    await command("key", "rotate", "--compromised", "--yes")
    await estate.until("/keys", KeysInfo, lambda seen: not seen.to_reseal and not seen.resealing)
    assert "newest" in await command("key", "list")
    assert "nothing" in await command("key", "status")
    target, home = str(estate.folder / "ps1.secrets"), str(estate.home.folder)
    exported = json.loads(await command("key", "export", target, "--home", home, *secret, "--json"))
    assert exported["file"] == target
    assert exported["secrets"] > 0
    assert exported["keys"] > 0
    estate.server.end()
    other = Home(estate.folder / "other")
    shutil.copytree(estate.home.folder, other.folder)
    for lost in (other.vault_key, other.tls_key, other.tls_certificate, other.root_key):
        lost.unlink()
    await command("key", "import", target, "--home", str(other.folder), *secret)
    assert await asyncio.to_thread(estate.restored, other) == files_of(source)
    moved = Server(["site", "serve", "--home", str(other.folder)], estate.folder / "other.log")
    moved.start()
    try:
        await estate.publish("Again", source)
    finally:
        moved.end()


def _text(path: str) -> str:
    return Path(path).read_text().strip()
