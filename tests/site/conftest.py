"""A site in this process, reached as an ASGI application; points are shelves in memory."""

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from argon2 import PasswordHasher

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import EntrepotError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.database import administrators
from entrepot.database.engine import Database, open_database
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol.contentapi import ContentInfo, ContentRequest, DistributionRequest
from entrepot.protocol.deviceapi import EnrolmentCodeReply, EnrolmentCodeRequest
from entrepot.protocol.enrolment import EnrolReply, EnrolRequest, Kind, NonceReply, parse_enrolment_code
from entrepot.protocol.pointapi import PointCode, PointRequest
from entrepot.protocol.siteapi import PREFIX, LoginRequest, Session, TaskInfo, TaskState
from entrepot.site.distribution import DistributionEngine
from entrepot.site.keys.loading import load_keys
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.site.sending import Sender
from entrepot.site.server import SiteServer
from entrepot.site.settings import Home, load_settings
from entrepot.site.setup import NewSite, init_site
from entrepot.trust.assertions import make_device_assertion
from entrepot.trust.authority import make_csr, new_tls_key
from entrepot.trust.enrolment import enrolment_mac
from entrepot.trust.signing import SigningKey
from entrepot.trust.vault import ServerVault
from entrepot.web.asgi import App, send_problem
from entrepot.web.dataplane import Pieces, ShelfHolder
from entrepot.web.problems import error_from_problem

NOW = 1_774_267_200  # 2026-03-23T12:00:00Z
PASSWORD = "correct horse battery"
T = TypeVar("T")


class Ticking:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Answer(msgspec.Struct):
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: Any, method: str, path: str, body: bytes = b"", *, bearer: str = "", peer: str = "127.0.0.1", query: str = ""
) -> Answer:
    """One request to an ASGI application."""
    headers = [(b"host", b"site"), (b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", b"application/json"))
    if bearer:
        headers.append((b"authorization", f"Bearer {bearer}".encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": headers,
        "client": (peer, 50000),
        "server": ("site", 443),
        "state": {},
    }
    sent: list[dict[str, Any]] = []
    answered = asyncio.Event()
    inbox = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if inbox:
            return inbox.pop()
        await answered.wait()  # the client stays until it has its answer
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered.set()

    try:
        await app(scope, receive, send)
    except EntrepotError as error:  # as web.server does
        await send_problem(send, error)
    start = sent[0]
    named = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], named, b"".join(message.get("body", b"") for message in sent[1:]))


class Device:
    """A device with its key, as the client would behave."""

    def __init__(self, site: "SiteInProcess", name: str) -> None:
        self.site = site
        self.name = name
        self.key = SigningKey.generate()
        self.id = ""

    async def request(self, *, code: str = "", **changes: Any) -> EnrolRequest:
        """An enrolment request."""
        answer = await self.site.ask("POST", "/mp/enrolment/nonce")
        nonce = from_json(answer.body, NonceReply, "nonce").nonce
        request = EnrolRequest(nonce=nonce, kind=Kind.DEVICE, name=self.name, public_key=self.key.public)
        request = msgspec.structs.replace(request, **changes)
        if not code:
            return request
        invitation = parse_enrolment_code(code)
        mac = enrolment_mac(
            invitation.secret,
            nonce=request.nonce,
            kind=request.kind,
            name=request.name,
            public_key=request.public_key,
            csr=request.csr,
        )
        return msgspec.structs.replace(request, code_id=invitation.code_id, mac=mac)

    async def enrol(self, code: str = "") -> EnrolReply:
        answer = await self.site.ask("POST", "/mp/enrolment", to_json(await self.request(code=code)))
        reply = self.site.decoded(answer, EnrolReply)
        self.id = reply.id
        return reply

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, assertion: str = "", peer: str = "127.0.0.1"
    ) -> Answer:
        token = assertion or self.assertion(body)
        return await self.site.ask(method, path, body, bearer=token, peer=peer)

    def assertion(self, body: bytes = b"") -> str:
        return make_device_assertion(
            self.key, device=self.id, site="PS1", body=body, now=self.site.clock(), jti=secrets.token_hex(8)
        )


