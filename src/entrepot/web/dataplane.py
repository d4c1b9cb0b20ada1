"""The site's side of the data plane: what it can do to any holder of objects, near or far.

``Holder`` is the port; ``HttpHolder`` asks a point or the cloud host's store endpoint; ``ShelfHolder`` is a shelf in
this process (tests, and a holder that is itself the site).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol
from urllib.parse import quote, urlencode

from entrepot.content.checking import look
from entrepot.core.errors import BadInputError, FormatError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.objects.shelf import Shelf
from entrepot.protocol.dataplane import (
    MAX_DOCUMENT_BYTES,
    MAX_MISSING_IDS,
    MAX_OBJECT_BYTES,
    PAGE,
    DocumentPage,
    ObjectPage,
    is_missing,
)
from entrepot.rules.verdicts import Verdict
from entrepot.web import holdings
from entrepot.web.answers import Count, uncounted
from entrepot.web.copies import decode_verdicts
from entrepot.web.http import PIECE, TRANSFER_TIMEOUTS, Bearer, HttpClient, Timeouts

VERIFY_TIMEOUTS: Final = Timeouts(stall=300, total=None)
"""The holder says nothing while it reads: at least 64 MiB at the pace of the slowest disk."""

Pieces = Callable[[], Iterable[bytes]]
"""Gives an object's bytes from the beginning, anew at every call; iterated in worker threads."""
Token = Callable[[], Bearer | Awaitable[Bearer]]


