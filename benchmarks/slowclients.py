"""Many slow clients in one process: each downloads one large object over TLS at a fixed rate and counts its bytes.

``python -m benchmarks.slowclients FILE``, where FILE is JSON: port, ca, name, rate, paths, tokens (one per client).
Prints JSON: errors, bytes, seconds, at_once (how many were downloading at the same time), tcp_memory_mib (the kernel's,
of the whole machine, at its peak).
"""

import asyncio
import json
import os
import socket
import ssl
import sys
import time
from pathlib import Path

RECEIVE_BUFFER = 16 * 1024
PIECE = 16 * 1024
DEADLINE_SECONDS = 300
HANDSHAKES = 64
"""At once: this one process makes all of them, and a server waits only so long for the end of one."""
SOCKETS = Path("/proc/net/sockstat")


class Crowd:
    """All clients of one process.

    Attributes:
        at_once: most downloads that ran at the same time.
    """

    def __init__(self, wanted: dict[str, object]) -> None:
        self._wanted = wanted
        self._context = ssl.create_default_context(cadata=str(wanted["ca"]))
        self._handshakes = asyncio.Semaphore(HANDSHAKES)
        self._running = 0
        self.at_once = 0

    async def download(self, path: str, token: str) -> int:
        """One client. Gives the bytes of the body, which must be all of it."""
        async with self._handshakes:
            reader, writer = await self._connect()
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        try:
            return await _fetch(reader, writer, self._wanted, path, token)
        finally:
            self._running -= 1
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self._wanted["port"]))
        return await asyncio.open_connection(
            sock=raw,
            ssl=self._context,
            server_hostname=str(self._wanted["name"]),
            ssl_handshake_timeout=DEADLINE_SECONDS,
            limit=PIECE,
        )


async def _fetch(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: dict[str, object], path: str, token: str
) -> int:
    request = f"GET {path} HTTP/1.1\r\nHost: {wanted['name']}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if not head.startswith("http/1.1 200"):
        raise ConnectionError(head.splitlines()[0])
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    begun, got = time.monotonic(), 0
    while got < length:
        piece = await reader.read(PIECE)
        if not piece:
            raise ConnectionError(f"ended after {got} of {length} bytes")
        got += len(piece)
        await asyncio.sleep(max(0.0, begun + got / float(str(wanted["rate"])) - time.monotonic()))
    return got


async def tcp_memory(found: list[int]) -> None:
    """Keep the peak of the kernel's TCP memory in ``found``, in pages."""
    while True:
        for line in SOCKETS.read_text().splitlines():  # noqa: ASYNC240  # the kernel answers from memory
            if line.startswith("TCP:"):
                found[0] = max(found[0], int(line.rpartition("mem ")[2]))
        await asyncio.sleep(0.5)


async def crowd(wanted: dict[str, object]) -> dict[str, int | float]:
    """All clients at once."""
    clients = Crowd(wanted)
    paths, tokens = wanted["paths"], wanted["tokens"]
    assert isinstance(paths, list)
    assert isinstance(tokens, list)
    pages = [0]
    watching = asyncio.create_task(tcp_memory(pages))
    begun = time.monotonic()
    async with asyncio.timeout(DEADLINE_SECONDS):
        ended = await asyncio.gather(
            *(clients.download(paths[at % len(paths)], token) for at, token in enumerate(tokens)),
            return_exceptions=True,
        )
    watching.cancel()
    errors = [one for one in ended if isinstance(one, BaseException)]
    for error in errors[:5]:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return {
        "errors": len(errors),
        "bytes": sum(one for one in ended if isinstance(one, int)),
        "seconds": round(time.monotonic() - begun, 1),
        "at_once": clients.at_once,
        "tcp_memory_mib": pages[0] * os.sysconf("SC_PAGE_SIZE") // 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(crowd(json.loads(Path(sys.argv[1]).read_text())))))
