"""A slow line between a client and a service: a TCP relay that passes on so many bytes a second and no more.

It stands for a client's thin internet connection, so that "in the middle of a download" is a time long enough to
look at. It sees TLS records only, like any router.
"""

import asyncio
import contextlib
import socket
import threading
import time
from typing import Final, Self

PIECE: Final = 16 * 1024
RECEIVE_BUFFER: Final = 64 * 1024


class SlowLine:
    """Relay between loopback addresses. Use as a context manager; it runs in a thread of its own.

    Args:
        host, port: where it listens.
        to: where it leads.
        rate: bytes a second towards the client, over all connections together; 0: no limit. May be changed.
    """

    def __init__(self, host: str, port: int, *, to: tuple[str, int], rate: int) -> None:
        self.target = to
        self.rate = rate
        self.passed = 0
        """Bytes that went to the client."""
        self.last_byte = 0.0
        """When the last of them went (``time.monotonic``)."""
        self._listener = socket.create_server((host, port))
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._free_at = 0.0
        self._relays: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="slow line", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._relay, sock=self._listener)
        async with server:
            await self._stop.wait()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        writers = [writer]
        try:
            far_reader, far_writer = await self._open_far()
            writers.append(far_writer)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer, slow=True))
        except OSError:
            pass  # the service refuses: the client is told so by the end of its connection
        finally:
            self._relays.discard(task)
            for one in writers:
                one.transport.abort()

    async def _open_far(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        upstream = socket.socket()
        try:
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            upstream.setblocking(False)
            await asyncio.get_running_loop().sock_connect(upstream, self.target)
        except BaseException:
            upstream.close()
            raise
        return await asyncio.open_connection(sock=upstream, limit=RECEIVE_BUFFER)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, slow: bool = False) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(PIECE):
                if slow:
                    await self._take_turn(len(piece))
                sink.write(piece)
                await sink.drain()
                if slow:
                    self.passed += len(piece)
                    self.last_byte = time.monotonic()
        with contextlib.suppress(OSError):
            sink.close()

    async def _take_turn(self, size: int) -> None:
        """Wait until the line is free for so many bytes."""
        if self.rate:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size / self.rate
            await asyncio.sleep(self._free_at - now)
