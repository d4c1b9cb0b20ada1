"""Runs one service: brings its instances in line with what is wanted (``plan`` decides, this acts)."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from entrepot.cloud.gateway.config import GatewayConfig
from entrepot.cloud.gateway.pipes import Heartbeat, Order
from entrepot.cloud.gateway.seen import FILE, Seen, keep_seen, load_seen
from entrepot.cloud.host.address import PortBusyError, ServiceAddress
from entrepot.cloud.host.instance import GatewayInstance
from entrepot.cloud.host.keys import KeyFolder
from entrepot.cloud.host.leftovers import Leftovers
from entrepot.cloud.host.plan import Crashes, Phase, View, plan
from entrepot.cloud.host.services import ServiceRow, Services, Wanted
from entrepot.cloud.host.settings import REMOTE_POLL_SECONDS, Folders, HostSettings
from entrepot.cloud.host.storage import HostStorage, store_settings
from entrepot.core.addresses import parse_ports
from entrepot.core.errors import StorageError
from entrepot.core.ids import prefixed_id
from entrepot.core.times import Clock
from entrepot.durable.files import make_folder, sweep_temporary
from entrepot.objects.settings import StoreKind
from entrepot.protocol.cloudhost import Instance, RunState
from entrepot.web.embedded import TlsFiles

SILENT: Final = Heartbeat(beat=0, control=0, active=0, sent=0)
"""Stands for what an instance has not said yet."""
SHIP_SECONDS: Final = 5.0
"""So long a stop waits until the store has what the instances recorded; a store that is slower gets it later."""
FREE_SECONDS: Final = 5.0
"""So long the instances of a host that was killed may take to give their port up."""
_AGAIN_SECONDS: Final = 0.1
_log = structlog.get_logger("entrepot.host")


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What every runner needs of its host. ``command`` starts a gateway, given the path of its configuration."""

    settings: HostSettings
    folders: Folders
    keys: KeyFolder
    services: Services
    storage: HostStorage
    command: Sequence[str]
    pid: int
    listen_host: str
    clock: Clock


