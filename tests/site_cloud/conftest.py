"""A site without a server, and a cloud in memory that behaves as the cloud host promises to."""

import asyncio
import atexit
import contextlib
import functools
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entrepot.core.encoding import from_json
from entrepot.core.errors import EntrepotError, NotFoundError
from entrepot.core.secret import Secret
from entrepot.core.times import DAY, hour_of
from entrepot.database import hierarchy, taskleases, tasks
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.database.hierarchy import Hierarchy, RoleKey, Site
from entrepot.database.tasks import Task
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SignedType
from entrepot.protocol.cloudapi import CloudMetrics, PlannedResource
from entrepot.protocol.cloudhost import (
    Instance,
    NeededRecord,
    Remains,
    RunState,
    ServiceSpec,
    ServiceStatus,
    Subscription,
)
from entrepot.protocol.cloudpointapi import CloudPointRequest, Thresholds
from entrepot.protocol.control import CONTROL_KEY, ControlDocument, ServiceState
from entrepot.protocol.siteapi import TaskState
from entrepot.protocol.transactions import Record, SegmentHeader, encode_header, encode_records, segment_key
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.site.cloud.services import CloudServices
from entrepot.site.cloudport import CloudConnection
from entrepot.site.keys.keyset import KeySet, Signer
from entrepot.site.keys.sitekeys import SIGNING_ROLES, SiteKeys
from entrepot.site.tasks import TaskEngine
from entrepot.trust.authority import create_authority
from entrepot.trust.certificates import expires, load_cer, new_management, thumbprint
from entrepot.trust.root import RootKey
from entrepot.trust.signing import Ring, SigningKey, take_apart
from entrepot.trust.vault import ServerVault
from entrepot.web.answers import uncounted
from entrepot.web.dataplane import ShelfHolder

from ..databases import create_tables
from ..lightpfx import light_pfx, light_service_pfx

NOW = 1_774_267_200  # 2026-03-23T12:00:00Z
SITE = "PS1"
PASSWORD = "correct horse"
FQDN = "cloud1.contoso.com"


