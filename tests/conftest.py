"""What holds for all tests: no property fails because the machine was busy; servers that several rooms talk to."""

import base64
import email.utils
import gc
import hashlib
import hmac
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.objects.settings import StoreKind, StoreSettings
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.web import ports
from entrepot.web.ports import lasting_port

from .databases import PostgresServer, migrate, share_statements

# How long it takes is no property of what is tested: a deadline, or a look at how slow a draw is, is a wall clock.
settings.register_profile("entrepot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("entrepot")


HERE = Path(__file__).parent
END_TO_END = ("end_to_end", "cloud_kills")
"""The folders that `make test` looks for end-to-end tests in."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests begin first, or one of them would be what everybody waits for at the end. Files stay together
    otherwise: they share fixtures, and the tests of the demonstration follow each other.

    Raises:
        UsageError: `make test` would run a test neither with the end-to-end ones nor with the others.
    """
    for item in items:
        if item.get_closest_marker("end_to_end") and item.path.relative_to(HERE).parts[0] not in END_TO_END:
            raise pytest.UsageError(f"{item.nodeid}: END_TO_END in the Makefile and in {__name__} do not lead to it.")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Next to nothing is garbage while thousands of tests are collected: to look costs an eighth of that time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay until the end: spare each full garbage collection walking over them."""
    gc.collect()
    gc.freeze()


NO_WAY_OUT = HERE / "no_way_out"
AZURITE = HERE.parent / "build/azurite/node_modules/azurite/dist/src/blob/main.js"
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's well-known account; it opens nothing else."""


@pytest.fixture(scope="session")
def no_way_out() -> Callable[[str], dict[str, str]]:
    """Makes an environment in which the kernel kills processes that open a connection: those with these arguments."""

    def make(arguments: str = "") -> dict[str, str]:
        if sys.platform != "linux":
            return dict(os.environ)
        return os.environ | {"PYTHONPATH": str(NO_WAY_OUT), "NO_WAY_OUT": arguments}

    return make


class StoreServer:
    """A process that speaks as an object store. Its ``settings`` lead to a bucket, each time below a new prefix."""

    def __init__(self, command: list[str], ready: str, log: Path) -> None:
        self._command, self._ready, self._log = command, ready, log
        self.port = lasting_port("127.0.0.1")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, each time on the same port, and wait until it listens."""
        command = [word.replace("PORT", str(self.port)) for word in self._command]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + 120
        while not (found := re.search(self._ready, self._log.read_text())):
            assert self._process.poll() is None and time.monotonic() < until, self._log.read_text()[-2000:]
            time.sleep(0.05)
        assert int(found[1]) == self.port

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections are accepted, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """SIGTERM: an orderly end."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)


class MotoServer(StoreServer):
    """Amazon S3, as the moto server plays it, by plain HTTP."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "PORT"]
        super().__init__(command, r"Running on http://127\.0\.0\.1:(\d+)", folder / "moto.log")
        self._credentials = folder / "s3.toml"
        self._credentials.write_text('access_key_id = "test"\nsecret_access_key = "test-secret"\n')
        self._credentials.chmod(0o600)

    def start(self) -> None:
        super().start()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/entrepot-test", method="PUT")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200

    def settings(self) -> StoreSettings:
        return StoreSettings(
            kind=StoreKind.S3,
            bucket="entrepot-test",
            prefix=f"test-{secrets.token_hex(6)}",
            endpoint=f"http://127.0.0.1:{self.port}",
            credentials=str(self._credentials),
        )


class AzuriteServer(StoreServer):
    """Azure Blob Storage, as Azurite plays it, by HTTPS with a certificate of a CA of its own."""

    def __init__(self, folder: Path) -> None:
        node = shutil.which("node")
        assert node and AZURITE.is_file(), "Azurite is not installed; run: make azurite"
        authority = create_authority("Azurite's own", now=time.time())
        key = new_tls_key()
        certificate = authority.issue_server(key.public_key(), names=["localhost"], ips=["127.0.0.1"], now=time.time())
        self.ca = folder / "ca.pem"
        self.ca.write_text(authority.pem())
        (folder / "certificate.pem").write_text(to_pem(certificate))
        (folder / "key.pem").write_bytes(key_pem(key).reveal())
        self._credentials = folder / "azure.toml"
        self._credentials.write_text(f'account_key = "{AZURITE_KEY}"\n')
        self._credentials.chmod(0o600)
        command = [node, str(AZURITE), "--disableTelemetry", "--location", str(folder), "--blobPort", "PORT"]
        command += ["--cert", str(folder / "certificate.pem"), "--key", str(folder / "key.pem")]
        ready = r"successfully listens on https://127\.0\.0\.1:(\d+)"
        super().__init__(command, ready, folder / "azurite.log")

    def start(self) -> None:
        super().start()
        self._make_container("entrepot-test")  # SIGKILL may have lost it: Azurite writes what it knows now and then

    def settings(self) -> StoreSettings:
        return StoreSettings(
            kind=StoreKind.AZURE,
            bucket="entrepot-test",
            prefix=f"test-{secrets.token_hex(6)}",
            endpoint=f"https://127.0.0.1:{self.port}/{AZURITE_ACCOUNT}",
            account=AZURITE_ACCOUNT,
            credentials=str(self._credentials),
            ca=str(self.ca),
        )

    def _make_container(self, name: str) -> None:
        """By shared key, as the service's documentation describes: obstore makes no containers."""
        date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
        resource = f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}\nrestype:container"
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
        mac = hmac.new(base64.b64decode(AZURITE_KEY), signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(mac).decode()}",
            "Content-Length": "0",
        }
        url = f"https://127.0.0.1:{self.port}/{AZURITE_ACCOUNT}/{name}?restype=container"
        request = urllib.request.Request(url, method="PUT", headers=headers)
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            urllib.request.urlopen(request, context=context).close()
        except urllib.error.HTTPError as error:
            with error:
                assert error.code == 409, error.read()  # it is there


