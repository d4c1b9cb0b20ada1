"""The last resorts of a repair: publish a version's source again for what it lost, and make damaged deltas anew."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.content.ledger import Library
from entrepot.content.publish import PublishOptions
from entrepot.content.salvaging import SalvageShelf, salvage
from entrepot.content.scratch import scratch_errors
from entrepot.core.errors import CancelledError, EntrepotError
from entrepot.core.ids import ObjectId
from entrepot.database import contents, librarychecks
from entrepot.database.contents import Content, Origin, Version
from entrepot.database.engine import Database
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SignedType
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.site.publishing import ask_for_delta, weighed
from entrepot.site.reporting import Reporter
from entrepot.site.staging import Staging
from entrepot.trust.signing import sign

_VERSIONS: Final = 20
"""Of a content, the newest so many: those whose files are the source's come back whole."""

ASKED: Final = 10_000
"""So many faulty objects are looked for at a time: for each so many, a manifest or a source is read once."""

NOTED: Final = 200
"""Of so many the database is told at once."""

log = structlog.get_logger("site.library")


class Salvage:
    """Publishes sources again, and keeps what is wanted of what comes out."""

    def __init__(self, database: Database, *, shelf: Shelf, library: Library, keys: SiteKeys, staging: Staging) -> None:
        self._database = database
        self._shelf = shelf
        self._library = library
        self._keys = keys
        self._staging = staging

    def find(
        self,
        scope: str,
        wanted: Iterable[list[ObjectId]],
        report: Reporter,
        came: Callable[[list[ObjectId]], None],
    ) -> tuple[int, str]:
        """Read the source of every content that needs some of these once; how many objects came back, and what the
        library's disk said where it took one not.

        Args:
            scope: the content whose faulty objects are looked for; empty: any.
            wanted: what is faulty, by the page, ascending, at most :data:`ASKED` each.
            came: told of those that came, by the page, when all sources are read.

        Raises:
            CancelledError: the work is to stop.
            StorageError: what is noted meanwhile has no room.
        """
        with scratch_errors(), contextlib.closing(SalvageShelf(self._shelf.store)) as shelf:
            for content, needing in self._needing(scope, wanted, shelf):
                for origin, numbers in _by_origin(content, needing):
                    if shelf.lacking():
                        self._again(content, origin, numbers, shelf, report)
            found = 0
            for page in shelf.came(NOTED):
                came(page)
                found += len(page)
            return found, shelf.refused

    def _needing(
        self, scope: str, wanted: Iterable[list[ObjectId]], shelf: SalvageShelf
    ) -> list[tuple[Content, list[Version]]]:
        """Contents that need something that is wanted, and these versions, the newest first."""
        needing: dict[str, dict[int, Version]] = {}
        for page in wanted:
            shelf.want(page)
            with self._database.reading() as connection:
                for version in librarychecks.versions_with(connection, scope, page[0], page[-1], each=_VERSIONS):
                    if version.generation == self._keys.generation:
                        needing.setdefault(version.content, {})[version.number] = version
        with self._database.reading() as connection:
            return [
                (contents.get_content(connection, content), [found[number] for number in sorted(found, reverse=True)])
                for content, found in sorted(needing.items())
            ]

    def _again(
        self, content: Content, origin: Origin, numbers: list[int], shelf: SalvageShelf, report: Reporter
    ) -> None:
        if origin.unpack:
            report.step(f"Unpacking the source of {content.name}", unit="bytes")
        staged = self._staging.source(
            Path(origin.source),
            unpacked=origin.unpack,
            progress=report.amount,
            cancelled=lambda: report.cancelled,
        )
        try:
            with staged as source:
                total = weighed(source, origin.excludes, report)
                report.step(f"Reading the source of {content.name} again", total=total, unit="bytes")
                self._salvage(content, numbers, source, origin.excludes, shelf, report)
        except CancelledError:
            raise
        except EntrepotError as error:  # the source is gone or another by now
            log.info("source_not_usable", content=content.id, versions=numbers, error=str(error))

    def _salvage(
        self,
        content: Content,
        numbers: list[int],
        source: Path,
        excludes: tuple[str, ...],
        shelf: SalvageShelf,
        report: Reporter,
    ) -> None:
        """Only now the session begins: nothing renews its lease before."""
        signer = self._keys.manifest
        session = self._library.open_session(f"repair of {content.name}", owner=report.task)
        try:
            salvage(
                source,
                content=content.id,
                numbers=numbers,
                shelf=shelf,
                session=session,
                keys=self._keys.domain(content.id, isolated=content.isolated),
                sign=lambda payload: sign(payload, typ=SignedType.MANIFEST, key=signer),
                options=PublishOptions(excludes=excludes),  # names that Windows cannot store are published already
                progress=lambda progress: report.amount(progress.read),
                cancelled=lambda: report.cancelled,
            )
        finally:
            self._library.close_session(session.session)


def origins(content: Content, version: Version) -> tuple[Origin, ...]:
    """From where a version may come again: from where it came, then from where the content's source is by now; either
    way without what was left out of it then."""
    own = version.origin or content.origin
    return own, msgspec.structs.replace(content.origin, excludes=own.excludes)


def _by_origin(content: Content, needing: list[Version]) -> Iterator[tuple[Origin, list[int]]]:
    """Each way that is worth a reading, with the numbers of the versions that may come of it; their own come first."""
    ways: dict[Origin, dict[int, None]] = {}
    for tier in zip(*(origins(content, version) for version in needing), strict=True):
        for version, origin in zip(needing, tier, strict=True):
            ways.setdefault(origin, {})[version.number] = None
    for origin, numbers in ways.items():
        yield origin, list(numbers)


def remake_deltas(connection: Connection, content: str, *, now: float) -> int:
    """Drop deltas with missing or damaged objects and ask for them anew; how many. Clients fetch full objects until
    then. Where a version itself is damaged none could be made: its deltas wait until it is whole. The caller drops the
    sets that nobody needs any more.

    Args:
        content: of this content only; empty: of all.
    """
    broken = librarychecks.broken_deltas(connection, content)
    for delta in broken:
        owner = contents.get_content(connection, delta.content)
        contents.drop_delta(connection, delta)
        ask_for_delta(connection, owner, from_version=delta.from_version, to_version=delta.to_version, now=now)
    return len(broken)