class Holder(Protocol):
    """Somebody who holds objects and documents for the site.

    All methods are idempotent, may be called concurrently, and may be retried after ``UnavailableError``.
    """

    async def missing(self, ids: Sequence[ObjectId]) -> list[ObjectId]:
        """Which of these are not held, in their order; any number of ids."""

    async def put(self, object_id: ObjectId, size: int, pieces: Pieces, *, count: Count = uncounted) -> None:
        """Send one object of ``size`` bytes; on return it is held durably.

        ``count`` is told about bytes as they are handed to the network, also when the transfer fails in the end (R25).

        Raises:
            IntegrityError: the bytes are not the object; nothing is held.
            StorageError: the holder's disk refuses.
        """

    async def delete(self, object_id: ObjectId) -> None:
        """Remove one object; gone already is fine."""

    async def page(self, after: ObjectId | None = None, limit: int = PAGE) -> ObjectPage:
        """What is held, in ascending order of id, from the one that follows ``after``."""

    async def put_document(self, key: str, data: bytes, *, count: Count = uncounted) -> None:
        """Store a document, replacing what was there."""

    async def get_document(self, key: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """A document's bytes.

        Raises:
            NotFoundError: there is none.
            LimitedError: it has more than ``limit`` bytes.
        """

    async def delete_document(self, key: str) -> None:
        """Remove a document; gone already is fine."""

    async def list_documents(self, prefix: str = "", after: str = "", limit: int = PAGE) -> DocumentPage:
        """Keys that begin with ``prefix``, in ascending order, from the one that follows ``after``."""


class HttpHolder:
    """A :class:`Holder` somewhere else.

    Args:
        http: how it is reached and trusted.
        base_url: what ``protocol.dataplane`` paths are appended to, without trailing slash.
        token: gives a bearer token that is valid now; called for every request.
        fetched: told of bytes of answers as they come.
    """

    def __init__(self, http: HttpClient, base_url: str, token: Token, *, fetched: Count = uncounted) -> None:
        self._http = http
        self._fetched = fetched
        self._base = base_url.rstrip("/")
        self._token = token

    async def missing(self, ids: Sequence[ObjectId]) -> list[ObjectId]:
        """See :class:`Holder`."""
        found: list[ObjectId] = []
        for at in range(0, len(ids), MAX_MISSING_IDS):
            batch = ids[at : at + MAX_MISSING_IDS]
            answer = await self._http.request(
                "POST",
                f"{self._base}/objects/missing",
                body=b"".join(batch),
                bearer=await self._bearer(),
                limit=MAX_MISSING_IDS,
                received=self._fetched,
            )
            if len(answer.body) != (len(batch) + 7) // 8:
                raise FormatError("The holder's answer about missing objects has the wrong length.")
            found.extend(object_id for index, object_id in enumerate(batch) if is_missing(answer.body, index))
        return found

    async def put(self, object_id: ObjectId, size: int, pieces: Pieces, *, count: Count = uncounted) -> None:
        """See :class:`Holder`."""
        failures: list[Exception] = []
        try:
            await self._http.request(
                "PUT",
                self._object(object_id),
                body=_keeping(_counted(pieces, size, count), failures),
                headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
                bearer=await self._bearer(),
                timeouts=TRANSFER_TIMEOUTS,
            )
        except UnavailableError:
            if failures:  # what failed was the reading here: aiohttp shows only that the connection then closed
                raise failures[0] from None
            raise

    async def delete(self, object_id: ObjectId) -> None:
        """See :class:`Holder`."""
        await self._http.request("DELETE", self._object(object_id), bearer=await self._bearer())

    async def verify(self, ids: Sequence[ObjectId]) -> list[Verdict]:
        """See :class:`~entrepot.web.copies.Copies`."""
        answer = await self._http.request(
            "POST",
            f"{self._base}/objects/verify",
            body=b"".join(ids),
            bearer=await self._bearer(),
            limit=len(ids),
            timeouts=VERIFY_TIMEOUTS,
            received=self._fetched,
        )
        return decode_verdicts(answer.body, len(ids))

    async def get(self, object_id: ObjectId, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """See :class:`~entrepot.web.copies.Copies`."""
        url = f"{self._base}/copies/{object_id.hex()}"
        answer = await self._http.request(
            "GET",
            url,
            bearer=await self._bearer(),
            limit=limit,
            timeouts=TRANSFER_TIMEOUTS,
            received=self._fetched,
        )
        return answer.body

    async def page(self, after: ObjectId | None = None, limit: int = PAGE) -> ObjectPage:
        """See :class:`Holder`."""
        asked = urlencode({"after": after.hex() if after else "", "limit": limit})
        url = f"{self._base}/objects?{asked}"
        page = await self._http.request_json(
            "GET", url, None, ObjectPage, bearer=await self._bearer(), received=self._fetched
        )
        return check_object_page(page, after, limit)

    async def put_document(self, key: str, data: bytes, *, count: Count = uncounted) -> None:
        """See :class:`Holder`."""
        await self._http.request("PUT", self._document(key), body=data, bearer=await self._bearer())
        count(len(data))

    async def get_document(self, key: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """See :class:`Holder`."""
        answer = await self._http.request(
            "GET", self._document(key), bearer=await self._bearer(), limit=limit, received=self._fetched
        )
        return answer.body

    async def delete_document(self, key: str) -> None:
        """See :class:`Holder`."""
        await self._http.request("DELETE", self._document(key), bearer=await self._bearer())

    async def list_documents(self, prefix: str = "", after: str = "", limit: int = PAGE) -> DocumentPage:
        """See :class:`Holder`."""
        asked = urlencode({"prefix": prefix, "after": after, "limit": limit})
        url = f"{self._base}/documents?{asked}"
        page = await self._http.request_json(
            "GET", url, None, DocumentPage, bearer=await self._bearer(), received=self._fetched
        )
        return check_document_page(page, after, limit)

    async def _bearer(self) -> Bearer:
        token = self._token()
        return token if token is None or isinstance(token, str | Secret) else await token

    def _object(self, object_id: ObjectId) -> str:
        return f"{self._base}/objects/{object_id.hex()}"

    def _document(self, key: str) -> str:
        return f"{self._base}/documents/{quote(holdings.check_document_key(key), safe='/')}"


def check_object_page(page: ObjectPage, after: ObjectId | None, limit: int) -> ObjectPage:
    """What a holder answers, if it can be a page from the one that follows ``after``, of at most ``limit`` objects.

    Raises:
        FormatError: it cannot; whoever goes on behind a page that leads back would list for ever.
    """
    if not _plausible(page.ids, page.sizes, after.hex() if after else "", limit):
        raise FormatError("The holder's list of objects is malformed.")
    return page


def check_document_page(page: DocumentPage, after: str, limit: int) -> DocumentPage:
    """As :func:`check_object_page`, of documents.

    Raises:
        FormatError: it can be no such page.
    """
    if not _plausible(page.keys, page.sizes, after, limit):
        raise FormatError("The holder's list of documents is malformed.")
    return page


def _plausible(names: Sequence[str], sizes: Sequence[int], after: str, limit: int) -> bool:
    forward = not names or names[-1] > after
    return forward and len(names) == len(sizes) and len(names) <= limit and min(sizes, default=0) >= 0


async def _counted(pieces: Pieces, size: int, count: Count) -> AsyncIterator[bytes]:
    """The object as aiohttp sends it: read in worker threads, in pieces that the network can pause between."""
    source = iter(await asyncio.to_thread(pieces))
    left = size
    while True:
        piece = await asyncio.to_thread(next, source, None)
        if piece is None:
            break
        left -= len(piece)
        if left < 0:
            break
        for at in range(0, len(piece), PIECE):
            part = piece[at : at + PIECE]
            count(len(part))
            yield part
    if left:
        raise BadInputError(f"The object to send does not have the {size} bytes that were announced.")


async def _keeping(pieces: AsyncIterator[bytes], failures: list[Exception]) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield piece
    except Exception as error:
        failures.append(error)
        raise


class ShelfHolder:
    """A :class:`Holder` over a shelf in this process."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def missing(self, ids: Sequence[ObjectId]) -> list[ObjectId]:
        """See :class:`Holder`."""
        held = await asyncio.to_thread(self._shelf.has, ids)
        return [object_id for object_id, has in zip(ids, held, strict=True) if not has]

    async def put(self, object_id: ObjectId, size: int, pieces: Pieces, *, count: Count = uncounted) -> None:
        """See :class:`Holder`."""
        data = b"".join([piece async for piece in _counted(pieces, size, count)])
        await asyncio.to_thread(self._keep, object_id, data)

    def _keep(self, object_id: ObjectId, data: bytes) -> None:
        self._shelf.put(object_id, data, replace=look(self._shelf, object_id) is Verdict.DAMAGED)

    async def delete(self, object_id: ObjectId) -> None:
        """See :class:`Holder`."""
        await asyncio.to_thread(holdings.delete_object, self._shelf, object_id)

    async def verify(self, ids: Sequence[ObjectId]) -> list[Verdict]:
        """See :class:`~entrepot.web.copies.Copies`."""
        return [await asyncio.to_thread(look, self._shelf, object_id) for object_id in ids]

    async def get(self, object_id: ObjectId, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """See :class:`~entrepot.web.copies.Copies`."""
        return await asyncio.to_thread(self._shelf.read_whole, object_id, limit)

    async def page(self, after: ObjectId | None = None, limit: int = PAGE) -> ObjectPage:
        """See :class:`Holder`."""
        return await asyncio.to_thread(holdings.object_page, self._shelf, after, limit)

    async def put_document(self, key: str, data: bytes, *, count: Count = uncounted) -> None:
        """See :class:`Holder`."""
        await asyncio.to_thread(holdings.write_document, self._shelf, key, data)
        count(len(data))

    async def get_document(self, key: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """See :class:`Holder`."""
        return await asyncio.to_thread(holdings.read_document, self._shelf, key, limit)

    async def delete_document(self, key: str) -> None:
        """See :class:`Holder`."""
        await asyncio.to_thread(holdings.delete_document, self._shelf, key)

    async def list_documents(self, prefix: str = "", after: str = "", limit: int = PAGE) -> DocumentPage:
        """See :class:`Holder`."""
        return await asyncio.to_thread(holdings.document_page, self._shelf, prefix, after, limit)
