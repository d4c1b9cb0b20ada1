"""The last resorts of a repair: publish a version's source again for what it lost, and make damaged deltas anew."""

import contextlib
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection

from entrepot.content.ledger import Library
from entrepot.content.publish import PublishOptions, publish
from entrepot.content.salvaging import SalvageLedger, SalvageShelf
from entrepot.core.errors import CancelledError, EntrepotError
from entrepot.core.ids import ObjectId
from entrepot.database import contents, librarychecks
from entrepot.database.contents import Content, Version
from entrepot.database.engine import Database
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SignedType
from entrepot.site.keys import SiteKeys
from entrepot.site.publishing import ask_for_delta, weighed
from entrepot.site.reporting import Reporter
from entrepot.site.staging import Staging
from entrepot.trust.signing import sign

_VERSIONS: Final = 2
"""Of a content, so many versions are tried, the newest first: a source rarely holds an older one still."""

ASKED: Final = 10_000
"""The database is asked about so many objects at once."""

log = structlog.get_logger("site.library")


class Salvage:
    """Publishes sources again, and keeps what is wanted of what comes out."""

    def __init__(self, database: Database, *, shelf: Shelf, library: Library, keys: SiteKeys, staging: Staging) -> None:
        self._database = database
        self._shelf = shelf
        self._library = library
        self._keys = keys
        self._staging = staging

    def find(self, wanted: list[ObjectId], report: Reporter) -> list[ObjectId]:
        """Which of these came back.

        Raises:
            CancelledError: the work is to stop.
        """
        left = set(wanted)
        for version, content in self._needing(wanted):
            if left and version.generation == self._keys.generation:
                left -= self._again(version, content, left, report)
        return [object_id for object_id in wanted if object_id not in left]

    def _needing(self, wanted: list[ObjectId]) -> list[tuple[Version, Content]]:
        """The versions to try, each once: those of a content together, the newest first."""
        found: dict[tuple[str, int], Version] = {}
        with self._database.reading() as connection:
            for at in range(0, len(wanted), ASKED):
                needing = librarychecks.versions_with(connection, wanted[at : at + ASKED], each=_VERSIONS)
                found |= {(version.content, -version.number): version for version in needing}
            chosen = [version for _, version in sorted(found.items())]
            return [(version, contents.get_content(connection, version.content)) for version in chosen]

    def _again(self, version: Version, content: Content, wanted: set[ObjectId], report: Reporter) -> set[ObjectId]:
        if content.unpack:
            report.step(f"Unpacking the source of {content.name}", unit="bytes")
        staged = self._staging.source(
            Path(content.source),
            unpacked=content.unpack,
            progress=report.amount,
            cancelled=lambda: report.cancelled,
        )
        with contextlib.closing(SalvageShelf(self._shelf.store, wanted)) as shelf:
            try:
                with staged as source:
                    total = weighed(source, content.excludes, report)
                    report.step(f"Reading the source of {content.name} again", total=total, unit="bytes")
                    self._publish(version, content, source, shelf, report)
            except CancelledError:
                raise
            except EntrepotError as error:  # the source is gone or another by now
                log.info("source_not_usable", content=content.id, version=version.number, error=str(error))
            return shelf.found

    def _publish(self, version: Version, content: Content, source: Path, shelf: SalvageShelf, report: Reporter) -> None:
        """Publish into nothing but the salvage. Only now the session begins: nothing renews its lease before."""
        signer = self._keys.manifest
        keys = self._keys.domain(content.id, isolated=content.isolated)
        session = self._library.open_session(f"repair of {content.name}, version {version.number}")
        try:
            with SalvageLedger(session, shelf, keys) as ledger:
                publish(
                    source,
                    content=content.id,
                    number=version.number,
                    shelf=shelf,
                    ledger=ledger,
                    keys=keys,
                    sign=lambda payload: sign(payload, typ=SignedType.MANIFEST, key=signer),
                    options=PublishOptions(excludes=content.excludes, for_windows=content.for_windows),
                    progress=lambda progress: report.amount(progress.read),
                    cancelled=lambda: report.cancelled,
                )
        finally:
            self._library.close_session(session.session)


def remake_deltas(connection: Connection, content: str, *, now: float) -> int:
    """Drop deltas with missing or damaged objects and ask for them anew; how many. Clients fetch full objects until
    then. The caller drops the sets that nobody needs any more.

    Args:
        content: of this content only; empty: of all.
    """
    broken = librarychecks.broken_deltas(connection, content)
    for delta in broken:
        owner = contents.get_content(connection, delta.content)
        contents.drop_delta(connection, delta)
        ask_for_delta(connection, owner, from_version=delta.from_version, to_version=delta.to_version, now=now)
    return len(broken)
