"""Many slow clients in one process: each downloads one large object over TLS at a fixed rate and counts its bytes.

``python -m benchmarks.slowclients FILE``, where FILE is JSON: port, ca, name, rate, paths, tokens (one per client).
Prints JSON: errors, bytes, seconds, tcp_memory_mib (the kernel's, of the whole machine, at its peak).
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
SOCKETS = Path("/proc/net/sockstat")


async def download(context: ssl.SSLContext, wanted: dict[str, object], path: str, token: str) -> int:
    """One client. Gives the bytes of the body, which must be all of it."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", wanted["port"]))
    reader, writer = await asyncio.open_connection(
        sock=raw, ssl=context, server_hostname=str(wanted["name"]), ssl_handshake_timeout=DEADLINE_SECONDS, limit=PIECE
    )
    try:
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
    finally:
        writer.transport.abort()


async def tcp_memory(found: list[int]) -> None:
    """Keep the peak of the kernel's TCP memory in ``found``, in pages."""
    while True:
        for line in SOCKETS.read_text().splitlines():  # noqa: ASYNC240  # the kernel answers from memory
            if line.startswith("TCP:"):
                found[0] = max(found[0], int(line.rpartition("mem ")[2]))
        await asyncio.sleep(0.5)


async def crowd(wanted: dict[str, object]) -> dict[str, int | float]:
    """All clients at once."""
    context = ssl.create_default_context(cadata=str(wanted["ca"]))
    paths, tokens = wanted["paths"], wanted["tokens"]
    assert isinstance(paths, list)
    assert isinstance(tokens, list)
    pages = [0]
    watching = asyncio.create_task(tcp_memory(pages))
    begun = time.monotonic()
    async with asyncio.timeout(DEADLINE_SECONDS):
        ended = await asyncio.gather(
            *(download(context, wanted, paths[at % len(paths)], token) for at, token in enumerate(tokens)),
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
        "tcp_memory_mib": pages[0] * os.sysconf("SC_PAGE_SIZE") // 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(crowd(json.loads(Path(sys.argv[1]).read_text())))))
