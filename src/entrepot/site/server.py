"""A site server, wired: every part constructed once, in the order in which they need each other."""

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entrepot.core.times import Clock
from entrepot.database import grants
from entrepot.database.engine import Database
from entrepot.database.library import SqlLibrary
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.rules.location import Switches
from entrepot.site.auth import Sessions
from entrepot.site.background import background_work
from entrepot.site.cloud.dns import dns_resolver, dns_texts
from entrepot.site.cloud.logfile import LogOptions
from entrepot.site.cloud.presenting import ask, ask_nobody
from entrepot.site.cloud.services import CloudServices
from entrepot.site.cloudport import ProviderFactory
from entrepot.site.comparison import Comparisons
from entrepot.site.contents import DELETE, Contents, DeleteHandler
from entrepot.site.controls import Controls
from entrepot.site.cost.budgets import BudgetBook
from entrepot.site.cost.pruning import Pruning, Retention
from entrepot.site.deltas import DeltaHandler
from entrepot.site.distribution import DistributionEngine
from entrepot.site.doors import site_app
from entrepot.site.enrolment import Enrolment
from entrepot.site.holders import Holders
from entrepot.site.keys.resealing import ResealHandler
from entrepot.site.keys.rotation import Rotation
from entrepot.site.keys.signers import Signers
from entrepot.site.keys.sitekeys import SiteKeys, new_id
from entrepot.site.library import LibraryCare
from entrepot.site.locating import Locator
from entrepot.site.managementpoint import ManagementPoint
from entrepot.site.missingdeltas import DeltaFinder
from entrepot.site.notifications.outbox import Outbox
from entrepot.site.notifications.subscriptions import Subscriptions
from entrepot.site.publishing import DELTA, PUBLISH, RESEAL, PublishHandler
from entrepot.site.rehearsals import REHEARSAL, RehearsalHandler, Rehearsals
from entrepot.site.renewal import Renewal
from entrepot.site.sending import Sender
from entrepot.site.settings import Home, Settings, gateway_settings
from entrepot.site.staging import REPAIR_KEPT_FREE, LibraryRoom, RoomyStore, Staging, free_space
from entrepot.site.tasks import TaskEngine
from entrepot.site.upkeep import Upkeep
from entrepot.site.versions import DELETE_VERSION, DeleteVersionHandler, Versions
from entrepot.web.asgi import App
from entrepot.web.http import HttpClient
from entrepot.web.tls import TlsTrust


