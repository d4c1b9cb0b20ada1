"""What can be answered in one step of the event loop: a small piece of an object that the page cache holds.

Most requests are of this kind, and nearly all that they cost beyond TLS is what happens here. Such an answer is handed
over in one message, which the server takes without waiting (``docs/adr/0012``). So no cut can come between the decision
and the last byte, and there is nothing to watch, to limit or to break off: it never counts as a running download.
Everything else (tokens that must be verified, conditions, errors, large spans, bytes that must be fetched first) takes
the general way through ``objects``, which gives the same answers.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

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
_PATH_LENGTH: Final = len(_PREFIX) + 64
_CONDITIONS: Final = (b"if-none-match", b"if-range")
_Headers = dict[bytes, bytes]


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
        if scope["method"] != "GET" or len(path) != _PATH_LENGTH or not path.startswith(_PREFIX):
            return None
        begun = time.monotonic()
        object_id = object_id_from_hex(path[len(_PREFIX) :])
        opened = self._readers.known(object_id)
        headers: _Headers = dict(scope["headers"])
        if opened is None or not headers.keys().isdisjoint(_CONDITIONS) or len(headers) != len(scope["headers"]):
            return None
        try:
            span = _asked_for(headers, opened.size)
        except RangeNotSatisfiableError:
            return None
        address = self._admission.address_of(scope)
        grant = self._admission.at_once(headers.get(b"authorization", b""), object_id, address, now=begun)
        if grant is None:
            return None
        return self._whole(scope, opened, object_id, span, grant, begun) or grant

    def _whole(
        self, scope: Scope, opened: OpenFile, object_id: ObjectId, span: Span, grant: Grant, begun: float
    ) -> Whole | None:
        peer = scope.get("client")
        if not self._downloads.whole(peer, span.length, begun):
            return None
        body = opened.cached(span.start, span.length)
        if body is None:
            self._downloads.took(peer)  # it was handed nothing
            return None
        start = start_message(object_id, span, opened.size)
        self._recorder(
            Record(
                time=self._moments.own(grant.device, object_id, "GET", round(self._clock() * 1000)),
                device=grant.device,
                set_id=grant.set_id,
                object_id=object_id,
                status=start["status"],
                sent=span.length,
                duration=round((time.monotonic() - begun) * 1000),
            )
        )
        return Whole(start, {"type": "http.response.body", "body": body, "more_body": False}, span.length)


def _asked_for(headers: _Headers, size: int) -> Span:
    wanted = headers.get(b"range")
    return choose_span(wanted.decode("latin-1") if wanted else None, size)


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
