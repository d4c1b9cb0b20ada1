"""Runs a site server from its home folder: one process, one event loop."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import structlog

from entrepot.core.addresses import parse_listen
from entrepot.core.times import Clock
from entrepot.database.engine import open_database
from entrepot.database.schema import upgrade
from entrepot.durable.files import make_folder
from entrepot.durable.locks import HomeLock
from entrepot.site.cloudport import ProviderFactory
from entrepot.site.keys.loading import load_keys
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.site.server import SiteServer
from entrepot.site.settings import Home, load_settings
from entrepot.site.upkeep import renew_tls
from entrepot.trust.vault import ServerVault
from entrepot.web.embedded import TlsFiles
from entrepot.web.server import announce_ready, open_listener, serve

log = structlog.get_logger("site.serve")


async def serve_site(
    folder: Path,
    *,
    factory: ProviderFactory | None = None,
    clock: Clock = time.time,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve the site of a home folder until SIGTERM, or until ``stop`` is set.

    Args:
        factory: makes cloud providers; wired by the command line.
        stop: given by tests; then signals are left alone.

    Raises:
        NotFoundError: no site in this home.
        ConflictError: it is served already, or its port is taken.
        TrustError: its keys do not open or have expired.
    """
    home = Home(folder)
    settings = load_settings(home)
    with (
        HomeLock(home.folder, "a site server"),
        contextlib.closing(open_database(home.database_url(settings))) as database,
    ):
        await asyncio.to_thread(upgrade, database)
        vault = await asyncio.to_thread(ServerVault.load, home.vault_key)
        keys: SiteKeys = await database.read(load_keys, site=settings.site, vault=vault, now=clock(), clock=clock)
        for needed in (home.library, home.logs):
            await asyncio.to_thread(make_folder, needed, mode=0o700)
        await asyncio.to_thread(renew_tls, home, keys, clock())
        server = SiteServer(home, settings, database, keys, factory=factory, clock=clock)
        listener = open_listener(*parse_listen(settings.listen))
        work = asyncio.create_task(server.work())
        work.add_done_callback(lambda ended: _end_with(ended, stop))
        try:
            await serve(
                server.app(),
                listener=listener,
                tls=TlsFiles(cert=home.tls_certificate, key=home.tls_key),
                ready=lambda: announce_ready("site", settings.url),
                most_of_address=lambda: settings.address_connections,
                drain_seconds=settings.drain_seconds,
                stop=stop,
                renew=server.renew,
            )
        finally:
            work.cancel()
            await asyncio.wait({work})


def _end_with(work: "asyncio.Task[None]", stop: asyncio.Event | None) -> None:
    """A server whose background work broke must not go on as if nothing had happened: a supervisor restarts it."""
    if work.cancelled() or work.exception() is None:
        return
    log.critical("background_work_broke", exc_info=work.exception())
    if stop is not None:
        stop.set()
    else:
        os.kill(os.getpid(), signal.SIGTERM)
