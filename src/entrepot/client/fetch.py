"""Fetching: locate, take every chunk from where it costs least, verify, and show the version only when it is whole."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.cache import Cache
from entrepot.client.connections import own_addresses
from entrepot.client.destination import Destination, ManagedDestination
from entrepot.client.downloader import Downloader
from entrepot.client.fetching import Fetching, FetchProgress
from entrepot.client.home import Home
from entrepot.client.managementpoint import random_name
from entrepot.client.report import ReportQueue, source_bytes
from entrepot.client.session import Session, current_policy, open_session
from entrepot.client.sources import Failure, Given, SourceList, Used
from entrepot.client.supply import Supply
from entrepot.client.target import FolderDestination, target_trees
from entrepot.client.trees import Trees
from entrepot.core.errors import EntrepotError, StorageError
from entrepot.core.times import Clock
from entrepot.protocol.location import LocationReply, Withheld
from entrepot.protocol.policy import ClientSettings, DownloadReport

MAX_HELD: Final = 16


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """What the site answered: which sources, in order and why, and which not and why not. ``addresses`` of this device
    made the site see it on its ``network``; ``deltas`` names the versions on this device from which one of the sources
    holds a delta.
    """

    content: str
    name: str
    version: int
    network: str
    given: tuple[Given, ...]
    withheld: tuple[Withheld, ...]
    deltas: tuple[int, ...] = ()
    addresses: tuple[str, ...] = ()


class FetchResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a fetch went.

    Attributes:
        folder: where the content is now.
        files: number of files.
        plain_size: bytes of all files.
        present: bytes that were there already, verified.
        located: which sources the site gave and withheld, and why.
        used: bytes and requests by source and form.
        failures: what sources did not deliver, and why.
        delta_from: the version that deltas were applied to; 0 for none.
        delta_chunks: chunks rebuilt from deltas.
        delta_problem: why a delta was given up; empty when it was not.
        duration: seconds.
    """

    content: str
    name: str
    version: int
    folder: Path
    files: int
    plain_size: int
    present: int
    located: Located
    used: tuple[Used, ...]
    failures: tuple[Failure, ...]
    delta_from: int
    delta_chunks: int
    delta_problem: str
    duration: float

    @property
    def downloaded(self) -> int:
        """Bytes that came over the network."""
        return sum(one.bytes for one in self.used if one.point)


def _ignore(_: object) -> None:
    """For callers who do not watch."""


async def fetch(
    home: Path,
    content: str,
    *,
    version: int = 0,
    to: Path | None = None,
    progress: Callable[[FetchProgress], None] = _ignore,
    located: Callable[[Located], None] = _ignore,
    clock: Clock = time.time,
) -> FetchResult:
    """Bring a content version onto this device.

    Args:
        home: the agent's folder.
        content: its id or name.
        version: 0 for the current one.
        to: a folder to keep the same as this version; None for a managed tree in the home.
        progress: called whenever bytes arrive.
        located: called once the site has answered, also when the download fails afterwards.
        clock: seconds since 1970.

    Raises:
        NotFoundError: not enrolled, or no such content for this device.
        UnavailableError: no source delivers something that is needed; the text says which failed and why.
        IntegrityError: the content contradicts its own manifest.
        TrustError: a signature or certificate is not to be believed.
        StorageError: the disk is full or refuses.
        ConflictError: the target is not this client's to change, or the home is in use.
    """
    async with open_session(home, clock=clock) as session:
        policy = await current_policy(session, clock=clock)
        defaults = policy.settings if policy else ClientSettings()
        limit = session.settings.cache_bytes
        cache = Cache(session.home.cache, defaults.cache_bytes if limit is None else limit)
        started = clock()
        held = _held(session.home, content, to)
        reply = await _locate(session, content, version, held)
        sources = SourceList(reply)
        located(describe(reply, sources))
        task = _Task(session, reply, sources, cache, started, clock)
        return await task.run(_destination(session.home, reply, to), held, progress)


async def locate(home: Path, content: str, *, version: int = 0, clock: Clock = time.time) -> Located:
    """Ask where content is, without fetching it.

    Raises:
        EntrepotError: as :func:`fetch`.
    """
    async with open_session(home, clock=clock) as session:
        reply = await _locate(session, content, version, _held(session.home, content, None))
        return describe(reply, SourceList(reply))


