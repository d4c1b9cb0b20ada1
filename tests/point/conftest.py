"""Fixtures of the point room: a site that enrols points and signs documents, and points, near and as processes."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from entrepot.content.objectset import encode_set
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import UnauthenticatedError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR
from entrepot.objects.hashing import object_id_of
from entrepot.point.enrolment import init_point
from entrepot.point.home import PointSettings
from entrepot.point.server import serve_point
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol.control import ControlDocument, GatewaySettings, ServiceState
from entrepot.protocol.enrolment import EnrolmentCode, EnrolReply, EnrolRequest, NonceReply
from entrepot.protocol.tokens import points_audience
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.enrolment import check_mac
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.trust.root import RootKey
from entrepot.trust.signing import SigningKey, sign
from entrepot.trust.tokens import mint_content_token, mint_site_token
from entrepot.web.asgi import Receive, Scope, Send, read_body, send_json, send_problem, send_response
from entrepot.web.dataplane import HttpHolder
from entrepot.web.http import HttpClient
from entrepot.web.server import TlsFiles, listener_url, open_listener, serve
from entrepot.web.tls import TlsTrust

SECRET = b"0123456789abcdef"
POINT = "pt-00000000000000aa"


class Site:
    """What a point sees of its site."""

    def __init__(self) -> None:
        self.root = RootKey.generate()
        self.tokens = SigningKey.generate()
        self.controls = SigningKey.generate()
        self.authority = create_authority("Contoso", now=time.time())
        self.begun = int(time.time())
        self.url = ""
        self.state = "approved"
        self.calls_it = ""
        self.enrolled: list[EnrolRequest] = []
        self.certificates: str | None = None
        self._counter = 0

    def trust(self, number: int = 1) -> str:
        now = self.begun
        keys = tuple(
            KeyEntry(kid=key.kid, role=role, site="PS1", public=key.public, not_before=now - HOUR, not_after=now + HOUR)
            for key, role in ((self.tokens, Role.TOKEN), (self.controls, Role.CONTROL))
        )
        keys = (*keys, self.authority.key_entry("PS1"))
        return self.root.sign_trust(TrustDocument(hierarchy="Contoso", number=number, epoch=1, issued=now, keys=keys))

    def control(
        self,
        *,
        state: ServiceState = ServiceState.RUNNING,
        lifetime: float = HOUR,
        devices: tuple[str, ...] = (),
        counter: int | None = None,
    ) -> bytes:
        self._counter = counter or self._counter + 1
        now = int(time.time())
        document = ControlDocument(
            site="PS1",
            point=POINT,
            fresh=Freshness(epoch=1, counter=self._counter, issued=now, expires=int(now + lifetime)),
            state=state,
            token_kids=(self.tokens.kid,),
            revoked_devices=devices,
            settings=GatewaySettings(minimum_rate=1),
        )
        return sign(to_json(document), typ=SignedType.CONTROL, key=self.controls).encode()

    def content_token(self, *sets: bytes, device: str = "dev-1") -> str:
        return mint_content_token(
            self.tokens,
            site="PS1",
            device=device,
            audience=points_audience("PS1"),
            sets=sets,
            now=time.time(),
            jti=f"t-{device}",
        )

    def site_token(self) -> str:
        return mint_site_token(self.tokens, site="PS1", audience=POINT, now=time.time(), jti="s")

    def code(self) -> str:
        fingerprint = self.root.fingerprint
        return EnrolmentCode(url=self.url, site="PS1", code_id="c1", secret=SECRET, fingerprint=fingerprint).encode()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The three requests of an enrolment."""
        assert scope["type"] == "http"
        match scope["path"]:
            case "/mp/trust":
                return await send_response(send, 200, self.trust().encode())
            case "/mp/enrolment/nonce":
                return await send_json(send, to_json(NonceReply(nonce=b"n" * 16)))
            case "/mp/enrolment":
                request = from_json(await read_body(scope, receive, 100_000), EnrolRequest, "enrolment")
                return await self._enrol(request, send)
        raise AssertionError(scope["path"])

    async def _enrol(self, request: EnrolRequest, send: Send) -> None:
        try:
            check_mac(SECRET, request)
        except UnauthenticatedError as error:
            return await send_problem(send, error)
        self.enrolled.append(request)
        issued = self.authority.issue_server(request.csr, names=["localhost"], ips=["127.0.0.1"], now=time.time())
        chain = self.certificates if self.certificates is not None else to_pem(issued) + self.authority.pem()
        reply = EnrolReply(id=POINT, site="PS1", state=self.state, certificates=chain, name=self.calls_it)
        return await send_json(send, to_json(reply))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site, serving its management point."""
    made = Site()
    key = new_tls_key()
    issued = made.authority.issue_server(key.public_key(), names=["localhost"], ips=["127.0.0.1"], now=time.time())
    files = TlsFiles(cert=tmp_path / "site.crt", key=tmp_path / "site.key")
    files.cert.write_text(to_pem(issued))
    files.key.touch(mode=0o600)
    files.key.write_bytes(key_pem(key).reveal())
    listener = open_listener("127.0.0.1", 0)
    made.url = listener_url(listener)
    stop = asyncio.Event()
    task = asyncio.create_task(serve(lambda *call: made.app(*call), listener=listener, tls=files, stop=stop))
    yield made
    stop.set()
    await task


@pytest.fixture
async def http(site: Site) -> AsyncIterator[HttpClient]:
    async with HttpClient(TlsTrust.hierarchy(site.authority.pem())) as client:
        yield client


@pytest.fixture
async def settings(site: Site, tmp_path: Path) -> PointSettings:
    """An enrolled point in ``tmp_path / "point"``."""
    return await init_point(tmp_path / "point", site.code(), "127.0.0.1:0", name="dp-berlin")


@pytest.fixture
async def point(site: Site, settings: PointSettings, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a running point without documents."""
    async with running(tmp_path / "point") as url:
        yield url


