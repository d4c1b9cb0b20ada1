"""What can be answered in one step of the event loop: a small piece of an object that the page cache holds.

Most requests are of this kind, and nearly all that they cost beyond TLS is what happens here. Such an answer is handed
over in one message, which the server takes without waiting (``docs/adr/0012``). So no cut can come between the decision
and the last byte, and there is nothing to watch or to limit: it never counts as a running download. A cut resets the
connection, if its client has not taken everything.
Everything else (tokens that must be verified, conditions, errors, large spans, bytes that must be fetched first) takes
the general way through ``objects``, which gives the same answers.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from entrepot.core.errors import BadInputError
from entrepot.core.ids import ObjectId, object_id_from_hex
from entrepot.core.times import Clock
from entrepot.protocol.transactions import Record
from entrepot.web.admission import Admission
from entrepot.web.asgi import Message, Scope
from entrepot.web.downloads import Downloads
from entrepot.web.grants import Grant
from entrepot.web.ranges import RangeNotSatisfiableError, Span, choose_span
from entrepot.web.readers import OPEN_FILES, OpenFile, Readers
from entrepot.web.served import Moments

CACHE_CONTROL: Final = b"private, max-age=31536000, immutable"
_PREFIX: Final = "/objects/"
_CONDITIONS: Final = (b"if-match", b"if-none-match", b"if-range")
_PATH_LENGTH: Final = len(_PREFIX) + 64
_LONGEST_RANGE: Final = 48
_KEPT: Final = 2048
"""What is asked for again and again is parsed once, and its answer's first message made once: 3 MiB at most."""


class Whole(NamedTuple):
    """A whole answer: the two messages, and how many bytes of the object they hold."""

    start: Message
    body: Message
    size: int


class Express:
    """Answers at once what can be. Use it in one event loop.

    Args:
        moments, recorder, clock: as in ``objects``: each answer is recorded, by the same rules.
    """

    def __init__(
        self,
        readers: Readers,
        downloads: Downloads,
        admission: Admission,
        moments: Moments,
        recorder: Callable[[Record], None],
        clock: Clock,
    ) -> None:
        self._readers, self._downloads, self._admission = readers, downloads, admission
        self._moments, self._recorder, self._clock = moments, recorder, clock

    def answer(self, scope: Scope) -> Whole | Grant | None:
        """The answer to a request, recorded already: hand it over without waiting.

        Returns:
            Where there is none at once: the grant, if the request was admitted and counted; None, if nothing was
            decided.

        Raises:
            LimitedError: it is refused, as :meth:`Admission.client` does.
        """
        path: str = scope["path"]
        if scope["method"] != "GET" or len(path) != _PATH_LENGTH or (object_id := _object_at(path)) is None:
            return None
        begun = time.monotonic()
        opened = self._readers.known(object_id)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if opened is None or not headers.keys().isdisjoint(_CONDITIONS):
            return None
        wanted = headers.get(b"range", b"")
        if len(wanted) > _LONGEST_RANGE or len(headers) != len(scope["headers"]):
            return None
        beginning = _beginning(object_id, wanted, opened.size)
        if beginning is None:
            return None
        address = self._admission.address_of(scope)
        grant = self._admission.at_once(headers.get(b"authorization", b""), object_id, address, now=begun)
        if grant is None:
            return None
        return self._whole(scope, opened, object_id, beginning, grant, begun) or grant

    def _whole(
        self, scope: Scope, opened: OpenFile, object_id: ObjectId, beginning: "_Beginning", grant: Grant, begun: float
    ) -> Whole | None:
        start, status, first, length = beginning
        peer = scope.get("client")
        if not self._downloads.whole(peer, length, begun, grant):
            return None
        body = opened.cached(first, length)
        if body is None:
            self._downloads.took(peer)  # it was handed nothing
            return None
        device = grant.device
        self._recorder(
            Record(
                time=self._moments.own(device, object_id, "GET", round(self._clock() * 1000)),
                device=device,
                set_id=grant.set_id,
                object_id=object_id,
                status=status,
                sent=length,
                duration=round((time.monotonic() - begun) * 1000),
            )
        )
        return Whole(start, {"type": "http.response.body", "body": body, "more_body": False}, length)


class _Beginning(NamedTuple):
    """The first message of an answer, with its status, and which bytes follow. Nobody may change it."""

    message: Message
    status: int
    first: int
    length: int


@lru_cache(maxsize=_KEPT)
def _object_at(path: str) -> ObjectId | None:
    try:
        return object_id_from_hex(path.removeprefix(_PREFIX)) if path.startswith(_PREFIX) else None
    except BadInputError:
        return None


@lru_cache(maxsize=_KEPT)
def _beginning(object_id: ObjectId, wanted: bytes, size: int) -> _Beginning | None:
    """None where the range cannot be satisfied."""
    try:
        span = choose_span(wanted.decode("latin-1"), size)
    except RangeNotSatisfiableError:
        return None
    message = start_message(object_id, span, size)
    return _Beginning(message, message["status"], span.start, span.length)


def start_message(object_id: ObjectId, span: Span, size: int) -> Message:
    """The beginning of every answer that holds bytes of an object.

    Args:
        size: of the whole object.
    """
    headers = [(b"content-length", b"%d" % span.length), *_always(object_id)]
    if span.partial:
        headers.append((b"content-range", span.content_range(size)))
    return {"type": "http.response.start", "status": 206 if span.partial else 200, "headers": headers}


@lru_cache(maxsize=OPEN_FILES)
def _always(object_id: ObjectId) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that are the same for each answer with bytes of an object."""
    return ((b"content-type", b"application/octet-stream"), (b"accept-ranges", b"bytes"), *tags(object_id))


def tags(object_id: ObjectId) -> list[tuple[bytes, bytes]]:
    """What caches want to know of an object."""
    return [(b"etag", b'"%s"' % object_id.hex().encode()), (b"cache-control", CACHE_CONTROL)]
