"""A small world for the client: a hierarchy with real keys, content published for real, and a server over TLS that is
site and distribution points at once and misbehaves on request.
"""

import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from entrepot.client.enrol import Invitation, enrol, from_code
from entrepot.client.settings import Settings
from entrepot.content.chunking import domain_keys
from entrepot.content.delta.making import Made, Version, make_delta
from entrepot.content.manifest import VERSION, EntryKind, Part, Root, decode_part, encode_part
from entrepot.content.memory import MemoryLibrary
from entrepot.content.publish import Published, publish
from entrepot.content.reading import open_root
from entrepot.content.sealing import Generation, Purpose, Sealed, open_sealed, seal
from entrepot.core.encoding import from_json, pack, to_json
from entrepot.core.errors import EntrepotError, NotFoundError, UnauthenticatedError
from entrepot.core.ids import ObjectId, object_id_from_hex
from entrepot.core.secret import Secret
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import Freshness, SealedRef, SignedType
from entrepot.protocol.enrolment import EnrolmentCode, EnrolReply, EnrolRequest, NonceReply
from entrepot.protocol.location import (
    DeltaOffer,
    LocationReply,
    LocationRequest,
    Network,
    Source,
    Tier,
    TierKind,
    Withheld,
)
from entrepot.protocol.policy import ClientSettings, DownloadReport, Policy
from entrepot.protocol.tokens import site_audience
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust.assertions import verify_device
from entrepot.trust.authority import Authority, create_authority, new_tls_key
from entrepot.trust.certificates import to_pem
from entrepot.trust.enrolment import check_mac
from entrepot.trust.inspection import key_pem
from entrepot.trust.root import RootKey
from entrepot.trust.signing import SigningKey, kid_of, sign
from entrepot.web.problems import problem_of

SITE = "PS1"
CONTENT = "pkg-0123456789abcdef"
NAME = "An application"
GENERATION = Generation(1, Secret(b"c" * 32))


class Hierarchy:
    """Root, keys of one site, issuers; signs what a site signs."""

    def __init__(self) -> None:
        self.now = time.time()
        self.root = RootKey.generate()
        self.authority = create_authority("Example", now=self.now)
        self.cloud_authority = create_authority("Elsewhere", now=self.now)
        self.keys = {role: SigningKey.generate() for role in (Role.MANIFEST, Role.POLICY, Role.TOKEN)}
        self.number = 1
        self.epoch = 1
        self.counter = 0

    def trust(self) -> str:
        validity = {"not_before": int(self.now) - 1000, "not_after": int(self.now) + 10**8}
        entries = [
            KeyEntry(kid=kid_of(key.public), role=role, site=SITE, public=key.public, **validity)
            for role, key in self.keys.items()
        ]
        entries.append(self.authority.key_entry(SITE))
        return self.root.sign_trust(
            TrustDocument(
                hierarchy="Example", number=self.number, epoch=self.epoch, issued=int(self.now), keys=tuple(entries)
            )
        )

    def sign(self, payload: bytes, typ: SignedType, role: Role) -> str:
        return sign(payload, typ=typ, key=self.keys[role])

    def fresh(self) -> Freshness:
        self.counter += 1
        now = int(time.time())
        return Freshness(epoch=self.epoch, counter=self.counter, issued=now, expires=now + 600)


