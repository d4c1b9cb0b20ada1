"""Upkeep: what nobody waits for. Old rows go, superseded sets leave points, the library is swept, the site's own TLS
certificate is renewed before it expires, and those of all servers are watched, as are versions that wait for a seal."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from cryptography import x509
from sqlalchemy import Connection

from entrepot.content.sweep import Swept, sweep
from entrepot.core.errors import EntrepotError
from entrepot.core.times import DAY, Clock
from entrepot.database import devices, retention, tasks
from entrepot.database.engine import Database
from entrepot.database.librarysweep import SqlSweepLedger
from entrepot.objects.shelf import Shelf
from entrepot.site.certificatealert import judge_certificates
from entrepot.site.cost.pruning import Pruning
from entrepot.site.distribution import trim
from entrepot.site.keys.resealalert import judge_resealing
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.site.settings import Home
from entrepot.site.setup import issue_tls
from entrepot.trust.authority import RENEW_DAYS, issued_by_any
from entrepot.trust.inspection import days_left, fits

EVERY_SECONDS: Final = 300.0
KEEP_TASKS: Final = 30 * DAY
KEEP_DOWNLOADS: Final = 90 * DAY

log = structlog.get_logger("site.upkeep")


class Upkeep:
    """Runs every five minutes.

    Args:
        reseal_hours: how long versions may wait to be sealed anew before there is an alert.
        work: called when the distribution engine has something to do now.
        renewed: called when the site's TLS certificate was renewed: the server is to read it again.
    """

    def __init__(
        self,
        database: Database,
        *,
        home: Home,
        shelf: Shelf,
        keys: SiteKeys,
        pruning: Pruning,
        reseal_hours: int,
        clock: Clock,
        work: Callable[[], None],
        renewed: Callable[[], None],
    ) -> None:
        self._database = database
        self._home = home
        self._shelf = shelf
        self._keys = keys
        self._pruning = pruning
        self._reseal_hours = reseal_hours
        self._clock = clock
        self._work = work
        self._renewed = renewed

    async def run_once(self) -> Swept:
        """Do everything that is due. What fails is logged, and keeps nothing else from being done.

        Raises:
            EntrepotError: by the sweep, which comes last; the next run goes on.
        """
        now = self._clock()
        for step in (self._renew, self._watch, self._watch_resealing, self._forget, self._trim):
            try:
                await step(now)
            except EntrepotError as error:
                log.warning("upkeep_failed", step=step.__name__, error=str(error), code=error.code)
            except Exception:
                log.exception("upkeep_broke", step=step.__name__)
        return await asyncio.to_thread(sweep, SqlSweepLedger(self._database), self._shelf, now=now)

    async def _renew(self, now: float) -> None:
        if await asyncio.to_thread(renew_tls, self._home, self._keys, now):
            self._renewed()

    async def _watch(self, now: float) -> None:
        try:
            certificate = await asyncio.to_thread(load_tls_certificate, self._home)
        except (OSError, ValueError):  # the step before has logged it
            certificate = None
        await self._database.write(judge_certificates, self._keys.site.code, certificate, now)

    async def _watch_resealing(self, now: float) -> None:
        await self._database.write(judge_resealing, self._keys, self._reseal_hours, now)

    async def _forget(self, now: float) -> None:
        await self._database.write(_forget, now)
        await self._pruning.run_if_due()

    async def _trim(self, now: float) -> None:
        if await trim(self._database, site=self._keys.site.code, now=now):
            self._work()

    async def serve(self) -> None:
        """Do so until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                swept = await self.run_once()
            except EntrepotError as error:
                log.warning("sweep_failed", error=str(error), code=error.code)
            except Exception:  # a defect here must not end the server's other work
                log.exception("sweep_broke")
            else:
                log.info("upkeep_done", deleted=swept.deleted, condemned=swept.condemned)


def load_tls_certificate(home: Home) -> x509.Certificate:
    """The site's TLS certificate."""
    return x509.load_pem_x509_certificate(home.tls_certificate.read_bytes())


def renew_tls(home: Home, keys: SiteKeys, now: float) -> bool:
    """Renew the site's TLS certificate when it is due; whether it was.

    It is when it has less than 60 days left, is of an issuer that the trust document lists no more, or is not of the
    key beside it (a renewal was interrupted).
    """
    certificate = load_tls_certificate(home)
    good = days_left(certificate, now) >= RENEW_DAYS and issued_by_any(certificate, keys.authorities)
    if good and fits(certificate, home.tls_key.read_bytes()):
        return False
    issue_tls(home, keys.site.url, keys.authority, now=now)
    log.info("tls_certificate_renewed")
    return True


def _forget(connection: Connection, now: float) -> None:
    tasks.prune(connection, finished_before=now - KEEP_TASKS)
    devices.prune_downloads(connection, received_before=now - KEEP_DOWNLOADS)
    retention.drop_old_deltas(connection)
    retention.forget_former_sealings(connection)
    retention.drop_unused_sets(connection)
