"""Rehearsing a publish: what a new version would add to the library and cost its clients; nothing of it is kept.

It is the publish itself, over a shelf that drops what it takes and a ledger that enters nothing
(``content/rehearsal.py``). The request waits for the answer; the work is done in a thread that ends when the request is
given up.
"""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from entrepot.content.ledger import Library
from entrepot.content.publish import PublishOptions, publish
from entrepot.content.rehearsal import RehearsedLedger, RehearsedShelf
from entrepot.core.errors import NotFoundError
from entrepot.core.ids import ObjectId
from entrepot.database import contents, pointsets
from entrepot.database.engine import Database
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SignedType
from entrepot.protocol.contentapi import Rehearsal, RehearsalRequest
from entrepot.site.contents import kept_content
from entrepot.site.keys import SiteKeys, new_id
from entrepot.site.staging import checked_source
from entrepot.trust.signing import sign


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be published; ``current_set`` is empty for a new content."""

    content: str
    number: int
    excludes: tuple[str, ...]
    for_windows: bool
    isolated: bool
    current: int = 0
    current_set: bytes = b""


class Rehearsals:
    """Rehearses publishing.

    Args:
        home: the site server's own folder: it is never published.
    """

    def __init__(self, database: Database, *, home: Path, shelf: Shelf, library: Library, keys: SiteKeys) -> None:
        self._database = database
        self._home = home
        self._shelf = shelf
        self._library = library
        self._keys = keys
        self._working = asyncio.Lock()

    async def rehearse(self, request: RehearsalRequest) -> Rehearsal:
        """Say what publishing would do: as the next version if there is a content of this name, else as a new one.

        Raises:
            BadInputError: no proper source.
            ConflictError: the content is being deleted.
            RefusedError: something in the source cannot be published; the text names it.
        """
        source = await asyncio.to_thread(checked_source, request.source, self._home)
        plan = await self._database.read(_plan, request)
        given_up = threading.Event()
        async with self._working:  # one at a time: what is published in earnest needs the processors, too
            try:
                return await asyncio.to_thread(self._rehearse, request, Path(source), plan, given_up)
            finally:
                given_up.set()

    def _rehearse(self, request: RehearsalRequest, source: Path, plan: _Plan, given_up: threading.Event) -> Rehearsal:
        signer = self._keys.manifest
        session = self._library.open_session(f"rehearsal of {request.name}")
        try:
            with RehearsedLedger(session) as ledger:
                said = publish(
                    source,
                    content=plan.content,
                    number=plan.number,
                    shelf=RehearsedShelf(self._shelf.store),
                    ledger=ledger,
                    keys=self._keys.domain(plan.content, isolated=plan.isolated),
                    sign=lambda payload: sign(payload, typ=SignedType.MANIFEST, key=signer),
                    options=PublishOptions(excludes=plan.excludes, for_windows=plan.for_windows),
                    cancelled=given_up.is_set,
                )
                first = ledger.everything()
                update = ledger.lacking(self._members(plan.current_set)) if plan.current else first
        finally:
            self._library.close_session(session.session)
        return Rehearsal(
            name=request.name,
            number=plan.number,
            current=plan.current,
            files=said.files,
            folders=said.folders,
            links=said.links,
            plain_size=said.plain_size,
            objects=said.objects,
            stored_size=said.stored_size,
            new_objects=said.new_objects,
            new_bytes=said.new_bytes,
            clients=request.clients,
            first_fetch=first,
            update_fetch=update,
            all_first_fetch=first * request.clients,
            all_update_fetch=update * request.clients,
            warnings=said.warnings,
        )

    def _members(self, set_id: bytes) -> Iterator[ObjectId]:
        after = b""
        while True:
            with self._database.reading() as connection:
                page = pointsets.objects_of(connection, set_id, after=after)
            if not page:
                return
            yield from (ObjectId(member.object_id) for member in page)
            after = page[-1].object_id


def _plan(connection: Connection, request: RehearsalRequest) -> _Plan:
    try:
        content = kept_content(connection, request.name)
    except NotFoundError:
        return _Plan(
            content=new_id("pkg"),
            number=1,
            excludes=request.excludes or (),
            for_windows=request.for_windows,
            isolated=request.isolated,
        )
    current = contents.get_version(connection, content.id, content.current) if content.current else None
    return _Plan(
        content=content.id,
        number=contents.next_number(connection, content.id),
        excludes=content.excludes if request.excludes is None else request.excludes,
        for_windows=content.for_windows,
        isolated=content.isolated,
        current=content.current,
        current_set=current.set_id if current else b"",
    )
