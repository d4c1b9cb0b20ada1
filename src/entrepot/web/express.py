"""What can be answered in one step of the event loop: a small piece of an object that the page cache holds.

Most requests are of this kind, and nearly all that they cost beyond TLS is what happens here. Such an answer is handed
over in one message, which the server takes without waiting (``docs/adr/0012``). So no cut can come between the decision
and the last byte, and there is nothing to watch, to limit or to break off: it never counts as a running download.
Everything else (conditions, errors, large spans, bytes that must be fetched first) takes the general way through
``objects``, which gives the same answers.
"""

import time
from typing import Final, NamedTuple

from entrepot.core.ids import ObjectId
from entrepot.web.asgi import Message, Scope
from entrepot.web.downloads import Downloads
from entrepot.web.ranges import RangeNotSatisfiableError, Span, choose_span
from entrepot.web.readers import Readers

CACHE_CONTROL: Final = b"private, max-age=31536000, immutable"
_CONDITIONS: Final = (b"if-none-match", b"if-range")


class Whole(NamedTuple):
    """A whole answer: the two messages, and how many bytes of the object they hold."""

    start: Message
    body: Message
    size: int


def answer_at_once(readers: Readers, downloads: Downloads, object_id: ObjectId, scope: Scope) -> Whole | None:
    """The answer to a GET of an object that the client may read; None where it takes the general way."""
    opened = readers.known(object_id)
    if opened is None:
        return None
    headers = dict(scope["headers"])
    if not headers.keys().isdisjoint(_CONDITIONS):
        return None
    wanted = headers.get(b"range")
    try:
        span = choose_span(wanted.decode("latin-1") if wanted else None, opened.size)
    except RangeNotSatisfiableError:
        return None
    peer = scope.get("client")
    if not downloads.whole(peer, span.length, time.monotonic()):
        return None
    body = opened.cached(span.start, span.length)
    if body is None:
        downloads.took(peer)  # it was handed nothing
        return None
    return Whole(
        start_message(object_id, span, opened.size),
        {"type": "http.response.body", "body": body, "more_body": False},
        span.length,
    )


def start_message(object_id: ObjectId, span: Span, size: int) -> Message:
    """The beginning of every answer that holds bytes of an object.

    Args:
        size: of the whole object.
    """
    headers = [
        (b"content-length", b"%d" % span.length),
        (b"content-type", b"application/octet-stream"),
        (b"accept-ranges", b"bytes"),
        *tags(object_id),
    ]
    if span.partial:
        headers.append((b"content-range", span.content_range(size)))
    return {"type": "http.response.start", "status": 206 if span.partial else 200, "headers": headers}


def tags(object_id: ObjectId) -> list[tuple[bytes, bytes]]:
    """What caches want to know of an object."""
    return [(b"etag", b'"%s"' % object_id.hex().encode()), (b"cache-control", CACHE_CONTROL)]