class Library:
    """Publishes into memory, honestly or not."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self.shelf = Shelf(MemoryStore())
        self.ledgers = MemoryLibrary()
        self.keys = domain_keys(Secret(b"d" * 32), GENERATION)
        self.roots: dict[int, tuple[SealedRef, bytes]] = {}

    def sign_root(self, payload: bytes) -> str:
        return self.hierarchy.sign(payload, SignedType.MANIFEST, Role.MANIFEST)

    def publish(self, source: Path, number: int = 1) -> Published:
        session = self.ledgers.open_session("test")
        published = publish(
            source,
            content=CONTENT,
            number=number,
            shelf=self.shelf,
            ledger=session,
            keys=self.keys,
            sign=self.sign_root,
        )
        self.ledgers.adopt(session.session, published.set_id)
        self.roots[number] = (published.root, published.set_id)
        return published

    def seal(self, plain: bytes, purpose: Purpose) -> SealedRef:
        sealed = seal(plain, purpose=purpose, generation=GENERATION)
        self._store(sealed)
        return sealed.ref

    def _store(self, sealed: Sealed) -> None:
        self.shelf.put_sealed(ObjectId(sealed.ref.object_id), sealed.data)

    def forge(self, parts: list[Part], number: int = 1, **totals: object) -> None:
        """Publish a manifest as given, however wrong; totals that are not given are right."""
        refs = tuple(self.seal(encode_part(part), Purpose.MANIFEST_PART) for part in parts)
        files = [e for part in parts for e in part.entries if e.kind == EntryKind.FILE and not e.offset]
        fields = {
            "version": VERSION,
            "content": CONTENT,
            "number": number,
            "files": len(files),
            "plain_size": sum(entry.size for entry in files),
            "chunks": 0,
            "stored_size": 0,
            "windows_safe": False,
            "parts": refs,
        } | totals
        document = self.sign_root(pack(Root(**fields))).encode()  # type: ignore[arg-type]
        self.roots[number] = (self.seal(document, Purpose.MANIFEST_ROOT), b"s" * 32)

    def read(self, ref: SealedRef) -> bytes:
        return open_sealed(self.shelf.read_whole(ObjectId(ref.object_id)), ref)

    def root(self, number: int) -> Root:
        ref = self.roots[number][0]
        verified = self.hierarchy

        def verify(document: bytes) -> bytes:
            from entrepot.trust.signing import take_apart

            assert verified
            return take_apart(document, typ=SignedType.MANIFEST).payload

        return open_root(self.shelf.read_whole(ObjectId(ref.object_id)), ref, verify)

    def a_chunk(self, number: int) -> ObjectId:
        """Some chunk of a version."""
        part = decode_part(self.read(self.root(number).parts[0]))
        return ObjectId(part.chunks[-1].object_id)

    def delta(self, old: int, new: int, scratch: Path) -> Made:
        made = make_delta(
            Version(self.root(old), self.roots[old][0], self.read),
            Version(self.root(new), self.roots[new][0], self.read),
            scratch=scratch,
            generation=GENERATION,
            sign=lambda payload: self.hierarchy.sign(payload, SignedType.DELTA, Role.MANIFEST),
            store=self._store,
        )
        assert made is not None
        return made


class PointState:
    """One distribution point of the fake server: what it was asked, and how it misbehaves."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.served = 0
        self.failing: EntrepotError | None = None
        self.damage: Callable[[ObjectId, bytes], bytes] = lambda _, data: data
        self.gate: Callable[[ObjectId], asyncio.Event | None] = lambda _: None
        self.token = "token-1"
        self.cut = False  # the connection breaks halfway