class SiteServer:
    """All parts of one site server.

    Args:
        factory: makes cloud providers; None where no clouds are wired.
        free: how many bytes are free on a folder's disk.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        database: Database,
        keys: SiteKeys,
        *,
        factory: ProviderFactory | None = None,
        clock: Clock = time.time,
        free: Callable[[Path], int] = free_space,
    ) -> None:
        self.database = database
        self.settings = settings
        self.keys = keys
        self.clock = clock
        self.holder = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
        self.room = LibraryRoom(home.library, free=free)
        files = FolderStore(home.library)
        self.shelf = Shelf(RoomyStore(files, self.room))
        self.mending = RoomyStore(files, LibraryRoom(home.library, free=free, kept=REPAIR_KEPT_FREE))
        self.library = SqlLibrary(database, clock=clock, new_id=lambda: new_id("ses"), pause=time.sleep)
        self.http = HttpClient(TlsTrust.hierarchy(keys.authorities), settings.resolve, connections=4 * settings.threads)
        site = keys.site.code
        self.tasks = TaskEngine(database, site=site, holder=self.holder, clock=clock)
        # Publishing takes all cores for long: with an engine of its own, stopping a service never waits for it. Nor
        # does publishing in earnest wait for rehearsals, of which there is one at a time.
        self.rehearsing = TaskEngine(database, site=site, holder=self.holder, clock=clock, concurrency=1)
        self.publishing = TaskEngine(
            database, site=site, holder=self.holder, clock=clock, concurrency=settings.publishing
        )
        self.clouds = CloudServices(
            database,
            keys,
            self.tasks,
            factory=factory,
            logs=home.logs,
            holder=self.holder,
            clock=clock,
            gateways=gateway_settings(settings),
            resolver=dns_resolver(settings.dns_servers),
            texts=dns_texts(settings.dns_servers),
            ask=ask_nobody if settings.proxy else ask,
            log=LogOptions(
                days=settings.log_days, rotate_bytes=settings.log_rotate_bytes, verbose=settings.log_verbose
            ),
        )
        self.holders = Holders(database, keys=keys, http=self.http, clock=clock)
        self.holders.register_cloud(self.clouds.providers.holder)
        self.controls = Controls(database, site=site, publisher=self.clouds.control, holders=self.holders)
        sender = Sender(database, shelf=self.shelf, clock=clock, threads=settings.threads)
        self.distribution = DistributionEngine(
            database,
            site=site,
            holder=self.holder,
            sender=sender,
            holders=self.holders,
            clock=clock,
            draw=random.random,
            transfers=settings.transfers,
            answered=self.controls.answered,
        )
        self.lag = grants.known_after(settings.segment_seconds)
        self.locator = Locator(
            database,
            keys=keys,
            clock=clock,
            switches=Switches(cloud_after_internet_facing=settings.cloud_after_internet_facing),
            budgets=BudgetBook(database, clock=clock, lag=self.lag),
        )
        self.enrolment = Enrolment(database, keys=keys, clock=clock, pushed=self._point_enrolled)
        self.management_point = ManagementPoint(
            database,
            keys=keys,
            locator=self.locator,
            enrolment=self.enrolment,
            renewal=Renewal(database, keys=keys, clock=clock),
            clock=clock,
        )
        self.rotation = Rotation(database, keys=keys, clock=clock, work=self._wake)
        self.signers = Signers(database, keys=keys, clock=clock, changed=self._trust_changed)
        self.renew = asyncio.Event()
        self.home = home
        self.outbox = Outbox(database, keys.vault, site=site, clock=clock)
        self.subscriptions = Subscriptions(database, keys.vault, self.outbox, site=site, clock=clock)
        self.staging = Staging(home.folder / "scratch" / "unpacked", home=home.folder, free=free)
        self.contents = Contents(database, site=site, home=home.folder, clock=clock, work=self._wake)
        self.rehearsals = Rehearsals(database, site=site, home=home.folder, clock=clock, work=self._wake)
        self.versions = Versions(database, site=site, clock=clock, deltas_kept=settings.deltas_kept, work=self._wake)
        self.comparisons = Comparisons(
            database, shelf=self.shelf, keys=keys, scratch=home.folder / "scratch" / "comparisons"
        )
        missing_deltas = DeltaFinder(
            database, site=site, deltas_kept=settings.deltas_kept, clock=clock, work=self._wake
        )
        self.library_care = LibraryCare(
            database,
            settings=settings,
            shelf=self.shelf,
            mending=self.mending,
            library=self.library,
            keys=keys,
            holders=self.holders,
            staging=self.staging,
            deltas=missing_deltas,
            holder=self.holder,
            clock=clock,
        )
        self.sessions = Sessions(database, clock=clock, hours=settings.session_hours)
        self.upkeep = Upkeep(
            database,
            home=home,
            shelf=self.shelf,
            keys=keys,
            pruning=Pruning(
                database,
                Retention(usage=settings.usage_days, transfers=settings.transfer_days, alerts=settings.alert_days),
                clock=clock,
            ),
            reseal_hours=settings.reseal_hours,
            clock=clock,
            work=self.distribution.wake,
            renewed=self.renew.set,
        )
        self.deltas = self._register_handlers(home)

    def _register_handlers(self, home: Home) -> DeltaHandler:
        common: dict[str, Any] = {
            "shelf": self.shelf,
            "library": self.library,
            "keys": self.keys,
            "clock": self.clock,
        }
        publish = PublishHandler(
            self.database,
            staging=self.staging,
            deltas_kept=self.settings.deltas_kept,
            published=self._wake,
            **common,
        )
        rehearse = RehearsalHandler(
            self.database, staging=self.staging, room=self.room, deltas_kept=self.settings.deltas_kept, **common
        )
        reseal = ResealHandler(self.database, deltas_kept=self.settings.deltas_kept, resealed=self._wake, **common)
        deltas = DeltaHandler(self.database, scratch=home.folder / "scratch", made=self._wake, **common)
        self.rehearsing.register(REHEARSAL, rehearse, max_attempts=3)
        self.publishing.register(PUBLISH, publish)
        self.publishing.register(RESEAL, reseal, waits=True)
        self.publishing.register(DELTA, deltas, max_attempts=3, waits=True)
        self.tasks.register(DELETE, DeleteHandler(self.database), max_attempts=1000)
        self.tasks.register(DELETE_VERSION, DeleteVersionHandler(self.database), max_attempts=1000)
        return deltas

    def _wake(self) -> None:
        self.tasks.wake()
        self.publishing.wake()
        self.rehearsing.wake()
        self.distribution.wake()

    def cancel(self, task_id: str) -> None:
        """Let a task of this process end, whichever engine runs it."""
        self.tasks.cancel(task_id)
        self.publishing.cancel(task_id)
        self.rehearsing.cancel(task_id)
        self.library_care.tasks.cancel(task_id)

    def _trust_changed(self) -> None:
        self.http.rely_on(TlsTrust.hierarchy(self.keys.authorities))
        self.controls.retry()

    def _point_enrolled(self) -> None:
        self.controls.retry()
        self.distribution.wake()

    def app(self) -> App:
        """The ASGI application: health, the management point, the admin API."""
        return site_app(self)

    async def work(self) -> None:
        """All background work, until cancelled; what is interrupted goes on after the next start."""
        await background_work(self)
