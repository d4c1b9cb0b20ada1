"""What the site sends to cloud points and fetches from them, and how often it asks them, metered (R25)."""

import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.core.ids import ObjectId
from entrepot.core.times import Clock, hour_of
from entrepot.database import usage
from entrepot.database.engine import Database
from entrepot.protocol.dataplane import MAX_DOCUMENT_BYTES, MAX_OBJECT_BYTES, PAGE, DocumentPage, ObjectPage
from entrepot.rules.verdicts import Verdict
from entrepot.site.cloud.tallies import Counts, Tallies, folder_id
from entrepot.web.copies import copies_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entrepot.web.answers import Count
    from entrepot.web.dataplane import Holder, Pieces


class Meter:
    """Counts bytes and requests of the site to cloud points; :meth:`flush` writes them down hour by hour.

    Each count is in a file of :mod:`.tallies` first, so SIGKILL loses and doubles nothing that was counted.

    Args:
        folder: where these files lie; what an earlier process left there is counted with the next flush.
        site: whose meter it is, among the sites that share the database.
    """

    def __init__(self, database: Database, *, clock: Clock, folder: Path, site: str) -> None:
        self._database = database
        self._clock = clock
        self._site = site
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        with database.reading() as connection:
            self._folder = folder_id(folder)
            self._tallies = Tallies(folder, usage.tallied(connection, site, self._folder))
        self._counted: Counts = self._tallies.left()

    def add(self, point: str, count: int = 0, *, writes: int = 0, reads: int = 0, fetched: int = 0) -> None:
        """Count bytes sent there and fetched from there, and requests; from any thread."""
        hour = hour_of(self._clock())
        with self._lock:
            self._tallies.add(point, hour, count, writes, reads, fetched)
            figures = self._counted.setdefault((point, hour), Counter())
            figures.update(uploaded=count, site_writes=writes, site_reads=reads, fetched=fetched)

    def fetching(self, point: str) -> "Count":
        """Counts bytes that come from a point, as they come."""

        def count(amount: int) -> None:
            if amount:
                self.add(point, fetched=amount)

        return count

    def flush(self) -> None:
        """Write down what was counted. What cannot be written stays counted."""
        with self._flushing:
            with self._lock:
                counted, self._counted = self._counted, {}
                below = self._tallies.turn() if counted else 0
            if not counted:
                return
            try:
                with self._database.transaction() as connection:
                    for (point, hour), figures in sorted(counted.items()):
                        usage.add_to_hour(connection, point, hour, **figures)
                    usage.set_tallied(connection, self._site, self._folder, below)
            except BaseException:
                with self._lock:
                    for key, figures in counted.items():
                        self._counted.setdefault(key, Counter()).update(figures)
                raise
            self._tallies.drop(below)


class MeteredHolder:
    """A holder whose uploads and requests are counted: writes are what stores charge as such (puts and listings). What
    comes back is counted by ``inner`` itself, which alone knows what travels (:meth:`Meter.fetching`)."""

    def __init__(self, inner: "Holder", point: str, meter: Meter) -> None:
        self._inner = inner
        self._point = point
        self._meter = meter

    def _counting(self, also: "Count | None") -> "Count":
        def count(amount: int) -> None:
            self._meter.add(self._point, amount)
            if also is not None:
                also(amount)

        return count

    async def missing(self, ids: "Sequence[ObjectId]") -> list[ObjectId]:
        """See :class:`entrepot.web.dataplane.Holder`; what is asked travels too."""
        self._meter.add(self._point, sum(len(object_id) for object_id in ids), reads=1)
        return await self._inner.missing(ids)

    async def put(self, object_id: ObjectId, size: int, pieces: "Pieces", *, count: "Count | None" = None) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        self._meter.add(self._point, writes=1)
        await self._inner.put(object_id, size, pieces, count=self._counting(count))

    async def delete(self, object_id: ObjectId) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        self._meter.add(self._point, reads=1)
        await self._inner.delete(object_id)

    async def verify(self, ids: "Sequence[ObjectId]") -> list[Verdict]:
        """See :class:`entrepot.web.copies.Copies`."""
        self._meter.add(self._point, sum(len(object_id) for object_id in ids), reads=len(ids))
        return await copies_of(self._inner).verify(ids)

    async def get(self, object_id: ObjectId, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """See :class:`entrepot.web.copies.Copies`."""
        self._meter.add(self._point, reads=1)
        return await copies_of(self._inner).get(object_id, limit)

    async def page(self, after: ObjectId | None = None, limit: int = PAGE) -> ObjectPage:
        """See :class:`entrepot.web.dataplane.Holder`."""
        self._meter.add(self._point, writes=1)
        return await self._inner.page(after, limit)

    async def put_document(self, key: str, data: bytes, *, count: "Count | None" = None) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        self._meter.add(self._point, writes=1)
        await self._inner.put_document(key, data, count=self._counting(count))

    async def get_document(self, key: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """See :class:`entrepot.web.dataplane.Holder`."""
        self._meter.add(self._point, reads=1)
        return await self._inner.get_document(key, limit)

    async def delete_document(self, key: str) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        self._meter.add(self._point, reads=1)
        await self._inner.delete_document(key)

    async def list_documents(self, prefix: str = "", after: str = "", limit: int = PAGE) -> DocumentPage:
        """See :class:`entrepot.web.dataplane.Holder`."""
        self._meter.add(self._point, writes=1)
        return await self._inner.list_documents(prefix, after, limit)