class Ticking:
    """A clock that tests move."""

    def __init__(self, now: float = NOW) -> None:
        self.now = float(now)

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Crash(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Fuse:
    """Blows at the n-th step that changes something durable, before or after the change."""

    def __init__(self) -> None:
        self.left = -1
        self.passed = 0

    def arm(self, steps: int) -> None:
        self.left = steps

    def step(self) -> None:
        self.passed += 1
        if self.left == 0:
            self.left = -1
            raise Crash
        if self.left > 0:
            self.left -= 1


class FusedDatabase(Database):
    """A database whose write transactions are steps of a fuse."""

    fuse: Fuse

    async def write(self, work, /, *args, **kwargs):  # type: ignore[no-untyped-def,override]
        """As a database does; a lease is renewed every half second, so whether that is a step depends on the load."""
        if work is taskleases.renew:
            return await Database(self.engine).write(work, *args, **kwargs)
        return await super().write(work, *args, **kwargs)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[object]:  # type: ignore[override]
        self.fuse.step()
        with super().transaction() as connection:
            yield connection
        self.fuse.step()


class CloudService:
    """What the cloud keeps of one service."""

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self.state = RunState.RUNNING
        self.wanted = spec.instances
        self.holder = ShelfHolder(Shelf(MemoryStore()))
        self.ready_after = 0  # status calls until instances run
        self.broken = 0  # instances that never run
        self.parts: tuple[str, ...] = ()  # what is left of it, when it is not whole


def _expires(spec: ServiceSpec) -> int:
    return expires(load_cer(spec.certificate.encode())) if spec.certificate else NOW + 365 * DAY


def _thumbprint(spec: ServiceSpec) -> str:
    return thumbprint(load_cer(spec.certificate.encode())).hex() if spec.certificate else ""


class FakeCloud:
    """A subscription in memory. ``failures[operation]`` is a list of errors to raise, one a call."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.services: dict[str, CloudService] = {}
        self.failures: dict[str, list[EntrepotError]] = {}
        self.calls: list[str] = []
        self.left: list[str] = []
        self.state = "active"
        self.notes: list[str] = []
        self.records: list[NeededRecord] = []
        self.closed = 0
        self.time = 0
        self.instance_quota = 16
        self.tells_stored = True
        self.measured_at = 0
        self.redirects = False
        self.broken_from_start = 0
        self.pin = self.next_pin = ""  # as an older host: it does not tell
        self.thumbprint: str | None = None  # told instead of the real one
        self.on_call: Callable[[str], Awaitable[None]] | None = None

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.on_call is not None:
            await self.on_call(name)
        if self.failures.get(name):
            raise self.failures[name].pop(0)

    def _found(self, service: str) -> CloudService:
        if service not in self.services:
            raise NotFoundError(f"There is no service {service}.")
        return self.services[service]

    async def check(self) -> Subscription:
        await self._call("check")
        return Subscription(
            id="sub-1",
            name="Test",
            state=self.state,
            region="here",
            storage_quota=10**12,
            instance_quota=self.instance_quota,
            certificate_expires=NOW + 365 * DAY,
            time=self.time,
            redirects=self.redirects,
            pin=self.pin,
            next_pin=self.next_pin,
        )

    async def create(
        self, service: str, spec: ServiceSpec, progress: Callable[[str], None] = lambda _: None
    ) -> ServiceStatus:
        await self._call("create")
        progress("Making it")
        self.fuse.step()
        if service not in self.services:
            self.services[service] = CloudService(spec)
            self.services[service].broken = self.broken_from_start
        self.services[service].spec, self.services[service].wanted = spec, spec.instances
        self.fuse.step()
        return await self._status(service)

    async def status(self, service: str) -> ServiceStatus:
        await self._call("status")
        return await self._status(service)

    async def listed(self) -> list[ServiceStatus]:
        await self._call("services")
        return [await self._status(name) for name in sorted(self.services)]

    async def plan(self, service: str, point: str, instances: int) -> tuple[PlannedResource, ...]:
        await self._call("plan")
        return (
            PlannedResource(kind="instance", name=service, meter="x/hour", quantity=730 * instances, stays=False),
            PlannedResource(kind="disk", name=f"{service}/disk", meter="x/disk", quantity=1),
        )

    async def metrics(self, service: str, since: int, until: int) -> CloudMetrics:
        await self._call("metrics")
        return CloudMetrics(stored_bytes=1, stored_objects=1, egress_bytes=2, since=since, until=until)

    async def _status(self, name: str) -> ServiceStatus:
        service = self._found(name)
        try:
            document = await service.holder.get_document(CONTROL_KEY)
            control = from_json(take_apart(document, typ=SignedType.CONTROL).payload, ControlDocument, "control")
            counter = control.fresh.counter
        except NotFoundError:
            counter = 0
        running = service.wanted - service.broken if service.state is RunState.RUNNING else 0
        service.ready_after = max(0, service.ready_after - 1)
        count, stored = 0, 0
        page = await service.holder.page()
        for size in page.sizes:
            count, stored = count + 1, stored + size
        return ServiceStatus(
            name=name,
            point=service.spec.point,
            fqdn=service.spec.fqdn,
            state=service.state,
            address="127.0.0.1:8443",
            wanted=service.wanted,
            instances=tuple(
                Instance(
                    id=f"i{index}",
                    state="running" if index < running and not service.ready_after else "starting",
                    started=NOW,
                    heartbeat=NOW,
                    restarts=0,
                    control=counter,
                )
                for index in range(service.wanted if service.state is RunState.RUNNING else 0)
            ),
            stored_bytes=stored if self.tells_stored else None,
            stored_at=self.measured_at,
            stored_objects=count,
            certificate_expires=_expires(service.spec),
            certificate_thumbprint=_thumbprint(service.spec) if self.thumbprint is None else self.thumbprint,
            root=service.spec.root,
            notes=tuple(self.notes),
            records=tuple(self.records),
            parts=service.parts,
            redirects=self.redirects,
        )

    async def _turn(self, operation: str, name: str, state: RunState) -> ServiceStatus:
        await self._call(operation)
        self.fuse.step()
        self._found(name).state = state
        self.fuse.step()
        return await self._status(name)

    async def start(self, service: str, progress: Callable[[str], None] = lambda _: None) -> ServiceStatus:
        progress("Starting it")
        return await self._turn("start", service, RunState.RUNNING)

    async def stop(self, service: str, progress: Callable[[str], None] = lambda _: None) -> ServiceStatus:
        progress("Stopping it")
        return await self._turn("stop", service, RunState.STOPPED)

    async def scale(
        self, service: str, instances: int, progress: Callable[[str], None] = lambda _: None
    ) -> ServiceStatus:
        progress("Scaling it")
        await self._call("scale")
        self.fuse.step()
        self._found(service).wanted = instances
        self.fuse.step()
        return await self._status(service)

    async def delete(self, service: str, progress: Callable[[str], None] = lambda _: None) -> Remains:
        progress("Deleting it")
        await self._call("delete")
        self.fuse.step()
        if self.left:
            return Remains(left=tuple(self.left))
        self.services.pop(service, None)
        self.fuse.step()
        return Remains(left=())

    def holder(self, service: str, *, fetched=uncounted) -> ShelfHolder:
        return _LateHolder(self, service, fetched)  # type: ignore[return-value]  # the same methods


class CloudAdapter:
    """The cloud as the port has it: what is a dictionary in the cloud is a method there."""

    def __init__(self, cloud: FakeCloud) -> None:
        self._cloud = cloud

    async def services(self) -> list[ServiceStatus]:
        return await self._cloud.listed()

    async def close(self) -> None:
        self._cloud.closed += 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._cloud, name)


class _LateHolder:
    """Finds the service at every call, as a store endpoint does; document changes are steps of the fuse."""

    def __init__(self, cloud: FakeCloud, service: str, fetched: Callable[[int], None]) -> None:
        self._cloud = cloud
        self._fetched = fetched
        self._service = service

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        async def call(*args: object, **kwargs: object) -> object:
            await self._cloud._call(name)
            changes = name in ("put_document", "delete_document", "put", "delete")
            if changes:
                self._cloud.fuse.step()
            result = await getattr(self._cloud._found(self._service).holder, name)(*args, **kwargs)
            if changes:
                self._cloud.fuse.step()
            self._fetched(len(result) if isinstance(result, bytes) else 0)
            return result

        return call


def make_keys(database: Database, folder: Path) -> SiteKeys:
    """A hierarchy with one site, in the database."""
    root = RootKey.generate()
    vault = ServerVault.create(folder / "vault.key")
    authority = create_authority("Test", now=NOW)
    keys = {role: SigningKey.generate() for role in SIGNING_ROLES}
    entries = tuple(
        KeyEntry(kid=key.kid, role=role, site=SITE, public=key.public, not_before=NOW - DAY, not_after=NOW + 3000 * DAY)
        for role, key in keys.items()
    )
    document = TrustDocument(
        hierarchy="Test", number=1, epoch=1, issued=NOW, keys=(*entries, authority.key_entry(SITE))
    )
    record = Hierarchy(
        name="Test", epoch=1, trust_number=1, trust_document=root.sign_trust(document), root_public=root.public
    )
    site = Site(code=SITE, name="Primary", url="https://127.0.0.1:1", vault_public=vault.public, created=NOW)
    with database.transaction() as connection:
        hierarchy.create_hierarchy(connection, record, now=NOW)
        hierarchy.add_site(connection, site)
    signers = {
        entry.role: (
            Signer(
                RoleKey(
                    kid=entry.kid,
                    role=entry.role,
                    site=SITE,
                    public=entry.public,
                    sealed=b"",
                    not_before=entry.not_before,
                    not_after=entry.not_after,
                ),
                keys[entry.role],
            ),
        )
        for entry in entries
    }
    current = KeySet(
        site=site,
        hierarchy=record,
        vault=vault,
        ring=Ring(document),
        trust_document=record.trust_document,
        signers=signers,
        authority=authority,
        generation=1,
        content_secret=Secret(secrets.token_bytes(32)),
        dedupe_secret=Secret(secrets.token_bytes(32)),
        nonce_secret=Secret(secrets.token_bytes(32)),
        wrapping=1,
        change=0,
    )
    return SiteKeys(current, {}, clock=lambda: NOW)


@functools.cache
def _empty_database() -> Path:
    """All tables, made once: crash tests need many databases."""
    path = Path(tempfile.mkdtemp(prefix="entrepot-test-")) / "site.db"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    database = open_database(sqlite_url(path))
    create_tables(database)
    database.close()  # the last connection to close empties the write-ahead log
    return path


class SiteUnderTest:
    """One site, whose process can die and come back; cloud, clock and database outlive it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Ticking()
        self.fuse = Fuse()
        self.cloud = FakeCloud(self.fuse)
        self.connections: list[CloudConnection] = []
        self.names: dict[str, tuple[str, ...]] = {}
        self.shown = [b""]  # certificates at the address of every service, one a look; the last one stays
        shutil.copyfile(_empty_database(), folder / "site.db")
        plain = open_database(sqlite_url(folder / "site.db"))
        self.keys = make_keys(plain, folder)
        plain.close()
        self._lives = 0
        self.database: Database = plain
        self.boot()

    def boot(self) -> None:
        """A new process: everything in memory is new."""
        self.database.close()
        self._lives += 1
        database = FusedDatabase(open_database(sqlite_url(self.folder / "site.db")).engine)
        database.fuse = self.fuse
        self.database = database
        self.engine = TaskEngine(database, site=SITE, holder=f"life-{self._lives}", clock=self.clock)
        self.services = CloudServices(
            database,
            self.keys,
            self.engine,
            factory=self._provider,
            logs=self.folder / "logs",
            holder=f"life-{self._lives}",
            clock=self.clock,
            sleep=self._sleep,
            ask=self._ask,
        )

    async def _ask(self, _address: str, _fqdn: str) -> bytes:
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]

    def _provider(self, connection: CloudConnection) -> CloudAdapter:
        load_pem_private_key(connection.private_key.reveal(), None)
        self.connections.append(connection)
        return CloudAdapter(self.cloud)

    async def _sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def import_certificate(self, name: str = "management") -> None:
        pair = new_management("Test management", 365, "ec", now=NOW)
        self.services.certificates.import_management(name, light_pfx(pair, PASSWORD), Secret(PASSWORD))

    def request(self, name: str = "cloud1", fqdn: str = FQDN, **changes: object) -> CloudPointRequest:
        pfx = light_service_pfx(self.keys.authority, fqdn, PASSWORD, days=200, now=NOW)
        request = CloudPointRequest(
            name=name,
            host_url="https://127.0.0.1:9",
            host_pin="ab" * 32,
            subscription="sub-1",
            management_certificate="management",
            service_pfx=pfx,
            service_password=PASSWORD,
        )
        return msgspec.structs.replace(request, **changes)

    async def settle(self, *, tries: int = 12) -> None:
        """Run tasks until none is left to run, moving the clock over their pauses."""
        await self.engine.recover()
        for _ in range(tries):
            await self.engine.run_once()
            if not await self.database.read(tasks.listed, only_active=True):
                return
            self.clock.advance(2000)

    async def make_point(self, name: str = "cloud1", **changes: object) -> CloudPoint:
        """A cloud point that is ready."""
        with contextlib.suppress(EntrepotError):
            self.import_certificate()
        await self.services.create(self.request(name, **changes))
        await self.settle()
        return await self.services.get(name)

    async def task(self, task: Task) -> Task:
        return await self.database.read(tasks.get, task.id)

    async def completed(self, task: Task) -> Task:
        ended = await self.task(task)
        assert ended.state is TaskState.COMPLETED, (ended.state, ended.error)
        return ended

    def control_of(self, service: str = "cloud1") -> ControlDocument:
        """The control document that the gateways see, its signature checked."""
        data = self.cloud.services[service].holder._shelf.store.read(CONTROL_KEY)
        verified = self.keys.ring.verify(
            b"".join(data), typ=SignedType.CONTROL, role=Role.CONTROL, now=self.clock(), site=SITE
        )
        return from_json(verified.payload, ControlDocument, "control document")

    def state_of(self, service: str = "cloud1") -> ServiceState:
        return self.control_of(service).state


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteUnderTest]:
    """A site with an empty cloud."""
    made = SiteUnderTest(tmp_path)
    yield made
    made.database.close()


class Gateway:
    """Writes segments as an instance does."""

    def __init__(self, point: str, instance: str = "gw-1") -> None:
        self.point = point
        self.instance = instance
        self.sequence = 0
        self.previous = bytes(32)

    def segment(self, records: list[Record], *, opened: int = NOW * 1000) -> tuple[str, bytes]:
        """The next segment: key and bytes."""
        header = SegmentHeader(
            point=self.point,
            instance=self.instance,
            sequence=self.sequence,
            previous=self.previous,
            opened=opened,
        )
        data = encode_header(header) + encode_records(records)
        key = segment_key(hour_of(opened / 1000), self.instance, self.sequence)
        self.sequence += 1
        self.previous = hashlib.sha256(data).digest()
        return key, data


def record(
    sent: int = 1000,
    *,
    time: int = NOW * 1000,
    device: str = "dev-1",
    set_id: bytes = bytes(32),
    status: int = 200,
) -> Record:
    """One request."""
    return Record(time=time, device=device, set_id=set_id, object_id=bytes(32), status=status, sent=sent, duration=5)


LOW = Thresholds(
    storage_quota=1000,
    storage_warning_free_percent=10,
    transfer_quota=1000,
    transfer_warning_percent=50,
    transfer_critical_percent=90,
)