class World:
    """Hierarchy, library and a server that is everything else."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.hierarchy = Hierarchy()
        self.library = Library(self.hierarchy)
        self.points: dict[str, PointState] = {}
        self.tiers: list[tuple[TierKind, list[str]]] = []
        self.trusts: dict[str, str] = {}
        self.urls: dict[str, str] = {}
        self.withheld: tuple[Withheld, ...] = ()
        self.devices: dict[str, tuple[bytes, str]] = {}
        self.codes: dict[str, bytes] = {"code-1": b"k" * 16}
        self.token = "token-1"
        self.current = 1
        self.deltas: list[DeltaOffer] = []
        self.reports: list[DownloadReport] = []
        self.locations: list[LocationRequest] = []
        self.refuse_reports: EntrepotError | None = None
        self.alter: Callable[[LocationReply], LocationReply] = lambda reply: reply
        self.url = ""

    # -- content -------------------------------------------------------------------------------------------------

    def publish(self, source: Path, number: int = 1) -> Published:
        self.current = number
        return self.library.publish(source, number)

    def offer_delta(self, old: int, new: int) -> Made:
        scratch = self.tmp / f"delta-{old}-{new}"
        scratch.mkdir()
        made = self.library.delta(old, new, scratch)
        self.deltas.append(DeltaOffer(from_version=old, root=made.root, set_id=b"s" * 32, size=made.size))
        return made

    def point(self, name: str, tier: TierKind = TierKind.PREFERRED, *, trust: str = "hierarchy") -> PointState:
        self.points[name] = PointState()
        self.trusts[name] = trust
        for kind, names in self.tiers:
            if kind is tier:
                names.append(name)
                break
        else:
            self.tiers.append((tier, [name]))
        return self.points[name]

    def requests(self) -> int:
        return sum(sum(point.requests.values()) for point in self.points.values())

    # -- the client ----------------------------------------------------------------------------------------------

    def code(self) -> str:
        return EnrolmentCode(
            url=self.url, site=SITE, code_id="code-1", secret=b"k" * 16, fingerprint=self.hierarchy.root.fingerprint
        ).encode()

    def invitation(self) -> Invitation:
        return from_code(self.code())

    async def client(self, name: str = "client", **settings: object) -> Path:
        """An enrolled client's home."""
        home = self.tmp / name
        wanted = {"addresses": ("10.1.2.3",), "retries": 1, "parallel": 4} | settings
        await enrol(home, self.invitation(), name=name, settings=Settings(**wanted))  # type: ignore[arg-type]
        return home

    # -- the server ----------------------------------------------------------------------------------------------

    def app(self) -> web.Application:
        app = web.Application(client_max_size=8 * 2**20, middlewares=[_problems])
        app.router.add_get("/mp/trust", self._trust)
        app.router.add_post("/mp/enrolment/nonce", self._nonce)
        app.router.add_post("/mp/enrolment", self._enrol)
        app.router.add_get("/mp/enrolment/{device}", self._state)
        app.router.add_get("/mp/policy", self._policy)
        app.router.add_post("/mp/locations", self._locations)
        app.router.add_post("/mp/reports", self._report)
        app.router.add_get("/{point}/objects/{id}", self._object)
        return app

    async def _trust(self, _: web.Request) -> web.Response:
        return web.Response(text=self.hierarchy.trust())

    async def _nonce(self, _: web.Request) -> web.Response:
        return web.Response(body=to_json(NonceReply(nonce=b"n" * 16)))

    async def _enrol(self, request: web.Request) -> web.Response:
        asked = from_json(await request.read(), EnrolRequest, "request")
        state = "pending"
        if asked.code_id:
            check_mac(self.codes[asked.code_id], asked)
            state = "approved"
        device = f"dev-{len(self.devices):016x}"
        self.devices[device] = (asked.public_key, state)
        return web.Response(body=to_json(EnrolReply(id=device, site=SITE, state=state)))

    async def _state(self, request: web.Request) -> web.Response:
        device = request.match_info["device"]
        return web.Response(body=to_json(EnrolReply(id=device, site=SITE, state=self.devices[device][1])))

    async def _device(self, request: web.Request) -> str:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        body = await request.read()
        for device, (public, state) in self.devices.items():
            try:
                claims = verify_device(token, public, site_audience(SITE), body, time.time())
            except UnauthenticatedError:
                continue
            if claims.sub == device and state == "approved":
                return device
        raise UnauthenticatedError("unknown device")

    async def _policy(self, request: web.Request) -> web.Response:
        device = await self._device(request)
        policy = Policy(device=device, fresh=self.hierarchy.fresh(), settings=ClientSettings(), assignments=())
        return web.Response(text=self.hierarchy.sign(to_json(policy), SignedType.POLICY, Role.POLICY))

    async def _locations(self, request: web.Request) -> web.Response:
        device = await self._device(request)
        asked = from_json(await request.read(), LocationRequest, "request")
        self.locations.append(asked)
        version = asked.version or self.current
        if asked.content.strip().lower() not in (CONTENT, NAME.lower()) or version not in self.library.roots:
            raise NotFoundError("No such content.")
        reply = self.alter(self._reply(asked, device, version))
        return web.Response(text=self.hierarchy.sign(to_json(reply), SignedType.LOCATION, Role.POLICY))

    def _reply(self, asked: LocationRequest, device: str, version: int) -> LocationReply:
        root, set_id = self.library.roots[version]
        offers = tuple(offer for offer in self.deltas if offer.from_version in asked.held)
        return LocationReply(
            nonce=asked.nonce,
            fresh=self.hierarchy.fresh(),
            site=SITE,
            device=device,
            network=Network.INTRANET,
            content=CONTENT,
            name=NAME,
            version=version,
            root=root,
            set_id=set_id,
            tiers=tuple(
                Tier(kind=kind, sources=tuple(self._source(name, kind, offers) for name in names))
                for kind, names in self.tiers
            ),
            withheld=self.withheld,
            tokens=dict.fromkeys(self.points, self.token),
            deltas=offers,
        )

    def _source(self, name: str, kind: TierKind, offers: tuple[DeltaOffer, ...]) -> Source:
        return Source(
            point=f"pt-{name}",
            name=name,
            url=self.urls.get(name, f"{self.url}/{name}"),
            audience=name,
            trust=self.trusts[name],
            reason=f"it is {kind.value}",
            deltas=tuple(offer.from_version for offer in offers),
        )

    async def _report(self, request: web.Request) -> web.Response:
        await self._device(request)
        if self.refuse_reports:
            raise self.refuse_reports
        self.reports.append(from_json(await request.read(), DownloadReport, "report"))
        return web.Response(status=204)

    async def _object(self, request: web.Request) -> web.StreamResponse:
        point = self.points[request.match_info["point"]]
        object_id = object_id_from_hex(request.match_info["id"])
        point.requests[object_id.hex()] += 1
        if request.headers.get("Authorization") != f"Bearer {point.token}":
            raise UnauthenticatedError("The token has expired.")
        if point.failing:
            raise point.failing
        gate = point.gate(object_id)
        if gate is not None:
            await gate.wait()
        data = point.damage(object_id, self.library.shelf.read_whole(object_id))
        if point.cut:
            response = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            await asyncio.sleep(0.05)  # or the abort would drop the beginning, too
            assert request.transport is not None
            request.transport.abort()
            return response
        wanted = request.http_range if "Range" in request.headers else None
        data = data if wanted is None else data[wanted]
        point.served += len(data)
        return web.Response(body=data, status=200 if wanted is None else 206)


