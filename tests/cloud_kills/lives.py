"""A site's process, as often as it takes: each life forks, does one job with a real adapter, and may be killed in it.

Reads one line of JSON after the other from stdin, a new site (``Birth``) or a job for the last one (``Job``), and
answers each with one line: sites follow each other, because loading what they are made of takes seconds.

What a life is killed at (``die_at``) is counted in *steps*: a step is a committed transaction of the site's database, a
request that the cloud has answered and that was to change something, or one that asked how an operation of Azure's goes
on. Between two steps nothing changes anywhere, so a life that is killed after each step is killed everywhere.
``cut_at`` takes the way to the cloud away instead, from that request's answer on, until the first run ends.
"""

import asyncio
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport

from entrepot.cloud.providers.azure.account import AzureAccess
from entrepot.cloud.providers.azure.provider import AzureProvider
from entrepot.cloud.providers.host import HostProvider
from entrepot.core.errors import NotFoundError
from entrepot.core.secret import Secret
from entrepot.database import cloud, controldocuments, taskleases, tasks
from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.objects.folder import FolderStore
from entrepot.protocol.cloudapi import AzureOptions, OrphanRequest, RenewServiceCertificate, UpdateRequest
from entrepot.protocol.cloudpointapi import CloudPointRequest
from entrepot.protocol.control import CONTROL_KEY, ControlDocument
from entrepot.protocol.siteapi import TaskState
from entrepot.site.cloud.accounts import account_of, check_account
from entrepot.site.cloud.dns import Resolved
from entrepot.site.cloud.orphans import REMOVE
from entrepot.site.cloud.presenting import ask_nobody
from entrepot.site.cloud.services import CloudServices
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cloudport import Cloud, CloudConnection
from entrepot.site.tasks import TaskEngine
from entrepot.trust.signing import take_apart

FOLDER = Path(__file__).resolve().parent
NAME, FQDN, PASSWORD = "cloud1", "cloud1.contoso.com", "correct horse"
FORGET, ADOPT = "forget", "cloud-adopt"
"""No kinds of task: to lose the point's row, as with a lost database, and to take the orphan over (an update)."""


def _fixtures() -> Any:
    """The tests of the site's cloud room have a site without a server; this is no test, so it finds them by their
    place."""
    sys.path.append(str(FOLDER.parent.parent))
    return importlib.import_module("tests.site_cloud.conftest")


fixtures = _fixtures()


class Place(msgspec.Struct, frozen=True):
    """A cloud that the lives may use: ``pfx`` is the path of the management certificate."""

    kind: str
    url: str
    subscription: str
    pfx: str
    pin: str = ""
    tenant: str = ""
    application: str = ""
    ca: str = ""
    blobs: str = ""


class Birth(msgspec.Struct, frozen=True, tag=True):
    """A new site, in a folder of its own."""

    folder: str
    place: Place


class Job(msgspec.Struct, frozen=True, tag=True):
    """One life: place an order (``action``; empty: none), or cancel what there is, run the tasks, ``finish`` them.
    ``image``: the order is an update to it."""

    action: str = ""
    instances: int = 1
    image: str = ""
    die_at: int = -1
    cut_at: int = -1
    finish: bool = False
    cancel: bool = False


class Fate:
    """Counts steps and requests, and does what was told at the right one."""

    def __init__(self) -> None:
        self.die_at = self.cut_at = -1
        self.steps = self.requests = 0
        self.trace: list[str] = []

    def step(self, what: str) -> None:
        self.trace.append(what)
        if self.steps == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1

    def cut(self) -> bool:
        """Whether this request's answer is lost, and that of all that follow."""
        self.requests += 1
        return 0 <= self.cut_at < self.requests


FATE = Fate()


