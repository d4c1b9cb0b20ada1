"""ASGI spoken plainly: types, a few readers of requests, a few writers of responses.

Hot endpoints (objects, locations) are plain ASGI, without a framework per request; this is all they share.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from entrepot.core.errors import BadInputError, EntrepotError, TooLargeError, UnavailableError
from entrepot.core.sizes import KIB
from entrepot.web.problems import PROBLEM_TYPE, problem_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

MAX_QUERY_BYTES = 4096
MAX_QUERY_FIELDS = 32
LONGEST_NUMBER = 18
"""Digits of a Content-Length."""
BODY_SECONDS = 60.0
BODY_RATE = 8 * KIB
"""A body that is read whole has this many seconds, and more for what it may hold at this many bytes a second: nobody
may keep a connection busy by sending it drop by drop."""


class ResponseAbortedError(Exception):
    """The response was ended on purpose before it was complete: the connection breaks, visibly for the client.

    Not an :class:`EntrepotError`: nobody is to be told, and the server's log stays quiet about it.
    """


class DisconnectedError(Exception):
    """The client left while its request was still being received."""


def header(scope: Scope, name: bytes) -> str | None:
    """First value of a request header (``name`` in lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def listed(scope: Scope, name: bytes) -> str | None:
    """A request header that holds a list, or None: several lines of it are one list (RFC 9110 section 5.3)."""
    values = [value for key, value in scope["headers"] if key == name]
    text: str = b",".join(values).decode("latin-1")
    return text if values else None


def query(scope: Scope, *allowed: str) -> dict[str, str]:
    """Query parameters, each at most once.

    Raises:
        BadInputError: too long, a name that is not allowed, or one given twice.
    """
    raw: bytes = scope.get("query_string", b"")
    if len(raw) > MAX_QUERY_BYTES:
        raise BadInputError("The query string is too long.")
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise BadInputError("The query string has too many parameters.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed or name in found:
            raise BadInputError(f"The query parameter {name[:40]!r} is not known here, or was given twice.")
        found[name] = value
    return found


def content_length(scope: Scope) -> int | None:
    """The announced body size, or None when there is no such header.

    Raises:
        BadInputError: not a number.
    """
    text = header(scope, b"content-length")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > LONGEST_NUMBER:
        raise BadInputError("The Content-Length header is not a number.")
    return int(text)


async def body_pieces(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """The request body as it arrives.

    Raises:
        TooLargeError: more than ``limit`` bytes.
        DisconnectedError: the client left before the end.
    """
    received = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise DisconnectedError
        piece: bytes = message.get("body", b"")
        received += len(piece)
        if received > limit:
            raise TooLargeError(f"The request body is larger than {limit} bytes.")
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole request body.

    Raises:
        TooLargeError: announced or received more than ``limit`` bytes.
        UnavailableError: it did not arrive in time.
        DisconnectedError: the client left before the end.
    """
    if (content_length(scope) or 0) > limit:
        raise TooLargeError(f"The request body is larger than {limit} bytes.")
    try:
        async with asyncio.timeout(body_seconds(limit)):
            return b"".join([piece async for piece in body_pieces(receive, limit)])
    except TimeoutError:
        raise _late() from None


def in_time(scope: Scope, receive: Receive, limit: int) -> Receive:
    """As ``receive``, for applications that read bodies by themselves: none has longer than :func:`read_body` grants.

    Args:
        limit: bytes that a body may have.
    """
    told = header(scope, b"content-length") or ""
    size = min(int(told), limit) if told.isascii() and told.isdigit() and len(told) <= LONGEST_NUMBER else limit
    deadline = 0.0
    whole = False

    async def received() -> Message:
        nonlocal deadline, whole
        if whole:  # whoever asks on waits for the client to leave, however long that takes
            return await receive()
        deadline = deadline or asyncio.get_running_loop().time() + body_seconds(size)
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise _late() from None
        whole = not message.get("more_body", False)
        return message

    return received


def body_seconds(size: int) -> float:
    """How long a body of at most so many bytes may take."""
    return BODY_SECONDS + size / BODY_RATE


def _late() -> UnavailableError:
    return UnavailableError("The request did not arrive in time.", next_step="Check the network to the sender.")


async def send_response(
    send: Send, status: int, body: bytes = b"", *, media_type: bytes = b"", headers: Headers = ()
) -> None:
    """A whole response."""
    head = [(b"content-length", b"%d" % len(body)), *headers]
    if media_type:
        head.append((b"content-type", media_type))
    if status in (204, 304):  # RFC 9110 section 8.6: no Content-Length of its own
        head = head[1:]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_json(send: Send, body: bytes, *, status: int = 200, headers: Headers = ()) -> None:
    """A JSON response; ``body`` is encoded already."""
    await send_response(send, status, body, media_type=b"application/json", headers=headers)


async def send_problem(
    send: Send, error: EntrepotError, *, status: int | None = None, headers: Headers = (), head: bool = False
) -> None:
    """An error as problem details (RFC 9457), with Retry-After where trying again makes sense.

    Args:
        head: answer a HEAD request: the same headers, no body.
    """
    problem = problem_of(error, status)
    extra = list(headers)
    if problem.retry_after:
        extra.append((b"retry-after", b"%d" % problem.retry_after))
    if problem.status == 401:
        extra.append((b"www-authenticate", b'Bearer realm="entrepot"'))
    body = problem.encode()
    if head:
        start = [(b"content-length", b"%d" % len(body)), (b"content-type", PROBLEM_TYPE.encode()), *extra]
        await send({"type": "http.response.start", "status": problem.status, "headers": start})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    await send_response(send, problem.status, body, media_type=PROBLEM_TYPE.encode(), headers=extra)