class MemoryPoint(ShelfHolder):
    """A point's data plane in memory that can fail."""

    def __init__(self) -> None:
        self.shelf = Shelf(MemoryStore())
        super().__init__(self.shelf)
        self.puts: list[ObjectId] = []
        self.deletes: list[ObjectId] = []
        self.fail_after: int | None = None

    async def put(self, object_id: ObjectId, size: int, pieces: Pieces, **more: Any) -> None:
        if self.fail_after is not None:
            if self.fail_after == 0:
                raise UnavailableError("The point does not answer.")
            self.fail_after -= 1
        await super().put(object_id, size, pieces, **more)
        self.puts.append(object_id)

    async def delete(self, object_id: ObjectId) -> None:
        await super().delete(object_id)
        self.deletes.append(object_id)

    def held(self) -> set[ObjectId]:
        return {object_id for object_id, _ in self.shelf.page(limit=100_000)}


class SiteInProcess:
    """A site server with its parts, driven by the test."""

    def __init__(self, home: Home, database: Database, keys: SiteKeys, clock: Ticking, doors: "Doors") -> None:
        self.home, self.database, self.keys, self.clock = home, database, keys, clock
        self.free: int | None = None
        self.server = SiteServer(home, load_settings(home), database, keys, clock=clock, free=self._free)
        self.app = doors.of(self.server)
        self.token = ""
        self.points: dict[str, MemoryPoint] = {}
        self.engine = self.new_engine("one")

    def _free(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free if self.free is None else self.free

    def new_engine(self, holder: str) -> DistributionEngine:
        """A distribution engine, as another process of the site would have."""

        async def holders(point: str) -> MemoryPoint:
            return self.points[point]

        return DistributionEngine(
            self.database,
            site="PS1",
            holder=holder,
            sender=Sender(self.database, shelf=self.server.shelf, clock=self.clock, threads=4),
            holders=holders,
            clock=self.clock,
            draw=lambda: 0.0,
            transfers=3,
        )

    async def ask(self, method: str, path: str, body: bytes = b"", **more: Any) -> Answer:
        return await ask(self.app, method, path, body, **more)

    async def login(self) -> str:
        body = to_json(LoginRequest(name="admin", password=PASSWORD))
        answer = await self.ask("POST", PREFIX + "/login", body)
        self.token = self.decoded(answer, Session).token
        return self.token

    async def raw(self, method: str, path: str, body: object = None, *, query: str = "") -> Answer:
        """A request of the administrator."""
        if not self.token:
            await self.login()
        data = body if isinstance(body, bytes) else b"" if body is None else to_json(body)
        return await self.ask(method, PREFIX + path, data, bearer=self.token, query=query)

    async def call(self, method: str, path: str, kind: type[T], body: object = None, *, query: str = "") -> T:
        return self.decoded(await self.raw(method, path, body, query=query), kind)

    def decoded(self, answer: Answer, kind: type[T]) -> T:
        if answer.status >= 300:
            raise error_from_problem(answer.status, answer.body)
        if kind is type(None):
            return None  # type: ignore[return-value]
        return from_json(answer.body, kind, "answer")

    async def run_tasks(self) -> None:
        """Run tasks until none is due."""
        engines = (self.server.tasks, self.server.publishing, self.server.rehearsing)
        while sum([await engine.run_once() for engine in engines]):
            pass

    async def distribute_due(self) -> None:
        """Run the distribution engine until nothing is due."""
        while await self.engine.run_once():
            pass

    async def publish(self, name: str, source: Path, **more: Any) -> ContentInfo:
        """Publish version 1 of a content."""
        request = ContentRequest(name=name, source=str(source), **more)
        task = await self.call("POST", "/contents", TaskInfo, request)
        await self.run_tasks()
        ended = await self.call("GET", f"/tasks/{task.id}", TaskInfo)
        assert ended.state is TaskState.COMPLETED, ended.error
        return await self.call("GET", f"/contents/{task.subject}", ContentInfo)

    async def next_version(self, name: str) -> ContentInfo:
        await self.call("POST", f"/contents/{name}/versions", TaskInfo, {})
        await self.run_tasks()
        return await self.call("GET", f"/contents/{name}", ContentInfo)

    async def enrolled_point(self, name: str, **more: Any) -> str:
        """A point on premises that has enrolled; its id."""
        added = await self.call("POST", "/points", PointCode, PointRequest(name=name, **more))
        machine = Device(self, name)
        csr = make_csr(new_tls_key())
        request = await machine.request(code=added.code, kind=Kind.POINT, csr=csr, url="https://127.0.0.1:8443")
        self.decoded(await self.ask("POST", "/mp/enrolment", to_json(request)), EnrolReply)
        self.points[added.point.id] = MemoryPoint()
        return added.point.id

    async def enrolled_device(self, name: str) -> Device:
        code = await self.call("POST", "/enrolment-codes", EnrolmentCodeReply, EnrolmentCodeRequest())
        device = Device(self, name)
        await device.enrol(code.code)
        return device

    async def distributed(self, content: str, *targets: str) -> None:
        """Bring a content to points."""
        await self.call("POST", f"/contents/{content}/distribution", list[Any], DistributionRequest(points=targets))
        await self.distribute_due()


class Doors:
    """The application of whichever site is under test. Building one is most of what a site in this process costs, so
    that the tests of a worker share the first: each part that it reaches has from then on what the same part of the
    test's own server has.
    """

    def __init__(self) -> None:
        self._app: App | None = None
        self._kept: object = None
        self._parts: dict[tuple[str, ...], Any] = {}

    def of(self, server: SiteServer) -> App:
        """The application, in front of this server until the next call."""
        kept = (server.lag, server.keys.site.code, server.keys.site.url)  # values that an application takes over
        if self._app is None:
            self._kept, self._parts, self._app = kept, dict(_parts(server)), server.app()
            return self._app
        own = dict(_parts(server))
        if kept != self._kept or {path: type(part) for path, part in own.items()} != {
            path: type(part) for path, part in self._parts.items()
        }:
            return server.app()
        for path, part in self._parts.items():
            part.__dict__ = vars(own[path])
        return self._app


def _parts(part: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A server's parts and theirs, with the names that lead to them."""
    yield path, part
    if len(path) == 2:
        return
    for name, value in vars(part).items():
        if hasattr(value, "__dict__") and type(value).__module__.startswith(("entrepot.", __name__)):
            yield from _parts(value, (*path, name))


@pytest.fixture(scope="session")
def doors() -> Doors:
    return Doors()


@pytest.fixture(scope="session")
def site_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "site"
    new = NewSite(
        code="PS1",
        name="Contoso",
        url="https://127.0.0.1:8443",
        administrator="admin",
        password=Secret(PASSWORD),
        passphrase=Secret("a long passphrase"),
    )
    init_site(folder, new, now=NOW)
    _weaken_password(Home(folder))
    return folder


def _weaken_password(home: Home) -> None:
    """Hash the password so that a login costs next to nothing: hundreds of tests log in, and none of them is about
    that. Sites in processes of their own keep the hash that set-up makes."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    database = open_database(home.database_url(load_settings(home)))
    with database.transaction() as connection:
        administrators.set_password(connection, "admin", quick.hash(PASSWORD))
    database.close()


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def home(site_template: Path, tmp_path: Path) -> Home:
    """A site that was set up and has not served yet."""
    shutil.copytree(site_template, tmp_path / "site")
    return Home(tmp_path / "site")


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    opened = open_database(home.database_url(load_settings(home)))
    yield opened
    opened.close()


@pytest.fixture
async def site(home: Home, database: Database, clock: Ticking, doors: Doors) -> AsyncIterator[SiteInProcess]:
    vault = ServerVault.load(home.vault_key)
    keys = await database.read(load_keys, site="PS1", vault=vault, now=clock(), clock=clock)
    made = SiteInProcess(home, database, keys, clock, doors)
    made.server.deltas.sweep()
    yield made
    await made.server.http.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder to publish: a big file and small ones."""
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "big.bin").write_bytes(bytes(range(256)) * 4 * 1024 + secrets.token_bytes(600_000))
    for number in range(20):
        (folder / "sub" / f"file {number}").write_bytes(secrets.token_bytes(3000))
    return folder


@pytest.fixture
def new_device(site: SiteInProcess) -> Callable[[str], Device]:
    """Makes devices that have not enrolled."""
    return lambda name: Device(site, name)
