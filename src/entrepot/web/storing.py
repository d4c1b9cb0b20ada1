"""What the site does on the data plane: ask what is missing, store, remove, list; and documents beside the objects.

Every operation is idempotent and durable when it is answered. Documents are looked at by a guard before they are
stored, one after the other.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from entrepot.content.checking import look
from entrepot.core.encoding import to_json
from entrepot.core.errors import BadInputError, FormatError, RefusedError, TooLargeError, TrustError
from entrepot.core.ids import OBJECT_ID_BYTES, ObjectId, object_id_from_hex
from entrepot.objects.shelf import Shelf
from entrepot.protocol.dataplane import (
    MAX_DOCUMENT_BYTES,
    MAX_MISSING_IDS,
    MAX_OBJECT_BYTES,
    PAGE,
    missing_bitmap,
)
from entrepot.rules.verdicts import Verdict
from entrepot.web import copies, holdings
from entrepot.web.asgi import (
    Receive,
    Scope,
    Send,
    body_pieces,
    content_length,
    query,
    read_body,
    send_json,
    send_problem,
    send_response,
)
from entrepot.web.grants import DocumentGuard, NoGuard
from entrepot.web.uploads import receive_object

UPLOADS = 16
LOOKS = 2
Held = Callable[[ObjectId, int], None]
_OCTETS = b"application/octet-stream"


class SiteStore:
    """The site's operations on one shelf. Authorisation is the caller's.

    Args:
        held: told, in the event loop, of every object that came (its size) or went (its size, negative).
    """

    def __init__(self, shelf: Shelf, guard: DocumentGuard | None = None, held: Held = lambda _id, _size: None) -> None:
        self._shelf = shelf
        self._held = held
        self._guard = guard or NoGuard()
        self._documents = asyncio.Lock()
        self._uploading = asyncio.Semaphore(UPLOADS)
        self._looking = asyncio.Semaphore(LOOKS)
        self._executor = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")
        self.received = 0
        """Bytes of objects stored since the start."""

    async def missing(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /objects/missing``."""
        body = await read_body(scope, receive, MAX_MISSING_IDS * OBJECT_ID_BYTES)
        if len(body) % OBJECT_ID_BYTES:
            raise BadInputError("The body is a sequence of 32-byte object ids.")
        ids = [ObjectId(body[at : at + OBJECT_ID_BYTES]) for at in range(0, len(body), OBJECT_ID_BYTES)]
        held = await asyncio.to_thread(self._shelf.has, ids)
        await send_response(send, 200, missing_bitmap([not has for has in held]), media_type=_OCTETS)

    async def put_object(self, object_id: ObjectId, scope: Scope, receive: Receive, send: Send) -> None:
        """``PUT /objects/{id}``: 204 when it is here and sound, whoever brought it."""
        size = content_length(scope)
        if size is not None and size > MAX_OBJECT_BYTES:
            raise TooLargeError(f"No object is larger than {MAX_OBJECT_BYTES} bytes.")
        async with self._uploading:
            stored = await receive_object(
                body_pieces(receive, MAX_OBJECT_BYTES),
                lambda pieces: self._put(object_id, pieces),
                self._executor,
            )
        before, now = stored
        if now is not None:
            self.received += now
            if before is not None:
                self._held(object_id, -before)
            self._held(object_id, now)
        return await send_response(send, 204)

    def _put(self, object_id: ObjectId, pieces: Iterator[bytes]) -> tuple[int | None, int | None]:
        """Store it unless it is here and sound; the size of what was damaged, and of what was stored."""
        [here] = self._shelf.has([object_id])
        if not here:
            return None, self._shelf.put(object_id, pieces)
        if look(self._shelf, object_id) is Verdict.GOOD:
            return None, None
        return self._shelf.size(object_id), self._shelf.put(object_id, pieces, replace=True)

    async def verify(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /objects/verify``."""
        async with self._looking:
            await copies.answer_verify(self._shelf, self._executor, scope, receive, send)

    async def copy(self, object_id: ObjectId, send: Send) -> None:
        """``GET /copies/{id}``."""
        async with self._looking:
            await copies.answer_copy(self._shelf, self._executor, object_id, send)

    async def delete_object(self, object_id: ObjectId, send: Send) -> None:
        """``DELETE /objects/{id}``: 204, also when it was gone already."""
        size = await asyncio.to_thread(holdings.delete_object, self._shelf, object_id)
        if size is not None:
            self._held(object_id, -size)
        await send_response(send, 204)

    async def page(self, scope: Scope, send: Send) -> None:
        """``GET /objects?after={id}&limit={n}``."""
        asked = query(scope, "after", "limit")
        after = object_id_from_hex(asked["after"]) if asked.get("after") else None
        page = await asyncio.to_thread(holdings.object_page, self._shelf, after, _limit(asked))
        await send_json(send, to_json(page))

    async def get_document(self, key: str, send: Send) -> None:
        """``GET /documents/{key}``."""
        data = await asyncio.to_thread(holdings.read_document, self._shelf, key)
        await send_response(send, 200, data, media_type=_OCTETS, headers=[(b"cache-control", b"no-store")])

    async def put_document(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        """``PUT /documents/{key}``: stored only if the guard accepts it."""
        holdings.check_document_key(key)
        if (content_length(scope) or 0) > MAX_DOCUMENT_BYTES:
            raise TooLargeError(f"No document is larger than {MAX_DOCUMENT_BYTES} bytes.")
        data = await read_body(scope, receive, MAX_DOCUMENT_BYTES)
        async with self._documents:
            try:
                await self._guard.check(key, data)
            except (TrustError, FormatError) as error:  # the sender's document, not this server, is at fault
                return await send_problem(send, error, status=RefusedError.family.status)
            await asyncio.to_thread(holdings.write_document, self._shelf, key, data)
            await self._guard.changed(key)
        return await send_response(send, 204)

    async def delete_document(self, key: str, send: Send) -> None:
        """``DELETE /documents/{key}``: 204, also when it was gone already."""
        async with self._documents:
            await asyncio.to_thread(holdings.delete_document, self._shelf, key)
            await self._guard.changed(key)
        await send_response(send, 204)

    async def list_documents(self, scope: Scope, send: Send) -> None:
        """``GET /documents?prefix=&after=&limit=``."""
        asked = query(scope, "prefix", "after", "limit")
        prefix, after = asked.get("prefix", ""), asked.get("after", "")
        page = await asyncio.to_thread(holdings.document_page, self._shelf, prefix, after, _limit(asked))
        await send_json(send, to_json(page))

    def close(self) -> None:
        """Let go of the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _limit(asked: dict[str, str]) -> int:
    text = asked.get("limit", str(PAGE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= PAGE:
        raise BadInputError(f"The limit of a page is 1 to {PAGE}.")
    return int(text)
