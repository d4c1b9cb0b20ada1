"""Fixtures of the cloud room: a small hierarchy, a cloud host in processes of its own, a site's provider, clients."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.host.setup import HostIdentity, init_host
from entrepot.cloud.providers.host import HostProvider
from entrepot.content.objectset import encode_set
from entrepot.core.encoding import to_json, unpack
from entrepot.core.errors import FormatError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol import transactions as tx
from entrepot.protocol.cloudhost import ServiceSpec, ServiceStatus
from entrepot.protocol.control import ControlDocument, GatewaySettings, ServiceState
from entrepot.protocol.transactions import Record
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.certificates import Pair, new_management
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.trust.root import RootKey
from entrepot.trust.signing import SigningKey, sign
from entrepot.trust.tokens import mint_content_token
from entrepot.web.dataplane import Holder
from entrepot.web.http import HttpClient
from entrepot.web.tls import TlsTrust

from .. import waiting
from .alone import Alone

POINT = "pt-0123456789abcdef"
FQDN = "cloud1.contoso.example"
SERVE_HOST = (
    "import sys; from pathlib import Path; from entrepot.cloud.host.server import serve_host;"
    "serve_host(Path(sys.argv[1]), command=(sys.executable, '-m', 'entrepot.cloud.gateway'))"
)


@pytest.fixture
def make_record() -> Callable[[int], Record]:
    """A record that can be told from others by its number."""

    def make(number: int) -> Record:
        return Record(
            time=1_700_000_000_000 + number,
            device=f"dev-{number:016x}",
            set_id=bytes(32),
            object_id=number.to_bytes(32, "big"),
            status=200,
            sent=number,
            duration=5,
        )

    return make


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of all instances' journals."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


class Site:
    """A root, one key a role, an issuer, some objects in a set: enough of a site to run a cloud point."""

    def __init__(self, count: int = 6, size: int = 700_000) -> None:
        self.root = RootKey.generate()
        self.token_key, self.control_key = SigningKey.generate(), SigningKey.generate()
        self.authority = create_authority("Contoso", now=time.time())
        source = random.Random(7)
        objects = [source.randbytes(size + index) for index in range(count)]
        self.objects = {object_id_of(data): data for data in objects}
        big = source.randbytes(4 * 2**20) * 4  # more than all buffers between a gateway and a client that pauses
        self.big = object_id_of(big)
        self.objects[self.big] = big
        encoded = b"".join(encode_set(sorted(self.objects)))
        self.set_id = object_id_of(encoded)
        self.everything: dict[ObjectId, bytes] = {**self.objects, self.set_id: encoded}
        self._counter = 0

    @property
    def counter(self) -> int:
        """The last control document's."""
        return self._counter

    def trust(self, number: int = 1) -> str:
        now = int(time.time())
        keys = tuple(
            KeyEntry(
                kid=key.kid, role=role, site="PS1", public=key.public, not_before=now - HOUR, not_after=now + 99 * HOUR
            )
            for key, role in ((self.token_key, Role.TOKEN), (self.control_key, Role.CONTROL))
        )
        document = TrustDocument(hierarchy="Contoso", number=number, epoch=1, issued=now, keys=keys)
        return self.root.sign_trust(document)

    def control(
        self,
        *,
        point: str = POINT,
        state: ServiceState = ServiceState.RUNNING,
        counter: int | None = None,
        lifetime: int = 8 * HOUR,
        revoked_devices: tuple[str, ...] = (),
        settings: GatewaySettings = GatewaySettings(segment_seconds=1.0, minimum_rate=1),  # noqa: B008  # frozen
        bounded: bool = False,
    ) -> str:
        number = counter or self._counter + 1
        self._counter = max(self._counter, number)
        now = int(time.time())
        document = ControlDocument(
            site="PS1",
            point=point,
            fresh=Freshness(epoch=1, counter=number, issued=now, expires=now + lifetime),
            state=state,
            token_kids=(self.token_key.kid,),
            revoked_devices=revoked_devices,
            settings=settings,
            bounded=bounded or msgspec.UNSET,
        )
        return sign(to_json(document), typ=SignedType.CONTROL, key=self.control_key)

    def token(
        self,
        device: str = "dev-1",
        *,
        audience: str = POINT,
        sets: tuple[bytes, ...] | None = None,
        allow: int = 0,
        lifetime: int = 8 * HOUR,
    ) -> str:
        return mint_content_token(
            self.token_key,
            site="PS1",
            device=device,
            audience=audience,
            sets=sets or (self.set_id,),
            now=time.time(),
            jti=secrets.token_hex(8),
            allow=allow,
            lifetime=lifetime,
        )

    def spec(self, instances: int = 2, *, fqdn: str = FQDN) -> ServiceSpec:
        key = new_tls_key()
        certificate = self.authority.issue_server(key.public_key(), names=[fqdn], now=time.time())
        return ServiceSpec(
            point=POINT,
            fqdn=fqdn,
            root=self.root.public,
            certificate=to_pem(certificate, self.authority.certificate),
            private_key=key_pem(key).reveal_text(),
            instances=instances,
        )

    async def fill(self, holder: Holder) -> None:
        """Send documents and objects, as a site does."""
        await holder.put_document("trust", self.trust().encode())
        await holder.put_document("control", self.control().encode())
        for object_id, data in self.everything.items():
            await holder.put(object_id, len(data), lambda data=data: [data])  # type: ignore[misc]  # bound now


