"""The bytes of one download on their way to its client.

They travel in pieces (:attr:`Downloads.piece`); ``send`` waits for the client, and between two pieces the event loop
runs. A download ends visibly broken (fewer bytes than announced) when its client leaves or stops reading, when it is
cut, or when the stored bytes end early; it never ends whole when it is not.
"""

import asyncio
import contextlib
from typing import Final, NamedTuple

import structlog

from entrepot.core.errors import EntrepotError
from entrepot.rules import throttle
from entrepot.web.allowances import Purses
from entrepot.web.asgi import Receive, ResponseAbortedError, Send
from entrepot.web.downloads import Download, Downloads
from entrepot.web.grants import Grant
from entrepot.web.ranges import Span
from entrepot.web.readers import Reading

LEFT: Final = "client left"
_log = structlog.get_logger("entrepot.web")


class Transfer(NamedTuple):
    """Bytes on their way to a client: what it may have, where they come from, which, and the first piece of them."""

    grant: Grant
    opened: Reading
    span: Span
    first: bytes | bytearray


class Pump:
    """Sends what was announced.

    Args:
        downloads: limits.
        purses: asked before each piece of a throttled download.
    """

    def __init__(self, downloads: Downloads, purses: Purses) -> None:
        self._downloads = downloads
        self._purses = purses

    def piece(self, grant: Grant) -> int:
        """How much is read and sent at a time, bytes."""
        return min(self._downloads.piece, throttle.piece(grant.rate)) if grant.rate else self._downloads.piece

    async def send(self, download: Download, transfer: Transfer, receive: Receive, send: Send) -> None:
        """Send everything, and notice when the client leaves meanwhile.

        Raises:
            ResponseAbortedError: the stored bytes cannot be read, or end early.
        """
        if transfer.grant.rate:  # the client shall not wait for the head until it is his turn; it goes with some body
            await send({"type": "http.response.body", "body": b"", "more_body": True})
        elif len(transfer.first) == transfer.span.length:  # handed over at once: nothing to watch for
            return await self._pump(download, transfer, send)
        watch = asyncio.create_task(_watch(receive, download))
        try:
            await self._pump(download, transfer, send)
        except EntrepotError as error:  # too late for an answer
            _log.error("object_not_readable", problem=str(error))
            raise ResponseAbortedError(error.code) from error
        finally:
            watch.cancel()

    async def _pump(self, download: Download, transfer: Transfer, send: Send) -> None:
        loop = asyncio.get_running_loop()
        at, left, piece = transfer.span.start, transfer.span.length, transfer.first
        while piece:
            await self._purses.pace(transfer.grant, len(piece))  # before it counts: many a client leaves meanwhile
            at += len(piece)
            left -= len(piece)
            download.expect(len(piece), minimum_rate=self._downloads.minimum_rate, now=loop.time())
            download.sent += len(piece)  # before: a cut may come when the transport has it already (an upper bound)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
            download.deadline = float("inf")
            if left <= 0:
                return
            await asyncio.sleep(0)  # send did not wait if the transport had room: others' turn, and cuts'
            piece = await transfer.opened.read(at, left, self.piece(transfer.grant))
        _log.error("object_truncated", missing=left)
        raise ResponseAbortedError("truncated")


async def _watch(receive: Receive, download: Download) -> None:
    """Notice that the client left: ``send`` would go on as if nothing had happened."""
    with contextlib.suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        download.end(LEFT)
