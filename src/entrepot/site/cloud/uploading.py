"""Uploads to cloud points under a bandwidth limit and a schedule.

Only objects that are sent wait: control documents, which stop a service and revoke devices, go out at any time, and
what is read again to validate it, or to repair the library, is no upload. Validation keeps a rate of its own.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from entrepot.core.errors import UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import KIB
from entrepot.objects.throttling import Pace, unlimited
from entrepot.protocol.cloudapi import UploadSchedule, UploadWindow
from entrepot.protocol.dataplane import MAX_DOCUMENT_BYTES, MAX_OBJECT_BYTES, PAGE, DocumentPage, ObjectPage
from entrepot.rules.verdicts import Verdict
from entrepot.web.copies import copies_of

if TYPE_CHECKING:
    from entrepot.web.answers import Count
    from entrepot.web.dataplane import Holder, Pieces

PACED: Final = 64 * KIB
"""So much is handed over at once under a limit: slow lines go evenly."""
Moment = Callable[[], tuple[int, int]]
"""Weekday (1 is Monday) and minute of the day, in the site server's time zone."""


def local_moment() -> tuple[int, int]:
    """Now, as the clock on the wall has it."""
    now = time.localtime()
    return now.tm_wday + 1, now.tm_hour * 60 + now.tm_min


def rate_at(schedule: UploadSchedule, weekday: int, minute: int) -> int | None:
    """Bytes a second; 0: nothing may be sent; None: no limit.

    Args:
        weekday: 1 is Monday.
        minute: after midnight, 0 to 1,439.
    """
    for window in schedule.windows:
        if _holds(window, weekday, minute):
            return window.bytes_per_second
    return schedule.bytes_per_second or None


def _holds(window: UploadWindow, weekday: int, minute: int) -> bool:
    if window.begin < window.end:
        return weekday in window.days and window.begin <= minute < window.end
    # Over midnight: the morning belongs to the window that began the day before. Equal ends: the whole day.
    before = 7 if weekday == 1 else weekday - 1
    return (weekday in window.days and minute >= window.begin) or (before in window.days and minute < window.end)


class Pacer:
    """Lets bytes to one cloud point through at the rate that holds now; all its transfers share it. Thread-safe."""

    def __init__(
        self,
        schedule: UploadSchedule,
        *,
        moment: Moment = local_moment,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.schedule = schedule
        self._moment = moment
        self._pace = Pace(self._allowed, clock=monotonic, sleep=sleep)

    def rate(self) -> int | None:
        """Bytes a second now; None: no limit; 0: closed."""
        return rate_at(self.schedule, *self._moment())

    def check_open(self, name: str) -> None:
        """Refuse to begin while the schedule closes uploads.

        Raises:
            UnavailableError: closed; it is tried again later.
        """
        if self.rate() == 0:
            raise UnavailableError(
                f"The upload schedule of {name} is closed now.", next_step="It goes on when the schedule opens."
            )

    def take(self, count: int) -> None:
        """Wait until so many bytes may be sent. A transfer that has begun is finished, slowly, in a closed window."""
        self._pace.take(count)

    def _allowed(self) -> float:
        rate = self.rate()
        return unlimited() if rate is None else rate or PACED


class PacedHolder:
    """A holder whose objects are sent at the pace of a :class:`Pacer`."""

    def __init__(self, inner: "Holder", name: str, pacer: Pacer) -> None:
        self._inner = inner
        self._name = name
        self._pacer = pacer

    async def missing(self, ids: Sequence[ObjectId]) -> list[ObjectId]:
        """See :class:`entrepot.web.dataplane.Holder`."""
        return await self._inner.missing(ids)

    async def put(self, object_id: ObjectId, size: int, pieces: "Pieces", *, count: "Count | None" = None) -> None:
        """See :class:`entrepot.web.dataplane.Holder`.

        Raises:
            UnavailableError: the schedule is closed.
        """
        self._pacer.check_open(self._name)

        def paced() -> Iterator[bytes]:
            for piece in pieces():
                for at in range(0, len(piece), PACED):
                    part = piece[at : at + PACED]
                    self._pacer.take(len(part))
                    yield part

        more = {} if count is None else {"count": count}
        await self._inner.put(object_id, size, paced if self._pacer.rate() is not None else pieces, **more)

    async def delete(self, object_id: ObjectId) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        await self._inner.delete(object_id)

    async def verify(self, ids: Sequence[ObjectId]) -> list[Verdict]:
        """See :class:`entrepot.web.copies.Copies`."""
        return await copies_of(self._inner).verify(ids)

    async def get(self, object_id: ObjectId, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """See :class:`entrepot.web.copies.Copies`."""
        return await copies_of(self._inner).get(object_id, limit)

    async def page(self, after: ObjectId | None = None, limit: int = PAGE) -> ObjectPage:
        """See :class:`entrepot.web.dataplane.Holder`."""
        return await self._inner.page(after, limit)

    async def put_document(self, key: str, data: bytes, *, count: "Count | None" = None) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        more = {} if count is None else {"count": count}
        await self._inner.put_document(key, data, **more)

    async def get_document(self, key: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """See :class:`entrepot.web.dataplane.Holder`."""
        return await self._inner.get_document(key, limit)

    async def delete_document(self, key: str) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        await self._inner.delete_document(key)

    async def list_documents(self, prefix: str = "", after: str = "", limit: int = PAGE) -> DocumentPage:
        """See :class:`entrepot.web.dataplane.Holder`."""
        return await self._inner.list_documents(prefix, after, limit)
