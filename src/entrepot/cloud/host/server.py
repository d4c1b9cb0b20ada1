"""The cloud host's process: everything wired."""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

import structlog

from entrepot.cloud.host.api import ManagementApi
from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.identity import HostKey
from entrepot.cloud.host.keys import KeyFolder, close_key_folder, open_key_folder
from entrepot.cloud.host.keywatch import KeyWatch
from entrepot.cloud.host.runner import Surroundings
from entrepot.cloud.host.services import ServiceRow, Services
from entrepot.cloud.host.settings import Folders, HostSettings, audit_log, load_settings
from entrepot.cloud.host.storage import HostStorage
from entrepot.cloud.host.stores import StoreEndpoints
from entrepot.cloud.host.subscriptions import Subscriptions
from entrepot.cloud.host.supervisor import Supervisor
from entrepot.cloud.host.tokens import TokenEndpoint
from entrepot.cloud.oauth import TOKEN_PATH
from entrepot.core.addresses import parse_listen
from entrepot.core.times import HOUR, MINUTE
from entrepot.durable.locks import HomeLock
from entrepot.trust.vault import ServerVault
from entrepot.web.embedded import TlsFiles
from entrepot.web.logs import log_json
from entrepot.web.server import announce_ready, open_listener, run_process, serve

GATEWAY_COMMAND: Final = (sys.executable, "-m", "entrepot.cloud.gateway")
"""Starts an instance; the path of its configuration follows. The command line would take twice the time to start."""
RECOUNT_SECONDS: Final = HOUR
NOTE_SECONDS: Final = MINUTE
"""What the host's administrator is shown of what is stored is at most so old."""
_log = structlog.get_logger("entrepot.host")


class CloudHost:
    """One host's parts. Make it in the event loop that runs it.

    Args:
        command: how a gateway is started.
    """

    def __init__(
        self, home: Path, settings: HostSettings, database: HostDatabase, keys: KeyFolder, command: Sequence[str]
    ) -> None:
        self._settings = settings
        self._folders = folders = Folders(home)
        host, _ = parse_listen(settings.listen)
        service_host = settings.service_host or host
        subscriptions = Subscriptions(database)
        services = Services(database, ServerVault.load(folders.vault), settings.store)
        storage = HostStorage(folders, settings.store)
        around = Surroundings(
            settings=settings,
            folders=folders,
            keys=keys,
            services=services,
            storage=storage,
            command=command,
            pid=os.getpid(),
            listen_host=service_host,
            clock=time.time,
        )
        audit = audit_log(folders, settings, time.time)
        self.key = KeyWatch(HostKey(folders.tls), audit, time.time)
        self.supervisor = Supervisor(around, self._before_removal)
        self.stores = StoreEndpoints(storage, services, subscriptions, self.supervisor.signal)
        self.api = ManagementApi(
            settings=settings,
            subscriptions=subscriptions,
            services=services,
            tokens=TokenEndpoint(
                subscriptions, audience=settings.url + TOKEN_PATH, seconds=settings.token_minutes * 60
            ),
            stores=self.stores,
            supervisor=self.supervisor,
            audit=audit,
            identity=lambda: self.key.standing,
            public_host=settings.service_name or service_host,
            clock=time.time,
        )

    async def _before_removal(self, row: ServiceRow) -> None:
        await self.stores.close(row)

    async def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM, then end all instances."""
        renew = asyncio.Event()
        background = [
            asyncio.create_task(self.supervisor.run(), name="supervisor"),
            asyncio.create_task(_again_and_again(RECOUNT_SECONDS, self.stores.recount), name="recount"),
            asyncio.create_task(_again_and_again(NOTE_SECONDS, self.stores.note_changed), name="note"),
            asyncio.create_task(self.key.run(renew), name="key"),
        ]
        try:
            await serve(
                self.api,
                listener=listener,
                tls=TlsFiles(cert=self._folders.certificate, key=self._folders.private_key),
                renew=renew,
                ready=lambda: announce_ready("host", self._settings.url),
                most_of_address=lambda: self._settings.address_connections,
            )
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            await self.supervisor.close()
            await self.stores.note()


async def _again_and_again(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # noqa: BLE001  # a defect seen once must not end the counting
            _log.exception("usage.defect")


def serve_host(home: Path, *, command: Sequence[str] = GATEWAY_COMMAND) -> NoReturn:
    """Run a cloud host to its end, in this process.

    Args:
        command: how a gateway is started; the path of its configuration is appended.

    Raises:
        EntrepotError: it cannot start: home, settings, port, another host on this home.
    """
    settings = load_settings(home)
    log_json()
    run_process(_run(home.resolve(), settings, command))


async def _run(home: Path, settings: HostSettings, command: Sequence[str]) -> None:
    with HomeLock(home, "a cloud host's home"):
        host, port = parse_listen(settings.listen)
        listener = open_listener(host, port)
        keys = open_key_folder(home)
        with contextlib.closing(HostDatabase(Folders(home).database)) as database:
            await CloudHost(home, settings, database, keys, command).run(listener)
        close_key_folder(keys)
