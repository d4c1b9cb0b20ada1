"""Fixtures of the web room: a small hierarchy, TLS files, an application served on a real socket, clients of it."""

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from entrepot.content.objectset import encode_set
from entrepot.core.encoding import to_json
from entrepot.core.errors import ForbiddenError, UnauthenticatedError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR
from entrepot.objects.folder import FolderStore
from entrepot.objects.hashing import object_id_of
from entrepot.objects.shelf import Shelf
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol.control import ControlDocument, ServiceState
from entrepot.protocol.transactions import Record
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.trust.root import RootKey
from entrepot.trust.signing import SigningKey, sign
from entrepot.trust.tokens import mint_content_token, mint_site_token
from entrepot.web.asgi import App
from entrepot.web.grants import Grant
from entrepot.web.http import HttpClient
from entrepot.web.objects import ObjectPlane
from entrepot.web.server import TlsFiles, listener_url, open_listener, serve
from entrepot.web.tls import TlsTrust

POINT = "pt-0123456789abcdef"


class Site:
    """A root, one key a role, an issuer: enough of a site to talk to a holder of objects."""

    def __init__(self) -> None:
        self.root = RootKey.generate()
        self.token_key = SigningKey.generate()
        self.control_key = SigningKey.generate()
        self.authority = create_authority("Contoso", now=time.time())
        self._counter = 0

    def trust(self, number: int = 1, epoch: int = 1) -> str:
        now = int(time.time())
        keys = [
            KeyEntry(
                kid=key.kid, role=role, site="PS1", public=key.public, not_before=now - HOUR, not_after=now + 99 * HOUR
            )
            for key, role in ((self.token_key, Role.TOKEN), (self.control_key, Role.CONTROL))
        ]
        document = TrustDocument(
            hierarchy="Contoso", number=number, epoch=epoch, issued=now, keys=(*keys, self.authority.key_entry("PS1"))
        )
        return self.root.sign_trust(document)

    def control(
        self,
        *,
        state: ServiceState = ServiceState.RUNNING,
        counter: int | None = None,
        point: str = POINT,
        lifetime: int = 8 * HOUR,
        devices: tuple[str, ...] = (),
        tokens: tuple[str, ...] = (),
        key: SigningKey | None = None,
        kids: tuple[str, ...] | None = None,
    ) -> str:
        self._counter += 1
        now = int(time.time())
        document = ControlDocument(
            site="PS1",
            point=point,
            fresh=Freshness(epoch=1, counter=counter or self._counter, issued=now, expires=now + lifetime),
            state=state,
            token_kids=(self.token_key.kid,) if kids is None else kids,
            revoked_devices=devices,
            revoked_tokens=tokens,
        )
        return sign(to_json(document), typ=SignedType.CONTROL, key=key or self.control_key)

    def content_token(
        self,
        *sets: bytes,
        device: str = "dev-1",
        audience: str = "points:PS1",
        jti: str = "t1",
        now: float | None = None,
    ) -> str:
        return mint_content_token(
            self.token_key,
            site="PS1",
            device=device,
            audience=audience,
            sets=sets,
            now=time.time() if now is None else now,
            jti=jti,
        )

    def site_token(self, audience: str = POINT, now: float | None = None) -> str:
        return mint_site_token(
            self.token_key, site="PS1", audience=audience, now=time.time() if now is None else now, jti="s1"
        )

    def tls_files(self, folder: Path, names: tuple[str, ...] = ("localhost",)) -> TlsFiles:
        key = new_tls_key()
        certificate = self.authority.issue_server(
            key.public_key(), names=list(names), ips=["127.0.0.1"], now=time.time()
        )
        folder.mkdir(parents=True, exist_ok=True)
        files = TlsFiles(cert=folder / "tls.crt", key=folder / "tls.key")
        files.cert.write_text(to_pem(certificate))
        files.key.touch(mode=0o600)
        files.key.write_bytes(key_pem(key).reveal())
        return files

    @property
    def tls_trust(self) -> TlsTrust:
        return TlsTrust.hierarchy(self.authority.pem())


@pytest.fixture(scope="session")
def site() -> Site:
    return Site()


@pytest.fixture
def tls(site: Site, tmp_path: Path) -> TlsFiles:
    return site.tls_files(tmp_path / "tls")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(FolderStore(tmp_path / "store"))


class Keyring:
    """An authoriser whose tokens are plain words: ``good`` reads everything, ``bare`` nothing, ``site`` is the site."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.known: set[str] = set()
        self.gate: asyncio.Event | None = None

    async def client(self, token: str, object_id: ObjectId) -> Grant:
        if token not in ("good", "other", "bare"):
            raise UnauthenticatedError("No such token.")
        if token in self.revoked:
            raise ForbiddenError("Withdrawn.")
        if self.gate is not None:
            await self.gate.wait()
        return Grant(device=f"dev-{token}", jti=f"jti-{token}", set_id=b"" if token == "bare" else b"s" * 32)

    def at_once(self, token: bytes, object_id: ObjectId) -> Grant | None:
        if token not in (b"good", b"other") or token.decode() in self.revoked or self.gate is not None:
            return None
        return Grant(device=f"dev-{token.decode()}", jti=f"jti-{token.decode()}", set_id=b"s" * 32)

    def knows(self, token: str) -> bool:
        return token in self.known

    async def site(self, token: str) -> None:
        if token != "site":
            raise UnauthenticatedError("Not the site's token.")


@pytest.fixture
def keyring() -> Keyring:
    return Keyring()


@pytest.fixture
def records() -> list[Record]:
    return []


@pytest.fixture
def plane(shelf: Shelf, keyring: Keyring, records: list[Record]) -> Iterator[ObjectPlane]:
    made = ObjectPlane(shelf, keyring, records.append)
    yield made
    made.close()


@pytest.fixture
def served(tls: TlsFiles) -> Callable[[App], contextlib.AbstractAsyncContextManager[str]]:
    """Serve an application over TLS on a free port; gives its URL."""

    @contextlib.asynccontextmanager
    async def serving(app: App) -> AsyncIterator[str]:
        listener = open_listener("127.0.0.1", 0)
        stop, ready = asyncio.Event(), asyncio.Event()
        at_once = app.at_once if isinstance(app, ObjectPlane) else None

        def most() -> int:
            return app.admission.gate.limits.connections if isinstance(app, ObjectPlane) else 0

        task = asyncio.create_task(
            serve(
                app,
                listener=listener,
                tls=tls,
                ready=ready.set,
                at_once=at_once,
                most_of_address=most,
                drain_seconds=0.2,
                stop=stop,
            )
        )
        url = listener_url(listener)
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        try:
            yield url
        finally:
            waiting.cancel()
            stop.set()
            await task

    return serving


@pytest.fixture
async def http(site: Site) -> AsyncIterator[HttpClient]:
    async with HttpClient(site.tls_trust) as client:
        yield client


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def stock(shelf: Shelf) -> Callable[..., tuple[ObjectId, bytes]]:
    """Put an object of some size on the shelf."""

    def put(size: int, seed: int = 0) -> tuple[ObjectId, bytes]:
        data = some_bytes(size, seed)
        object_id = object_id_of(data)
        shelf.put(object_id, data)
        return object_id, data

    return put


@pytest.fixture
def stock_set(shelf: Shelf) -> Callable[..., bytes]:
    """Put an object set on the shelf."""

    def put(*ids: bytes) -> bytes:
        data = b"".join(encode_set(sorted(ids)))
        object_id = object_id_of(data)
        shelf.put(object_id, data)
        return object_id

    return put


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
