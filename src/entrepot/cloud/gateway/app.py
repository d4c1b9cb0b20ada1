"""One gateway instance, wired: configuration in, a served port out.

Start: journal folder locked, documents read once, then the port is served. End: on SIGTERM or the end of standard input
running downloads may finish (``drain_seconds``); on the order ``stop`` they are cut at once. Either way the journal is
closed and shipped last, when no further record can come.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import structlog

from entrepot.cloud.gateway.config import GatewayConfig, load_config
from entrepot.cloud.gateway.journal import Journal, Limits
from entrepot.cloud.gateway.marking import Marker
from entrepot.cloud.gateway.pipes import HEARTBEAT_SECONDS, MAX_LINE, Heartbeat, Order, encode_heartbeat
from entrepot.cloud.gateway.recorder import TransactionRecorder
from entrepot.cloud.gateway.seen import FILE, keep_seen, load_seen
from entrepot.cloud.gateway.watcher import ControlWatcher
from entrepot.cloud.metrics import with_store
from entrepot.cloud.storage import ServiceStore, open_service_store
from entrepot.core.addresses import parse_listen
from entrepot.core.errors import NotFoundError, StorageError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.objects.remembering import RememberingStore
from entrepot.objects.settings import StoreSettings
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import ObjectStore
from entrepot.objects.verifying import VerifyingStore
from entrepot.protocol.control import ControlDocument, Delivery, GatewaySettings
from entrepot.protocol.transactions import Record
from entrepot.trust.root import fingerprint
from entrepot.web.addresses import forwarded_address, peer_address
from entrepot.web.allowances import Allowances
from entrepot.web.authorise import TokenAuthoriser
from entrepot.web.control import serving
from entrepot.web.embedded import TlsFiles
from entrepot.web.grants import Grant
from entrepot.web.health import Health, registry_of
from entrepot.web.logs import log_json
from entrepot.web.objects import ObjectPlane
from entrepot.web.process import die_with_parent, fast_loop
from entrepot.web.redirects import StoreRedirects
from entrepot.web.server import (
    announce_ready,
    listener_url,
    open_listener,
    run_process,
    serve,
)
from entrepot.web.sets import SetLibrary

CUT_SECONDS = 1.0
FIRST_LOOK_SECONDS = 10.0
SHIP_SECONDS = 5.0
SHIP_SECONDS_STOPPED = 0.5
_log = structlog.get_logger("entrepot.gateway")


class GatewayAuthoriser:
    """Lets clients read; the site's operations are the host's store endpoint's.

    The site is the one whose control document is obeyed. While records cannot be kept, nobody is served.
    """

    def __init__(self, watcher: ControlWatcher, recorder: TransactionRecorder, point: str, sets: SetLibrary) -> None:
        self._watcher, self._recorder, self._point, self._sets = watcher, recorder, point, sets
        self._inner: tuple[str, TokenAuthoriser] | None = None

    async def client(self, token: str, object_id: ObjectId) -> Grant:
        """See :class:`~entrepot.web.grants.Authoriser`."""
        if not self._recorder.healthy:
            raise UnavailableError("This instance cannot keep records now.", next_step="Try again in a moment.")
        control = self._watcher.obeyed.control
        if self._inner is None or control is None or self._inner[0] != control.site:
            control, _ = serving(self._watcher.obeyed, now=time.time())
            authoriser = TokenAuthoriser(
                lambda: self._watcher.obeyed,
                site=control.site,
                audience=self._point,
                point=self._point,
                sets=self._sets,
            )
            self._inner = (control.site, authoriser)
        return await self._inner[1].client(token, object_id)

    def at_once(self, token: bytes, object_id: ObjectId) -> Grant | None:
        """See :class:`~entrepot.web.grants.Authoriser`."""
        if self._inner is None or not self._recorder.healthy:
            return None
        return self._inner[1].at_once(token, object_id)

    def knows(self, token: str) -> bool:
        """See :class:`~entrepot.web.grants.Authoriser`."""
        return self._inner is not None and self._inner[1].knows(token)

    async def site(self, token: str) -> None:  # noqa: ARG002  # the port's shape
        """See :class:`~entrepot.web.grants.Authoriser`."""
        raise NotFoundError("A gateway serves objects to clients, nothing else.")


def _for_clients(opened: ServiceStore, remote: StoreSettings | None) -> ObjectStore:
    """What downloads are read from; sets are not: that one is gone must show soon."""
    if remote is None:
        return opened.store
    remembering = RememberingStore(opened.store)
    return VerifyingStore(remembering) if remote.verify else remembering


class Gateway:
    """One instance. Make it in the event loop that runs it."""

    def __init__(self, config: GatewayConfig, journal: Journal) -> None:
        self._config = config
        self._settings = GatewaySettings()
        where = (Path(config.store), config.remote or StoreSettings())
        opened = open_service_store(*where)
        store, self._meter = opened.store, opened.meter
        shelf = Shelf(_for_clients(opened, config.remote))
        state = Path(config.state)
        self._seen = config.seen if config.parent else config.seen.merged(load_seen(state / FILE))
        self._stop = asyncio.Event()
        self._cut = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.recorder = TransactionRecorder(
            journal,
            state=state,
            folder=state / config.instance,
            store=store,
            clock=time.time,
            limits=lambda: Limits(size=self._settings.segment_bytes, seconds=self._settings.segment_seconds),
            running=self._running,
            on_failure=lambda: os._exit(1),
        )
        self.watcher = ControlWatcher(
            open_service_store(*where, soon=self._meter).store,
            pin=fingerprint(config.root),
            point=config.point,
            clock=time.time,
            poll=config.poll,
            apply=self._apply,
            seen=self._seen,
        )
        authoriser = GatewayAuthoriser(self.watcher, self.recorder, config.point, SetLibrary(Shelf(store)))
        allowances = Allowances(store, holder=config.instance)
        self._redirects = StoreRedirects(shelf)
        self.plane = ObjectPlane(
            shelf,
            authoriser,
            self.recorder.record,
            allowances=allowances,
            noted=self.recorder.noted,
            redirects=self._redirects,
            address_of=forwarded_address if config.front else peer_address,
            methods=("GET", "HEAD"),
        )
        self._marker = Marker(
            store,
            instance=config.instance,
            latest=lambda: allowances.latest,
            settled_before=self.plane.settled_before,
            noted=self.recorder.noted,
            clock=time.time,
        )
        self.watcher.watch(self.plane)

    async def _health(self) -> dict[str, Any]:
        """For load balancers: ``ok`` while clients are served here."""
        status = "ok"
        try:
            serving(self.watcher.obeyed, now=time.time())
        except UnavailableError as error:
            status = error.message
        if not self.recorder.healthy:
            status = "records cannot be kept"
        return {"status": status, "instance": self._config.instance, "control": self.watcher.counter}

    def _running(self) -> list[Record]:
        return self.plane.running()

    def _apply(self, control: ControlDocument) -> None:
        """Obey a new control document. It also asks for the records: the site signs one when it wants to collect."""
        settings = self._settings = control.settings
        self.plane.admission.obey(settings)
        self._redirects.on = settings.delivery is Delivery.REDIRECT and control.bounded is not True
        self.recorder.ship_soon()
        self._loop.call_later(CUT_SECONDS, self.recorder.ship_soon)  # what this document cuts is recorded after this

    async def run(self, listener: socket.socket) -> None:
        """Serve until told to end, then ship the journal."""
        config = self._config
        url = listener_url(listener, scheme="http" if config.front else "https")
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        with contextlib.suppress(TimeoutError):  # a store that is silent is looked at again while we serve
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self.watcher.look()
        self.recorder.start()
        background = [
            asyncio.create_task(self.watcher.run(), name="control"),
            asyncio.create_task(self._marker.run(), name="mark"),
        ]
        if config.parent:
            background += [
                asyncio.create_task(self._obey_orders(), name="orders"),
                asyncio.create_task(self._beat(), name="heartbeat"),
            ]
        else:
            background.append(asyncio.create_task(self._remember(), name="remember"))
        serving_task = asyncio.create_task(
            serve(
                Health(self.plane, check=self._health, registry=with_store(registry_of(self.plane), self._meter)),
                listener=listener,
                tls=None if config.front else TlsFiles(cert=Path(config.certificate), key=Path(config.private_key)),
                ready=lambda: announce_ready("gateway", url),
                at_once=self.plane.at_once,
                most_of_address=lambda: 0 if config.front else self.plane.admission.gate.limits.connections,
                drain_seconds=config.drain_seconds,
                stop=self._stop,
            )
        )
        await self._until_served(serving_task)
        for task in background:
            task.cancel()
        await asyncio.to_thread(
            self.recorder.close, ship_seconds=SHIP_SECONDS_STOPPED if self._cut.is_set() else SHIP_SECONDS
        )
        await asyncio.to_thread(self._marker.end, self.recorder.segments)
        _log.info("gateway.ended", instance=config.instance, cut=self._cut.is_set())

    async def _until_served(self, serving_task: "asyncio.Task[None]") -> None:
        """Wait for the end of serving; an order to stop does not wait for the drain."""
        cut = asyncio.create_task(self._cut.wait())
        await asyncio.wait({serving_task, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if not serving_task.done():
            # The cut downloads end within a few steps of the loop; whoever is still in here is not worth waiting for.
            await asyncio.wait({serving_task}, timeout=SHIP_SECONDS_STOPPED / 2)
            serving_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving_task
        else:
            serving_task.result()

    async def _obey_orders(self) -> None:
        """Follow the host's lines; the end of the pipe means: drain and end."""
        reader = asyncio.StreamReader(limit=MAX_LINE)
        await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = line.decode("ascii", "replace").strip()
            if order == Order.CONTROL:
                self.watcher.look_now()
            elif order == Order.STOP:
                self._end_now()
        self._stop.set()

    def _end_now(self) -> None:
        self.watcher.close()
        self.plane.cut_all()
        self._cut.set()
        self._stop.set()

    async def _beat(self) -> None:
        """Tell the host that this instance lives. A host that does not read must not stop us."""
        descriptor = sys.stdout.fileno()
        while True:
            beat = Heartbeat(
                beat=int(time.time() * 1000),
                control=self.watcher.counter,
                active=len(self.plane.downloads),
                sent=self.plane.sent,
                healthy=self.recorder.healthy,
                epoch=self.watcher.seen.epoch,
                trust=self.watcher.seen.trust,
                cpu=round(time.process_time(), 3),
            )
            with contextlib.suppress(BlockingIOError):
                os.write(descriptor, encode_heartbeat(beat))
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _remember(self) -> None:
        """Without a host: keep what was seen for the next start."""
        while True:
            seen = self.watcher.seen
            if seen != self._seen:
                with contextlib.suppress(StorageError):  # tried again in a second
                    await asyncio.to_thread(keep_seen, Path(self._config.state) / FILE, seen)
                    self._seen = seen
            await asyncio.sleep(HEARTBEAT_SECONDS)


def run_gateway(config_path: Path) -> NoReturn:
    """Run one instance to its end, in this process.

    Raises:
        EntrepotError: it cannot start: configuration, certificate, port or journal folder.
    """
    config = load_config(config_path)
    if config.parent:
        die_with_parent(config.parent)
        os.set_blocking(sys.stdout.fileno(), False)
    else:  # started again and again with the same file: segments of two starts must never share a name
        config = msgspec.structs.replace(config, instance=f"{config.instance}-{secrets.token_hex(8)}")
    log_json()
    run_process(_run(config), loop=fast_loop)


async def _run(config: GatewayConfig) -> None:
    structlog.contextvars.bind_contextvars(instance=config.instance)
    journal = Journal(Path(config.state) / config.instance, point=config.point, instance=config.instance)
    if config.listener >= 0:
        listener = socket.socket(fileno=config.listener)
    else:
        host, port = parse_listen(config.listen)
        listener = open_listener(host, port, shared=True)
    await Gateway(config, journal).run(listener)
