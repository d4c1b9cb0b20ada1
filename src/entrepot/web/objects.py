"""The object plane: sealed objects for clients, storage operations for the site, the same on every holder.

Plain ASGI. Who may have which object, and what is recorded of it, is decided here; :mod:`entrepot.web.pumping` sends
the bytes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from entrepot.core.errors import BadInputError, EntrepotError, LimitedError, NotFoundError, UnavailableError
from entrepot.core.ids import ObjectId, object_id_from_hex
from entrepot.core.times import Clock
from entrepot.objects.shelf import Shelf
from entrepot.protocol.transactions import Record
from entrepot.web.addresses import AddressOf, peer_address
from entrepot.web.admission import Admission
from entrepot.web.allowances import NoPurses, Purses
from entrepot.web.asgi import (
    Message,
    Receive,
    ResponseAbortedError,
    Scope,
    Send,
    header,
    listed,
    send_problem,
    send_response,
)
from entrepot.web.downloads import Download, Downloads
from entrepot.web.express import Express, Whole, start_message, tags
from entrepot.web.grants import Authoriser, DocumentGuard, Grant
from entrepot.web.pumping import LEFT, Pump, Transfer
from entrepot.web.ranges import RangeNotSatisfiableError, UnmatchedError, choose_span, etag_matches, require_match
from entrepot.web.readers import Readers
from entrepot.web.redirects import NoRedirects, Redirects, send_redirect
from entrepot.web.served import Moments, ServedRequest
from entrepot.web.storing import Held, SiteStore

_OBJECTS: Final = "/objects"
_QUESTIONS: Final = ("/objects/missing", "/objects/verify")
"""What the site asks of many objects at once: no object has such a name."""
_DOCUMENTS: Final = "/documents"
_COPIES: Final = "/copies"
_ADMITTED: Final = "entrepot.admitted"
"""Where a scope holds the grant of a request that was admitted, and counted, before it took the general way; and the
:attr:`Downloads.generation` in which it was."""


async def _unnoted() -> None:
    """Where nobody asks what a killed process had sent."""


class ObjectPlane:
    """An ASGI application that serves ``protocol.dataplane`` paths from one shelf.

    Args:
        shelf: where objects and documents lie.
        authorise: who may do what.
        recorder: called with one :class:`Record` per request of a client that was let in; must not block.
        guard: looks at documents before they are stored.
        held: told of every object that came (its size) or went (its size, negative).
        clock: for the records' time.
        allowances: asked before anything is sent on tokens that have an allowance.
        redirects: decides whom to send to the store instead of streaming to him.
        address_of: whose address a request comes from.
        noted: waits until :attr:`running` as it is now is durable: on tokens that have an allowance nothing is sent
            before, so that whoever restores what a killed process sent never finds less than was sent (R23).
        methods: what is heard of an object.

    Attributes:
        downloads: limits and numbers of what is running.
        admission: who gets in, with the limits of devices and addresses.
        limited: requests that were answered 429 so far.
    """

    def __init__(
        self,
        shelf: Shelf,
        authorise: Authoriser,
        recorder: Callable[[Record], None] = lambda _: None,
        *,
        guard: DocumentGuard | None = None,
        held: Held = lambda _id, _size: None,
        clock: Clock = time.time,
        downloads: Downloads | None = None,
        allowances: Purses | None = None,
        redirects: Redirects | None = None,
        address_of: AddressOf = peer_address,
        noted: Callable[[], Awaitable[object]] = _unnoted,
        methods: Sequence[str] = ("GET", "HEAD", "PUT", "DELETE"),
    ) -> None:
        self._methods = methods
        self._shelf = shelf
        self._recorder = recorder
        self._clock = clock
        self._held = held
        self._site = SiteStore(shelf, guard, self._changed)
        self._requests: dict[Download, ServedRequest] = {}
        self._moments = Moments()
        self._readers = Readers(shelf)
        self.downloads = downloads or Downloads()
        self._allowances = allowances or NoPurses()
        self._pump = Pump(self.downloads, self._allowances)
        self._redirects = redirects or NoRedirects()
        self.admission = Admission(authorise, self.downloads, address_of)
        self._express = Express(self._readers, self.downloads, self.admission, self._moments, recorder, clock)
        self.limited = 0
        self._noted = noted
        self.sent = 0
        """Bytes of objects handed to the transport since the start."""

    @property
    def received(self) -> int:
        """Bytes of objects taken in since the start."""
        return self._site.received

    def running(self) -> list[Record]:
        """What would be recorded of the running downloads that have sent something, if they ended now; what they may
        come to, where that was promised.

        May be called from any thread. A download leaves this list before it is recorded.
        """
        return [
            request.record(max(one.sent, one.promised))
            for one, request in list(self._requests.items())
            if one.sent or one.promised
        ]

    def settled_before(self, now: float) -> int:
        """Until when everything is recorded: what was sent on tokens with an allowance that ended before this time.

        Call it in the event loop's thread.
        """
        ends = [request.grant.expires for request in self._requests.values() if request.grant.allow]
        return min([int(now), *ends])

    def cut_all(self, reason: str = "stopped") -> int:
        """Break off every running download; returns how many. Call it in the event loop's thread, as all cuts."""
        return self.downloads.cut(reason, lambda _: True)

    def cut(self, devices: AbstractSet[str], tokens: AbstractSet[str] = frozenset(), reason: str = "revoked") -> int:
        """Break off the downloads of these devices, and those that run on these tokens: one look, however many."""
        if not devices and not tokens:
            return 0
        return self.downloads.cut(reason, lambda one: one.device in devices or one.jti in tokens)

    def close(self) -> None:
        """Let go of the worker threads."""
        self._readers.close()
        self._site.close()

    def at_once(self, scope: Scope) -> tuple[Message, ...]:
        """The whole answer to a request that takes no waiting, recorded already; empty: it goes the general way.

        Raises:
            EntrepotError: it is refused.
        """
        if self._redirects.on:
            return ()
        try:
            found = self._express.answer(scope)
        except LimitedError:
            self.limited += 1
            raise
        if isinstance(found, Whole):
            self.sent += found.size
            return found.start, found.body
        if found is not None:
            scope[_ADMITTED] = found, self.downloads.generation
        return ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise BadInputError("Only HTTP is spoken here.")
        try:
            await self._route(scope["method"], scope["path"], scope, receive, send)
        except EntrepotError as error:
            self.limited += isinstance(error, LimitedError)
            await send_problem(send, error, head=scope["method"] == "HEAD")

    async def _route(self, method: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        objects = path.startswith(_OBJECTS + "/") and path not in _QUESTIONS
        if objects and method in ("GET", "HEAD"):
            try:
                object_id = object_id_from_hex(path.removeprefix(_OBJECTS + "/"))
            except BadInputError:
                self.admission.nobody(scope)
                raise
            return await self._serve_client(object_id, scope, receive, send)
        if objects and method not in self._methods:
            self.admission.nobody(scope)
            error = BadInputError("Objects are read with GET or HEAD.", next_step="Ask with one of these.")
            return await send_problem(send, error, status=405, headers=[(b"allow", ", ".join(self._methods).encode())])
        await self.admission.site(scope)
        site = self._site
        match method, path:
            case "POST", "/objects/missing":
                return await site.missing(scope, receive, send)
            case "POST", "/objects/verify":
                return await site.verify(scope, receive, send)
            case "GET", "/objects":
                return await site.page(scope, send)
            case "GET", "/documents":
                return await site.list_documents(scope, send)
        if objects and method in ("PUT", "DELETE"):
            object_id = object_id_from_hex(path.removeprefix(_OBJECTS + "/"))
            if method == "PUT":
                return await site.put_object(object_id, scope, receive, send)
            return await site.delete_object(object_id, send)
        if path.startswith(_COPIES + "/") and method == "GET":
            return await site.copy(object_id_from_hex(path.removeprefix(_COPIES + "/")), send)
        if path.startswith(_DOCUMENTS + "/") and method in ("GET", "PUT", "DELETE"):
            return await self._serve_document(method, path.removeprefix(_DOCUMENTS + "/"), scope, receive, send)
        raise NotFoundError(f"There is nothing at {method} {path[:100]!r}.")

    async def _serve_document(self, method: str, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        if method == "GET":
            return await self._site.get_document(key, send)
        if method == "PUT":
            return await self._site.put_document(key, scope, receive, send)
        return await self._site.delete_document(key, send)

    async def _serve_client(self, object_id: ObjectId, scope: Scope, receive: Receive, send: Send) -> None:
        request = ServedRequest(self._clock(), time.monotonic())
        address = self.admission.address_of(scope)
        grant = await self._admitted(object_id, scope, address, now=request.begun)
        self.downloads.took(scope.get("client"))
        method = scope["method"]
        request.grant, request.object_id, request.method = grant, object_id, method
        request.time = self._moments.own(grant.device, object_id, method, request.time)
        download = self.downloads.begin(grant.device, grant.jti, address, scope.get("client"))
        self._requests[download] = request

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            await send(message)

        try:
            await self._answer(download, grant, object_id, scope, receive, noting)
        except asyncio.CancelledError:
            if not download.reason:
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # a coroutine always runs in a task
            await self._broken_off(download, bool(request.status), noting)
        finally:
            self.downloads.finish(download)
            if download.sent:
                self.downloads.ends(download, time.monotonic())
            else:
                self.downloads.took(scope.get("client"))
            del self._requests[download]  # before it is recorded: see running()
            self.sent += download.sent
            self._allowances.give_back(grant, download.promised - download.sent)
            self._recorder(request.record(download.sent, download.granted))

    async def _admitted(self, object_id: ObjectId, scope: Scope, address: str, *, now: float) -> Grant:
        """Its grant. What was cut between the step that admitted it and this one could not cut it: then ask again."""
        admitted: tuple[Grant, int] | None = scope.get(_ADMITTED)
        if admitted is not None and admitted[1] == self.downloads.generation:
            return admitted[0]
        return await self.admission.client(scope, object_id, address, now=now)

    async def _answer(
        self, download: Download, grant: Grant, object_id: ObjectId, scope: Scope, receive: Receive, send: Send
    ) -> None:
        head = scope["method"] == "HEAD"
        etag = f'"{object_id.hex()}"'
        try:
            if not grant.set_id:
                raise NotFoundError("This token gives access to no such object here.")
            wanted = None if head else header(scope, b"range")
            if wanted and header(scope, b"if-range") not in (None, etag):
                wanted = None
            opened = await self._readers.open(object_id)
            require_match(listed(scope, b"if-match"), etag)
            matches = etag_matches(listed(scope, b"if-none-match"), etag)
            span = choose_span(None if matches else wanted, opened.size)  # what the client has, he needs no range of
            bare = head or matches or not span.length
            if self._redirects.on and not bare and (link := await self._redirects.link(grant, scope, object_id)):
                download.granted = span.length
                return await send_redirect(send, link)
            first: bytes | bytearray = b""
            if not bare and grant.allow:
                await self._allowances.take(grant, span.length)
                download.promised = span.length
                await self._noted()
            if not bare:
                peer, now = scope.get("client"), asyncio.get_running_loop().time()
                whole = not grant.rate and self.downloads.whole(peer, span.length, now, grant)
                first = await opened.read(span.start, span.length, span.length if whole else self._pump.piece(grant))
        except RangeNotSatisfiableError as error:
            size = [(b"content-range", b"bytes */%d" % opened.size)]
            return await send_problem(send, error, status=416, headers=size)
        except UnmatchedError as error:
            return await send_problem(send, error, status=412, head=head)
        except EntrepotError as error:
            self.limited += isinstance(error, LimitedError)
            return await send_problem(send, error, head=head)
        if matches:
            return await send_response(send, 304, headers=tags(object_id))
        await send(start_message(object_id, span, opened.size))
        if bare:
            return await send({"type": "http.response.body", "body": b"", "more_body": False})
        return await self._pump.send(download, Transfer(grant, opened, span, first), receive, send)

    def _changed(self, object_id: ObjectId, size: int) -> None:
        self._readers.forget(object_id)
        self._held(object_id, size)

    async def _broken_off(self, download: Download, started: bool, send: Send) -> None:
        if started or download.reason == LEFT:
            raise ResponseAbortedError(download.reason)
        await send_problem(send, UnavailableError("The download was broken off.", next_step="Ask again."))
