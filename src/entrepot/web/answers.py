"""Answers of other servers: their bodies, within bounds and counted as they come, and the errors that they describe."""

import contextlib
from collections.abc import Callable

import aiohttp

from entrepot.core.errors import EntrepotError, FormatError, LimitedError
from entrepot.web.problems import MAX_PROBLEM_BYTES, error_from_problem

Count = Callable[[int], None]
"""Told of bytes as they pass."""


def uncounted(_: int) -> None:
    """Nobody counts."""


async def bounded(response: aiohttp.ClientResponse, limit: int, received: Count = uncounted) -> bytes:
    """The body of an answer.

    Args:
        received: told of its bytes as they come.

    Raises:
        LimitedError: it has more than ``limit`` bytes.
    """
    if (response.content_length or 0) > limit:
        raise LimitedError(f"The answer of {response.url.host} is larger than {limit} bytes.")
    pieces: list[bytes] = []
    got = 0
    async for piece in response.content.iter_any():
        received(len(piece))
        got += len(piece)
        if got > limit:
            raise LimitedError(f"The answer of {response.url.host} is larger than {limit} bytes.")
        pieces.append(piece)
    return b"".join(pieces)


def break_off(response: aiohttp.ClientResponse) -> None:
    """Close the connection of an answer that was not read to its end, if so.

    At once: TLS's farewell would wait, half a minute long, behind bytes that nobody reads.
    """
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()


async def refusal(response: aiohttp.ClientResponse) -> EntrepotError:
    """The error that an answer describes; one that breaks off midway still has its status."""
    who = str(response.url.host)
    if 300 <= response.status < 400:
        return FormatError(
            f"{who} redirects (HTTP status {response.status}), which is not expected here.",
            next_step="Check the address; a proxy or a captive portal may answer in its place.",
        )
    body = b""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, LimitedError):
        body = await bounded(response, MAX_PROBLEM_BYTES)
    return error_from_problem(response.status, body, who=who)