@pytest.fixture(scope="session", autouse=True)
def no_proxy_to_this_machine() -> None:
    """Test servers are on this machine: no proxy of its user stands between."""
    os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1", "localhost")))


def share_of_ports(environ: Mapping[str, str]) -> Sequence[int]:
    """Of the ports to keep, those that this worker of pytest-xdist takes, and no other; alone it takes all."""
    workers = int(environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = int(environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return ports.USUAL[own % workers :: workers]


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> Iterator[None]:
    """Servers of two workers would share a port that both found free before either listened there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports, "USUAL", share_of_ports(os.environ))
        yield


@pytest.fixture(scope="session", autouse=True)
def shared_statements() -> Iterator[None]:
    """See ``share_statements``."""
    with pytest.MonkeyPatch.context() as patch:
        share_statements(patch)
        yield


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """A moto server, one for all tests."""
    server = MotoServer(tmp_path_factory.mktemp("moto"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteServer]:
    """An Azurite, one for all tests. Without it the tests fail: `make azurite` installs it."""
    server = AzuriteServer(tmp_path_factory.mktemp("azurite"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_azurite(tmp_path: Path) -> Iterator[AzuriteServer]:
    """An Azurite that one test may kill."""
    server = AzuriteServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one for all tests."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """Name of a database with all tables, to copy."""
    postgres.execute("CREATE DATABASE entrepot_template")
    migrate(postgres.url("entrepot_template"))
    return "entrepot_template"


@pytest.fixture
def postgres_database(postgres: PostgresServer, postgres_template: str) -> Iterator[Database]:
    """An empty database with all tables, on PostgreSQL."""
    opened = open_database(postgres.new_database(postgres_template))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded database with all tables, to copy."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    migrate(sqlite_url(path))
    return path