@contextlib.asynccontextmanager
async def running(home: Path) -> AsyncIterator[str]:
    """Serve the point of a home in this process."""
    stop = asyncio.Event()
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_point(home, stop=stop, ready=found.set_result))
    await asyncio.wait({task, found}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not task.done():
            yield found.result()
    finally:
        stop.set()
        await task


@pytest.fixture
def run() -> Callable[[Path], contextlib.AbstractAsyncContextManager[str]]:
    return running


@pytest.fixture
def holder(site: Site, http: HttpClient, settings: PointSettings) -> HttpHolder:
    """The site's side of the point."""
    return HttpHolder(http, settings.url, site.site_token)


class PointProcess:
    """A point as a process of its own, ended by its id."""

    def __init__(self, home: Path) -> None:
        program = (
            "from entrepot.core.loading import load_without_a_look; load_without_a_look();"
            "import sys; from pathlib import Path; from entrepot.point.server import serve_point;"
            "from entrepot.web.server import run_process; run_process(serve_point(Path(sys.argv[1])))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    async def ready(self) -> dict[str, object]:
        line = await asyncio.to_thread(self.process.stdout.readline)  # type: ignore[union-attr]
        found: dict[str, object] = json.loads(line)
        return found

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()

    async def terminate(self) -> tuple[int, str]:
        self.process.terminate()
        _, err = await asyncio.to_thread(self.process.communicate, None, 60)
        return self.process.returncode, err


@pytest.fixture
async def spawn() -> AsyncIterator[Callable[[Path], PointProcess]]:
    made: list[PointProcess] = []

    def start(home: Path) -> PointProcess:
        made.append(PointProcess(home))
        return made[-1]

    yield start
    for process in made:
        if process.process.poll() is None:
            process.kill()


def an_object(size: int, letter: bytes = b"x") -> tuple[ObjectId, bytes]:
    data = letter * size
    return object_id_of(data), data


async def fill(holder: HttpHolder, *objects: tuple[ObjectId, bytes]) -> bytes:
    """Put objects and a set of them on a point; gives the set's id."""
    encoded = b"".join(encode_set(sorted(object_id for object_id, _ in objects)))
    for object_id, data in (*objects, (object_id_of(encoded), encoded)):
        await holder.put(object_id, len(data), lambda data=data: [data])  # type: ignore[misc]
    return object_id_of(encoded)


@pytest.fixture(name="fill")
def fill_fixture() -> Callable[..., object]:
    return fill


@pytest.fixture(name="an_object")
def object_fixture() -> Callable[..., object]:
    return an_object