class WatchedDatabase(Database):
    """A database whose committed transactions are steps; renewals of leases depend on the load and are none."""

    async def write(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        if work is taskleases.renew:
            return await Database(self.engine).write(work, *args, **kwargs)
        return await super().write(work, *args, **kwargs)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with super().transaction() as connection:
            yield connection
        FATE.step("commit")


def watch_requests() -> None:
    """Let both kinds of connection report what the cloud has answered."""
    azure, plain = RequestsTransport.send, aiohttp.ClientSession._request

    def send(self: Any, request: Any, **more: Any) -> Any:
        answer = azure(self, request, **more)
        if FATE.cut():
            raise ServiceResponseError("The connection was lost.")
        if (request.method not in ("GET", "HEAD") and "/oauth2/" not in request.url) or "/operations/" in request.url:
            FATE.step(f"{request.method} {request.url.partition('?')[0]}")
        return answer

    async def request(self: Any, method: str, url: Any, **more: Any) -> Any:
        answer = await plain(self, method, url, **more)
        if FATE.cut():
            answer.close()
            raise aiohttp.ServerDisconnectedError
        if method not in ("GET", "HEAD"):
            FATE.step(f"{method} {url}")
        return answer

    RequestsTransport.send = send
    aiohttp.ClientSession._request = request  # type: ignore[method-assign]  # the way in that all calls share


class WatchedStore(FolderStore):
    """Stands for the blobs of a storage account; what changes them is a step."""

    def put(self, *args: Any, **kwargs: Any) -> Any:
        made = super().put(*args, **kwargs)
        FATE.step("put")
        return made

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        made = super().delete(*args, **kwargs)
        FATE.step("delete")
        return made


class World(fixtures.SiteUnderTest):  # type: ignore[misc,name-defined]  # loaded by its path
    """A site whose cloud is a real one, as far as this machine has some."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.place = place
        self.management = Path(place.pfx).read_bytes()
        super().__init__(folder)
        self.clock = fixtures.Ticking(time.time())
        self.database.close()  # no connection of the first process is inherited

    def boot(self) -> None:
        """A new process: everything in memory is new."""
        self.database.close()
        self.database = WatchedDatabase(open_database(sqlite_url(self.folder / "site.db")).engine)
        holder = f"life-{os.getpid()}"
        self.engine = TaskEngine(self.database, site=fixtures.SITE, holder=holder, clock=self.clock)
        self.services = CloudServices(
            self.database,
            self.keys,
            self.engine,
            factory=self.provider,
            logs=self.folder / "logs",
            holder=holder,
            clock=self.clock,
            resolver=_nobody,
            sleep=self._sleep,
            ask=ask_nobody,
        )

    def provider(self, connection: CloudConnection) -> Cloud:
        if connection.provider == "host":
            return HostProvider(
                url=connection.url,
                pin=connection.pin,
                next_pin=connection.next_pin,
                subscription=connection.subscription,
                certificate=connection.certificate,
                private_key=connection.private_key,
            )
        assert connection.azure is not None
        access = AzureAccess(
            subscription=connection.subscription,
            options=connection.azure,
            certificate=connection.certificate,
            private_key=connection.private_key,
            region=connection.region,
            arm=connection.url,
            mark=connection.mark,
            ca=self.place.ca,
            polling=0.01,
        )
        return AzureProvider(access, open_store=lambda name, *_: WatchedStore(Path(self.place.blobs) / name))

    async def _sleep(self, seconds: float) -> None:
        """Real gateways need real time; Azure's double answers at once."""
        if self.place.kind == "host":
            await asyncio.sleep(min(seconds, 0.2))
        else:
            self.clock.advance(seconds)
            await asyncio.sleep(0)

    def order(self, instances: int) -> CloudPointRequest:
        """The request for the cloud point."""
        azure = None
        if self.place.kind == "azure":
            azure = AzureOptions(
                tenant=self.place.tenant,
                application=self.place.application,
                image="registry/gateway@sha256:" + "ab" * 32,
                authority=self.place.url,
            )
        return CloudPointRequest(
            name=NAME,
            provider=self.place.kind,
            azure=azure,
            region="westeurope" if azure else "",
            host_url=self.place.url,
            host_pin=self.place.pin,
            subscription=self.place.subscription,
            management_certificate="management",
            service_pfx=self.new_certificate(30),
            service_password=PASSWORD,
            instances=instances,
        )

    def new_certificate(self, days: int) -> bytes:
        """A service certificate of the hierarchy's own issuer."""
        authority = self.keys.authority
        made: bytes = fixtures.light_service_pfx(authority, FQDN, PASSWORD, days=days, now=time.time())
        return made

    async def place_order(self, job: Job) -> None:
        """What the administrator does."""
        if job.action == CloudAction.CREATE:
            if not self.services.certificates.management():
                pfx = self.management
                self.services.certificates.import_management("management", pfx, Secret(PASSWORD))
            await self.services.create(self.order(job.instances))
        elif job.action == CloudAction.RENEW:
            pfx = self.new_certificate(60)
            await self.services.renew(NAME, RenewServiceCertificate(service_pfx=pfx, service_password=PASSWORD))
        elif job.action == FORGET:
            await self.database.write(cloud.delete_cloud_point, (await self.services.get(NAME)).point)
        elif job.action == ADOPT:
            await self.services.adopt(self.order(job.instances))
        elif job.action == REMOVE:
            await self.remove_orphan()
        elif job.image:
            await self.services.update(NAME, UpdateRequest(image=job.image, cpu=1.0))
        elif job.action:
            await self.services.act(CloudAction(job.action), NAME, instances=job.instances)
        if job.cancel:
            for task in await self.database.read(tasks.listed, only_active=True):
                await self.database.write(tasks.request_cancel, task.id, now=self.clock())

    async def remove_orphan(self) -> None:
        """What the administrator does who finds the service in the list of orphans."""
        (orphan,) = await self.services.orphans.search(account_of(check_account(self.order(1))))
        await self.services.remove_orphan(
            OrphanRequest(service=orphan.service, point=orphan.point, account=orphan.account)
        )

    async def settle(self, *, tries: int = 60) -> None:
        """Run tasks until none is left, moving the clock over their pauses."""
        await self.engine.recover()
        for _ in range(tries):
            await self.engine.run_once()
            if not await self.database.read(tasks.listed, only_active=True):
                return
            self.clock.advance(30)

    async def facts(self) -> dict[str, Any]:
        """How everything is now."""
        listed = await self.database.read(tasks.listed)
        last = max(listed, key=lambda one: (one.created, one.id))
        found: dict[str, Any] = {
            "active": sum(one.state in (TaskState.CREATED, TaskState.IN_PROGRESS) for one in listed),
            "task": last.state.value,
            "error": last.error,
        }
        try:
            point = await self.services.get(NAME)
            await self.services.monitor.check(point.point)  # as every few minutes
            point = await self.services.get(NAME)
        except NotFoundError:
            return found
        found |= {"point": point.state.value, "message": point.message, "wanted": point.instances_wanted}
        provider = await self.services.providers.of(point)
        try:
            status = await provider.status(NAME)
        except NotFoundError:
            return found
        row = await self.database.read(controldocuments.control, point.point)
        document = await provider.holder(NAME).get_document(CONTROL_KEY)
        control = msgspec.json.decode(
            take_apart(document, typ=fixtures.SignedType.CONTROL).payload, type=ControlDocument
        )
        return found | {
            "service": status.state.value,
            "instances": [one.state for one in status.instances],
            "expires": status.certificate_expires == point.certificate_expires,
            "control": control.state.value,
            "counter": [row.counter, row.pushed, control.fresh.counter],
        }


async def _nobody(_: str) -> Resolved:
    return Resolved(canonical="", addresses=())


async def live(world: World, job: Job) -> dict[str, Any]:
    """One life."""
    world.boot()
    await world.place_order(job)
    FATE.__init__()  # type: ignore[misc]  # counting begins here
    FATE.die_at, FATE.cut_at = job.die_at, job.cut_at
    await world.engine.recover()
    await world.engine.run_once()
    found: dict[str, Any] = {"steps": FATE.steps, "requests": FATE.requests, "trace": FATE.trace}
    FATE.die_at = FATE.cut_at = -1
    if job.finish:
        await world.settle()
        found |= await world.facts()
    await world.services.close()
    world.database.close()
    return found


def _say(line: str) -> None:
    """On a line of its own: a life that was killed may have left half of one of its log."""
    sys.stdout.write(f"\n{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Make sites; fork one life a job."""
    watch_requests()
    gc.collect()
    gc.freeze()  # no life's garbage collection walks over what was loaded, and so copies its pages
    world: World | None = None
    for line in sys.stdin:
        asked = msgspec.json.decode(line, type=Birth | Job)
        if isinstance(asked, Birth):
            world = World(Path(asked.folder), asked.place)
            _say("ready")
        else:
            assert world is not None
            _say(json.dumps(_lived(world, asked)))


def _lived(world: World, job: Job) -> dict[str, Any]:
    """What became of one life in a process of its own."""
    result, clock = world.folder / "result.json", world.folder / "clock"
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            world.clock.now = max(time.time(), float(clock.read_text()) + 1 if clock.exists() else 0.0)
            result.write_text(json.dumps(asyncio.run(live(world, job))))
            clock.write_text(str(world.clock.now))
        except BaseException:  # noqa: BLE001  # whatever it is: the test shall see it
            result.write_text(json.dumps({"broken": traceback.format_exc()}))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"killed": killed} | (json.loads(result.read_text()) if result.exists() else {})


if __name__ == "__main__":
    main()