class ServiceRunner:
    """One service's instances. Belongs to the event loop; one step at a time.

    Args:
        poke: called when something changed that may need another step.
    """

    def __init__(self, service_id: str, around: Surroundings, poke: Callable[[], None]) -> None:
        self.service_id = service_id
        self._around = around
        self._poke = poke
        self._address: ServiceAddress | None = None
        self._has_waited = False
        self._instances: dict[str, GatewayInstance] = {}
        self._crashes = Crashes()
        self._restarts = 0
        self._files: tuple[int, TlsFiles] | None = None
        self._seen: Seen | None = None
        self._leftovers: Leftovers | None = None
        self._step = asyncio.Lock()
        self._ends: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The service's port; 0 before it has one."""
        return self._address.port if self._address else 0

    @property
    def idle(self) -> bool:
        """Nothing runs, no port is held, and nothing is under way to either."""
        return self._address is None and not self._instances and not self._step.locked()

    def signal(self) -> None:
        """Let all instances read their documents now."""
        for instance in self._instances.values():
            instance.tell(Order.CONTROL)

    async def converge(self) -> None:
        """Do what is needed now; what must wait is done at a later call.

        What is wanted is read inside the step: after :meth:`stop` nothing starts because of an older wish.

        Raises:
            EntrepotError: the port, the key files or a process could not be had; nothing is lost, call again.
        """
        async with self._step:
            row = await asyncio.to_thread(self._around.services.get, self.service_id)
            if row is None or row.state is Wanted.DELETING:
                return
            await self._hold_address(row)
            await self._begin(row)
            await asyncio.to_thread(self._remember_seen)
            loop = asyncio.get_running_loop()
            wanted = row.wanted_instances
            if wanted == 0 and self._address:
                self._address.refuse()
            views = [instance.view for instance in self._instances.values()]
            steps = plan(wanted, row.revision, views, crashes=self._crashes, now=loop.time())
            for name in steps.kill:
                _log.warning("instance.hung", instance=name)
                self._instances[name].kill()
            for name in steps.stop:
                self._instances[name].stop()
            for name in steps.drain:
                self._instances[name].drain()
            self._steer()
            for _ in range(steps.start):
                await self._start(row)
            if all(view.revision == row.revision for view in views):
                await asyncio.to_thread(self._around.keys.forget_older, row.id, row.revision)

    async def stop(self) -> None:
        """End all instances at once, wait until they are gone, and a little for the store to have their records."""
        async with self._step:
            if self._address:
                self._address.refuse()
            for instance in list(self._instances.values()):
                instance.stop()
            ends = set(self._ends)
        if ends:  # of those that ran; what is started meanwhile is somebody else's wish
            await asyncio.wait(ends)
        if self._leftovers:
            await self._leftovers.settle(SHIP_SECONDS)

    async def close(self) -> None:
        """End all instances and give the port up."""
        await self.stop()
        if self._address:
            self._address.close()
            self._address = None

    async def retire(self) -> None:
        """Close for ever: on return nothing of the service is written any more."""
        await self.close()
        if self._leftovers:
            await self._leftovers.end()

    def state(self, row: ServiceRow) -> RunState:
        """One word for how the service is."""
        if row.state is Wanted.DELETING:
            return RunState.DELETING
        serving = [view for view in self._views() if view.phase is Phase.READY and view.revision == row.revision]
        if row.wanted_instances == 0:
            return RunState.STOPPED
        if len(serving) >= row.wanted_instances and self._all_healthy():
            return RunState.RUNNING
        return RunState.STARTING if self._crashes.count == 0 else RunState.DEGRADED

    def instances(self) -> tuple[Instance, ...]:
        """What is known of each instance."""
        words = {
            Phase.STARTING: "starting",
            Phase.READY: "running",
            Phase.DRAINING: "running",
            Phase.STOPPING: "failed",
        }
        return tuple(
            Instance(
                id=instance.id,
                state=words[instance.view.phase],
                started=int(instance.started_at),
                heartbeat=int(instance.heard_at),
                restarts=self._restarts,
                control=heard.control,
                active=heard.active,
                sent=heard.sent,
                cpu=heard.cpu,
            )
            for instance in self._instances.values()
            for heard in [instance.heartbeat or SILENT]
        )

    def _views(self) -> list[View]:
        return [instance.view for instance in self._instances.values()]

    def _all_healthy(self) -> bool:
        return all(one.heartbeat is None or one.heartbeat.healthy for one in self._instances.values())

    def _noticed(self) -> None:
        self._steer()
        self._poke()

    def _steer(self) -> None:
        """New connections go to instances that are ready; while there is none, to those that soon will be."""
        if self._address is None:
            return
        by_phase = {phase: [one.slot for one in self._instances.values() if one.phase is phase] for phase in Phase}
        self._address.choose(by_phase[Phase.READY] or by_phase[Phase.STARTING])

    async def _hold_address(self, row: ServiceRow) -> None:
        if self._address is None:
            address = await self._opened(row)
            try:
                if address.port != row.port:
                    await asyncio.to_thread(self._around.services.set_port, row.id, address.port)
            except BaseException:
                address.close()
                raise
            self._address = address

    async def _opened(self, row: ServiceRow) -> ServiceAddress:
        """Its address. The first time the port may still be a killed host's; later the supervisor comes again anyway,
        and the other services do not wait for this one."""
        loop = asyncio.get_running_loop()
        among = parse_ports(self._around.settings.service_ports)
        others = frozenset[int]() if row.port else await asyncio.to_thread(self._around.services.ports)
        until = loop.time() + (0 if self._has_waited else FREE_SECONDS)
        self._has_waited = True
        while True:
            try:
                return await asyncio.to_thread(
                    ServiceAddress, self._around.listen_host, row.port, among=among, but=others
                )
            except PortBusyError:
                if loop.time() >= until:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _begin(self, row: ServiceRow) -> None:
        """Look after what instances left when the host was killed: configurations, journals."""
        if self._leftovers is None:
            store = (await asyncio.to_thread(self._around.storage.open, row)).store
            await asyncio.to_thread(self._sweep_run)  # before any instance is started
            state = self._around.folders.state(row.id)
            self._leftovers = Leftovers(row.name, state, store, lambda: tuple(self._instances))

    def _remember_seen(self) -> None:
        """Keep the highest documents that instances have obeyed, for those that start later."""
        path = self._around.folders.run(self.service_id) / FILE
        known = load_seen(path) if self._seen is None else self._seen
        seen = known
        for one in self._instances.values():
            if beat := one.heartbeat:
                seen = seen.merged(Seen(epoch=beat.epoch, counter=beat.control, trust=beat.trust))
        if seen != known:
            keep_seen(path, seen)
        self._seen = seen

    def _sweep_run(self) -> None:
        run = self._around.folders.run(self.service_id)
        sweep_temporary(run)
        for path in run.glob("*.json"):
            path.unlink(missing_ok=True)

    async def _start(self, row: ServiceRow) -> None:
        around, folders = self._around, self._around.folders
        assert self._address is not None
        files = await asyncio.to_thread(self._tls_files, row)
        slot, listener = self._address.slot(one.slot for one in self._instances.values())
        remote = store_settings(row)
        far = remote.kind is not StoreKind.FOLDER
        config = GatewayConfig(
            instance=prefixed_id("gw", secrets.token_bytes(8)),
            point=row.point,
            root=row.root,
            store="" if far else str(folders.store(row.id)),
            remote=remote if far else None,
            state=str(folders.state(row.id)),
            certificate=str(files.cert),
            private_key=str(files.key),
            listener=listener.fileno(),
            parent=around.pid,
            poll=REMOTE_POLL_SECONDS if far else around.settings.poll_seconds,
            drain_seconds=around.settings.drain_seconds,
            seen=self._seen or Seen(),
        )
        file = folders.run(row.id) / f"{config.instance}.json"
        try:
            instance = await GatewayInstance.start(
                around.command, config, file, listener=listener, slot=slot, revision=row.revision, now=around.clock()
            )
        except OSError as error:
            raise StorageError(
                f"A gateway process could not be started: {error.strerror}.",
                next_step="Check memory and process limits of the cloud host.",
            ) from error
        instance.changed = self._noticed
        self._instances[instance.id] = instance
        instance.tell(Order.CONTROL)  # what was told to all while the process began it has not heard
        self._steer()
        task = asyncio.create_task(self._after(instance), name=f"end of {instance.id}")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)
        _log.info("instance.started", service=row.name, instance=instance.id, pid=instance.pid)

    def _tls_files(self, row: ServiceRow) -> TlsFiles:
        if self._files is None or self._files[0] != row.revision:
            folders = self._around.folders
            for folder in (folders.state(row.id), folders.run(row.id)):
                make_folder(folder, mode=0o700)
            key = self._around.services.private_key(row)
            self._files = (row.revision, self._around.keys.write(row.id, row.revision, row.certificate, key))
        return self._files[1]

    async def _after(self, instance: GatewayInstance) -> None:
        """When an instance is gone: account for it, and have what it left shipped."""
        code = await instance.ended()
        del self._instances[instance.id]
        self._steer()
        loop = asyncio.get_running_loop()
        unasked = instance.phase in (Phase.STARTING, Phase.READY)
        if unasked:
            self._crashes = self._crashes.after(ran=loop.time() - instance.started, now=loop.time())
            self._restarts += 1
        note = _log.warning if unasked else _log.info
        note("instance.ended", instance=instance.id, code=code, unasked=unasked, phase=instance.phase)
        if self._leftovers:
            self._leftovers.look()
        self._poke()