def describe(reply: LocationReply, sources: SourceList) -> Located:
    """What a location reply says, for people."""
    return Located(
        content=reply.content,
        name=reply.name,
        version=reply.version,
        network=reply.network.value,
        given=sources.given(),
        withheld=reply.withheld,
        deltas=tuple(sorted({held for tier in reply.tiers for source in tier.sources for held in source.deltas})),
        addresses=reply.addresses,
    )


async def _locate(session: Session, content: str, version: int, held: tuple[int, ...]) -> LocationReply:
    addresses = own_addresses(session.settings)
    return await session.site.locate(content, version=version, addresses=addresses, held=held)


def _held(home: Home, content: str, to: Path | None) -> tuple[int, ...]:
    trees = Trees(home).of(content) + (target_trees(home, to, content) if to else [])
    return tuple(sorted({tree.described.version for tree in trees}, reverse=True))[:MAX_HELD]


def _destination(home: Home, reply: LocationReply, to: Path | None) -> Destination:
    if to is None:
        return ManagedDestination(home, reply.content, reply.version)
    return FolderDestination(home, to, reply.content, reply.version)


class _Task:
    """One fetch, from the location reply to the report."""

    def __init__(
        self,
        session: Session,
        reply: LocationReply,
        sources: SourceList,
        cache: Cache,
        started: float,
        clock: Clock,
    ) -> None:
        self._session = session
        self._reply = reply
        self._sources = sources
        self._cache = cache
        self._started = started
        self._clock = clock
        self._reports = ReportQueue(session.home)

    async def run(
        self, destination: Destination, held: tuple[int, ...], progress: Callable[[FetchProgress], None]
    ) -> FetchResult:
        """Fetch, tidy up, report."""

        async def relocate() -> LocationReply:
            return await _locate(self._session, self._reply.content, self._reply.version, held)

        downloader = Downloader(
            self._session.connections,
            self._sources,
            relocate,
            retries=self._session.settings.retries,
            clock=self._clock,
        )
        supply = Supply(
            self._reply,
            destination,
            downloader,
            self._cache,
            verify=self._session.site.verify_content,
            parallel=self._session.settings.parallel,
        )
        work = Fetching(supply, clock=self._clock, progress=progress)
        try:
            folder = await work.perform()
        except EntrepotError as error:
            await self._report(work, error.message)
            raise
        finally:
            with contextlib.suppress(StorageError):
                await asyncio.to_thread(self._cache.flush)
        await self._report(work, "")
        await asyncio.to_thread(
            Trees(self._session.home).prune,
            self._reply.content,
            self._session.settings.keep_versions,
            spare=self._reply.version,
        )
        return self._result(work, folder)

    async def _report(self, work: Fetching, error: str) -> None:
        """Queue the report and send what waits; a failure here must not fail the download."""
        report = DownloadReport(
            id=random_name(),
            content=self._reply.content,
            version=self._reply.version,
            network=self._reply.network.value,
            started=int(self._started),
            finished=int(self._clock()),
            outcome="failed" if error else "success",
            error=error[:2000],
            plain_size=work.total,
            sources=source_bytes(work.supply.used()),
        )
        with contextlib.suppress(EntrepotError):
            await asyncio.to_thread(self._reports.add, report)
            await self._reports.send(self._session.site)

    def _result(self, work: Fetching, folder: Path) -> FetchResult:
        return FetchResult(
            content=self._reply.content,
            name=self._reply.name,
            version=self._reply.version,
            folder=folder,
            files=work.files,
            plain_size=work.total,
            present=work.present,
            located=describe(self._reply, SourceList(self._reply)),
            used=work.supply.used(),
            failures=self._sources.failures(),
            delta_from=work.supply.delta.from_version if work.supply.delta and work.supply.delta.rebuilt else 0,
            delta_chunks=work.supply.delta.rebuilt if work.supply.delta else 0,
            delta_problem=work.supply.delta.problem if work.supply.delta else "",
            duration=self._clock() - self._started,
        )
