"""The point as a process: home, documents, objects, and the loops around them."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from entrepot.core.addresses import parse_listen
from entrepot.core.errors import EntrepotError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR, Clock
from entrepot.durable.files import make_folder
from entrepot.durable.locks import HomeLock
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.objects.staging import STAGING, sweep
from entrepot.point.home import PointHome, PointSettings, home_of, load_settings
from entrepot.point.inventory import Inventory
from entrepot.point.renewal import Renewal
from entrepot.point.standing import Standing
from entrepot.protocol.control import ControlDocument
from entrepot.protocol.tokens import points_audience
from entrepot.trust.pins import TrustStore
from entrepot.web.authorise import TokenAuthoriser
from entrepot.web.control import Cut
from entrepot.web.downloads import Downloads
from entrepot.web.health import Health, registry_of
from entrepot.web.objects import ObjectPlane
from entrepot.web.server import TlsFiles, announce_ready, listener_url, open_listener, serve
from entrepot.web.sets import SetLibrary

TICK_SECONDS: Final = 0.5
_log = structlog.get_logger("entrepot.point")


class Point:
    """All parts of one point, wired. The caller holds the home's lock."""

    def __init__(self, home: PointHome, settings: PointSettings, *, clock: Clock = time.time) -> None:
        self.home = home
        self.settings = settings
        make_folder(home.store, mode=0o700)
        self.shelf = Shelf(FolderStore(home.store))
        self.inventory = Inventory(self.shelf)
        self.sets = SetLibrary(self.shelf)
        self.standing = Standing(
            self.shelf,
            TrustStore(home.trust, fingerprint=bytes.fromhex(settings.root)),
            home.freshness,
            point=settings.point,
            clock=clock,
            cut=self._cut,
            obeying=self._obey,
        )
        self.renew = asyncio.Event()
        self.renewal = Renewal(home, settings, self.shelf, self.standing, clock=clock, renewed=self.renew.set)
        authorise = TokenAuthoriser(
            lambda: self.standing.obeyed,
            site=settings.site,
            audience=points_audience(settings.site),
            point=settings.point,
            sets=self.sets,
            clock=clock,
        )
        self.plane = ObjectPlane(
            self.shelf,
            authorise,
            guard=self.standing,
            held=self._held,
            clock=clock,
            downloads=Downloads(most=settings.max_downloads),
        )
        registry = registry_of(self.plane)
        registry.register(_PointMetrics(self))
        self.app = Health(self.plane, check=self.health, registry=registry, metrics_for_all=settings.metrics_for_all)

    async def start(self) -> None:
        """Remove what interrupted uploads left, and obey the documents that lie in the store."""
        swept = await asyncio.to_thread(sweep, self.home.store / STAGING)
        if swept:
            _log.info("interrupted_uploads_removed", folders=swept)
        await self.standing.reload()

    async def health(self) -> dict[str, Any]:
        """The health document: ``status`` is ``ok`` when clients are served."""
        problem = self.standing.problem()
        return {
            "status": "ok" if not problem else "not serving",
            "problem": problem,
            "point": self.settings.point,
            "site": self.settings.site,
            "objects": self.inventory.objects,
            "object_bytes": self.inventory.bytes,
            "counted": self.inventory.counted,
            "free_bytes": await asyncio.to_thread(self.free_bytes),
            "control_age_seconds": self.standing.control_age(),
            "downloads": len(self.plane.downloads),
            "certificate_expires": await asyncio.to_thread(self.renewal.expires),
            "warning": await asyncio.to_thread(self.renewal.warning),
        }

    def free_bytes(self) -> int:
        """Free space on the disk that holds the objects."""
        return shutil.disk_usage(self.home.store).free

    def close(self) -> None:
        """Let go of worker threads."""
        self.plane.close()

    def _held(self, object_id: ObjectId, size: int) -> None:
        self.sets.forget(object_id)
        self.inventory.note(object_id, size)

    def _cut(self, ended: Cut) -> None:
        count = self.plane.cut_all() if ended.everyone else self.plane.cut(ended.devices, ended.tokens)
        if count:
            _log.info("downloads_cut", count=count, everyone=ended.everyone)

    def _obey(self, control: ControlDocument) -> None:
        self.plane.admission.obey(control.settings)


class _PointMetrics:
    def __init__(self, point: Point) -> None:
        self._point = point

    def collect(self) -> list[Metric]:
        point = self._point
        age = point.standing.control_age()
        values = {
            "entrepot_objects": ("Objects held", point.inventory.objects),
            "entrepot_object_bytes": ("Bytes of objects held", point.inventory.bytes),
            "entrepot_disk_free_bytes": ("Free bytes on the disk of the objects", point.free_bytes()),
            "entrepot_control_age_seconds": ("Age of the control document", -1 if age is None else age),
            "entrepot_certificate_expires": ("When the TLS certificate ends", point.renewal.expires()),
            "entrepot_serving": ("1 when clients are served", 0 if point.standing.problem() else 1),
        }
        return [GaugeMetricFamily(name, text, value=value) for name, (text, value) in values.items()]


async def serve_point(
    home: Path,
    *,
    stop: asyncio.Event | None = None,
    ready: Callable[[str], None] = lambda url: announce_ready("point", url),
    clock: Clock = time.time,
) -> None:
    """Serve the point in ``home`` until SIGTERM (or until ``stop`` is set).

    Args:
        ready: called with the URL when connections are accepted.

    Raises:
        NotFoundError: there is no point in this folder.
        BadInputError: its settings or certificate cannot be used.
        ConflictError: another process serves it, or the port is taken.
    """
    folder = home_of(home)
    settings = load_settings(folder)
    with HomeLock(folder.folder, "a point"):
        point = Point(folder, settings, clock=clock)
        await point.start()
        listener = open_listener(*parse_listen(settings.listen))
        url = listener_url(listener)
        loops = [
            asyncio.create_task(_every(TICK_SECONDS, _ticking(point)), name="tick"),
            asyncio.create_task(_every(HOUR, point.inventory.run_once), name="count"),
            asyncio.create_task(point.renewal.serve(), name="renewal"),
        ]
        try:
            await serve(
                point.app,
                listener=listener,
                tls=TlsFiles(cert=folder.tls_certificate, key=folder.tls_key),
                ready=lambda: ready(url),
                at_once=point.plane.at_once,
                most_of_address=lambda: point.plane.admission.gate.limits.connections,
                drain_seconds=settings.drain_seconds,
                stop=stop,
                renew=point.renew,
            )
        finally:
            listener.close()
            for loop in loops:
                loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*loops)
            point.close()


def _ticking(point: Point) -> Callable[[], Awaitable[None]]:
    async def tick() -> None:
        point.standing.tick()

    return tick


async def _every(seconds: float, run_once: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run_once()
        except (EntrepotError, OSError) as error:
            _log.error("background_work_failed", problem=str(error))
        except Exception:  # noqa: BLE001  # a defect seen once must not end what cuts off downloads in time
            _log.exception("background_work_broke")
        await asyncio.sleep(seconds)