class HostProcess:
    """A cloud host in a process of its own, on a home of its own.

    Attributes:
        program: what it runs.
    """

    program = SERVE_HOST

    def __init__(
        self, home: Path, identity: HostIdentity, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.home, self.identity = home, identity
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self.program, str(self.home)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text()[-3000:]
        assert json.loads(line) == {"ready": True, "role": "host", "url": self.identity.url}

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def gateways(self) -> list[int]:
        """Process ids of this home's gateway instances, dead parents' ones too."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    arguments = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"entrepot.cloud.gateway" in arguments and any(str(self.home).encode() in one for one in arguments):
                    found.append(int(folder.name))
        return found

    def log(self) -> str:
        return self._log.read_text()

    def key_folder(self) -> Path:
        mark = hashlib.sha256(os.fsencode(self.home.resolve())).hexdigest()[:16]
        return Path(f"/dev/shm/entrepot-{os.getuid()}-{mark}")


@pytest.fixture(scope="session")
def site() -> Site:
    """Made once: keys are costly. Counters of control documents only grow."""
    return Site()


@pytest.fixture(scope="session")
def management() -> Pair:
    """A management certificate with its key."""
    return new_management("Contoso site PS1", 30, "ec", now=time.time())


@pytest.fixture
def host(tmp_path: Path, no_way_out: Callable[[], dict[str, str]]) -> Iterator[HostProcess]:
    """A running cloud host that cannot open a connection, and no gateway of it can (R7)."""
    home = tmp_path / "host"
    identity = init_host(home, "127.0.0.1:0", now=time.time())
    process = HostProcess(home, identity, tmp_path / "host.log", no_way_out())
    process.start()
    yield process
    process.end()
    assert process.gateways() == []


@pytest.fixture
def host_process(tmp_path: Path) -> Callable[[Path, HostIdentity], HostProcess]:
    """Makes processes for homes that a test sets up itself."""
    return lambda home, identity: HostProcess(home, identity, tmp_path / "host.log")


@pytest.fixture
def administration(host: HostProcess) -> HostAdministration:
    """What the host's own administrator does, in another process than the host."""
    return HostAdministration(host.home)


@pytest.fixture
async def provider(
    host: HostProcess, administration: HostAdministration, management: Pair
) -> AsyncIterator[HostProvider]:
    """A site's provider, with a subscription and an uploaded certificate."""
    subscription = administration.add_subscription("contoso")
    administration.upload_certificate("contoso", management.cer)
    async with make_provider(host, subscription.id, management) as made:
        yield made


def make_provider(host: HostProcess, subscription: str, pair: Pair) -> HostProvider:
    return HostProvider(
        url=host.identity.url,
        pin=host.identity.pin,
        subscription=subscription,
        certificate=pair.cer,
        private_key=key_pem(pair.key),
    )


@pytest.fixture
def providers(host: HostProcess) -> Callable[[str, Pair], HostProvider]:
    """Makes providers for other subscriptions and certificates."""
    return lambda subscription, pair: make_provider(host, subscription, pair)


Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """Waits for something that will come true."""
    return waiting.until


Journalled = Callable[[Path, Holder, Iterable[ObjectId]], Awaitable[None]]


@pytest.fixture
def journalled(collect: Callable[[Holder], Awaitable[dict[str, list[Record]]]]) -> Journalled:
    """Waits until downloads of these objects are recorded where SIGKILL cannot take them from: on the disk, or shipped.

    Gateways promise that within a second, which is much for a processor and little for a busy machine.
    """

    async def wait(state: Path, holder: Holder, objects: Iterable[ObjectId]) -> None:
        wanted = {bytes(one) for one in objects}

        async def recorded() -> bool:
            shipped = [record for records in (await collect(holder)).values() for record in records]
            return wanted <= {record.object_id for record in (*in_journals(state), *shipped)}

        await waiting.until(recorded, "records on the disk")

    return wait


def in_journals(state: Path) -> list[Record]:
    """What the journals of all instances below a folder hold now."""
    found: list[Record] = []
    for path in state.rglob("*.journal"):
        with contextlib.suppress(FileNotFoundError, FormatError):  # shipped meanwhile, or just begun
            whole = iter(tx.frames(path.read_bytes(), torn_tail=True))
            next(whole, None)  # the header
            for _, payload in whole:
                found += unpack(payload, list[Record], "frame")
    return found


Running = Callable[[str, int], Awaitable[ServiceStatus]]


@pytest.fixture
def running(provider: HostProvider, until: Until) -> Running:
    """Waits until a service has that many running instances, and no more."""

    async def wait(name: str, instances: int) -> ServiceStatus:
        async def is_so() -> bool:
            status = await provider.status(name)
            states = [instance.state for instance in status.instances]
            return status.state == "running" and states == ["running"] * instances

        await until(is_so)
        return await provider.status(name)

    return wait


class Client:
    """A device that downloads from a cloud point."""

    def __init__(self, site: Site, status: ServiceStatus) -> None:
        port = status.address.rpartition(":")[2]
        self.base = f"https://{FQDN}:{port}"
        self._ca = site.authority.pem()
        self.http = HttpClient(TlsTrust.hierarchy(site.authority.pem()), {FQDN: "127.0.0.1"})

    async def read(self, object_id: ObjectId, token: str) -> bytes:
        return await self.http.read_object(self.base, object_id, bearer=token)

    async def begin(self, object_id: ObjectId, token: str) -> "SlowDownload":
        """Begin a download and read its head only."""
        port = int(self.base.rpartition(":")[2])
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        context = ssl.create_default_context(cadata=self._ca)
        reader, writer = await asyncio.open_connection(sock=raw, ssl=context, server_hostname=FQDN, limit=16 * 1024)
        writer.write(
            f"GET /objects/{object_id.hex()} HTTP/1.1\r\nHost: {FQDN}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return SlowDownload(reader, writer)


class SlowDownload:
    """A download whose client takes its time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def close(self) -> None:
        self._writer.transport.abort()

    async def rest(self, *, pause: float = 0.0) -> bytes:
        """Everything until the end, however it ends; ``pause`` seconds between two reads."""
        gathered = bytearray()
        try:
            while len(gathered) < 16 * 2**20 and (piece := await self._reader.read(64 * 1024)):
                gathered += piece
                await asyncio.sleep(pause)
        except (ConnectionError, ssl.SSLError):
            pass
        self._writer.transport.abort()
        return bytes(gathered)


@pytest.fixture
async def client_of(site: Site) -> AsyncIterator[Callable[[ServiceStatus], Client]]:
    """Makes clients of a service."""
    made: list[Client] = []

    def make(status: ServiceStatus) -> Client:
        made.append(Client(site, status))
        return made[-1]

    yield make
    for client in made:
        await client.http.close()


@pytest.fixture
def alone(tmp_path: Path, site: Site) -> Iterator[Alone]:
    """A gateway without a host that is not started yet."""
    made = Alone(tmp_path, site)
    yield made
    made.end()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Alone]:
    """A filled gateway that serves, for tests that change nothing of it."""
    made = Alone(tmp_path_factory.mktemp("gateway"), site)
    asyncio.run(site.fill(made.holder))
    made.start()
    yield made
    made.end()


@pytest.fixture
def collect() -> Callable[[Holder], Awaitable[dict[str, list[Record]]]]:
    """All transaction records in a store, per instance, with every chain checked."""

    async def gather(holder: Holder) -> dict[str, list[Record]]:
        page = await holder.list_documents(tx.TX_PREFIX)
        found: dict[str, list[Record]] = {}
        previous: dict[str, tuple[int, bytes]] = {}
        for key in sorted(page.keys, key=lambda key: key.split("/")[2:]):
            data = await holder.get_document(key)
            header, batches = tx.decode_segment(data)
            sequence, digest = previous.get(header.instance, (0, bytes(32)))
            assert (header.sequence, header.previous) == (sequence, digest), key
            previous[header.instance] = (sequence + 1, hashlib.sha256(data).digest())
            found.setdefault(header.instance, []).extend(record for batch in batches for record in batch)
        return found

    return gather