@web.middleware
async def _problems(request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
    try:
        return await handler(request)  # type: ignore[misc, no-any-return]
    except EntrepotError as error:
        problem = problem_of(error)
        return web.Response(status=problem.status, body=problem.encode(), content_type="application/problem+json")


def server_context(authority: Authority, folder: Path, name: str, now: float) -> ssl.SSLContext:
    key = new_tls_key()
    certificate = authority.issue_server(key.public_key(), names=["localhost", name], ips=["127.0.0.1"], now=now)
    path = folder / f"{name}.pem"
    path.write_bytes(key_pem(key).reveal() + to_pem(certificate).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def _listen(app: web.Application, context: ssl.SSLContext) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    return runner, runner.addresses[0][1]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Everything a client talks to, on one port; a second port has the cloud's own issuer."""
    made = World(tmp_path)
    app = made.app()
    context = server_context(made.hierarchy.authority, tmp_path, "site.example", made.hierarchy.now)
    runner, port = await _listen(app, context)
    made.url = f"https://127.0.0.1:{port}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def cloud(world: World, tmp_path: Path) -> AsyncIterator[str]:
    """The same server as a cloud service: another port, a certificate of an issuer outside the hierarchy."""
    context = server_context(world.hierarchy.cloud_authority, tmp_path, "service.example", world.hierarchy.now)
    runner, port = await _listen(world.app(), context)
    pem = world.hierarchy.cloud_authority.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "cloud-ca.pem").write_bytes(pem)
    yield f"https://service.example:{port}"
    await runner.cleanup()


def make_source(folder: Path) -> Path:
    """A source folder with everything that content may have."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "tool").write_bytes(b"#!/bin/sh\necho hello\n")
    (folder / "bin" / "tool").chmod(0o755)
    (folder / "data").mkdir()
    (folder / "data" / "large.bin").write_bytes(os.urandom(3_000_000))
    (folder / "data" / "empty").write_bytes(b"")
    (folder / "data" / "leer und ünï — 名前").write_bytes(b"names\n" * 100)
    (folder / "hollow" / "deep").mkdir(parents=True)
    for number in range(40):
        (folder / "data" / f"small-{number:02d}").write_bytes(os.urandom(5000))
    (folder / "link").symlink_to("data/large.bin")
    (folder / "bin" / "back").symlink_to("../data")
    return folder


def listing(folder: Path) -> dict[str, tuple[object, ...]]:
    """What a tree holds: path → kind and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder",)
        else:
            found[name] = ("file", path.read_bytes(), path.stat().st_mode & 0o111)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """See :func:`make_source`."""
    return make_source(tmp_path / "source")


class Tools:
    """Functions that tests use (test modules import nothing from one another)."""

    listing = staticmethod(listing)
    make_source = staticmethod(make_source)
    content = CONTENT
    name = NAME


@pytest.fixture
def tools() -> Tools:
    return Tools()


def replace(value: msgspec.Struct, **fields: object) -> msgspec.Struct:
    return msgspec.structs.replace(value, **fields)
