"""A certificate is swapped while clients are in the middle of their TLS handshakes."""

import asyncio
import contextlib
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from entrepot.web.asgi import send_response
from entrepot.web.handover import stop_accepting
from entrepot.web.server import open_listener, serve

from .exhaustion import descriptors_left

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such a handshake is broken off, as told")
LIMIT = 9.0
"""The server gives a handshake ten seconds: one that a busy machine drew out for longer proves nothing."""


class Handshake:
    """A TLS client that shakes hands step by step."""

    def __init__(self, raw: socket.socket, authority: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority)
        self._raw, self._in, self._out = raw, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def begin(cls, address: Any, authority: str) -> "Handshake":
        """Connect, say hello, and hear the server's first words: it has accepted the connection."""
        raw = socket.socket()
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, address)
        made = cls(raw, authority)
        with contextlib.suppress(ssl.SSLWantReadError):
            made._tls.do_handshake()
        await made._send()
        made._in.write(await made._heard())
        return made

    async def finish(self) -> str:
        """End the handshake; the serial number of the certificate that was shown."""
        await self._until(self._tls.do_handshake)
        found = self._tls.getpeercert()
        assert found
        return str(found["serialNumber"])

    async def ask(self) -> bytes:
        """The first bytes of the answer to a request."""
        self._tls.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await self._send()
        return bytes(await self._until(lambda: self._tls.read(15)))

    def close(self) -> None:
        self._raw.close()

    async def _until(self, step: Any) -> Any:
        while True:
            try:
                made = step()
            except ssl.SSLWantReadError:
                await self._send()
                self._in.write(await self._heard())
            else:
                await self._send()
                return made

    async def _send(self) -> None:
        if said := self._out.read():
            await self._loop.sock_sendall(self._raw, said)

    async def _heard(self) -> bytes:
        data = await self._loop.sock_recv(self._raw, 65536)
        if not data:
            raise ConnectionResetError
        return data


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The smallest application."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    await send_response(send, 200, b"hello")


class Server:
    """A server of ours, and what asks it to swap its certificate."""

    def __init__(self, site: Any, tls: Any, address: Any, renew: asyncio.Event) -> None:
        self._site, self._tls, self.address, self.renew = site, tls, address, renew
        self.authority = site.authority.pem()

    async def shown(self) -> str:
        """Which certificate a new connection gets to see."""
        shaking = await Handshake.begin(self.address, self.authority)
        try:
            return await shaking.finish()
        finally:
            shaking.close()

    def write_new(self) -> None:
        """Put another certificate into the place of the one that is shown."""
        self._site.tls_files(self._tls.cert.parent)

    async def swap(self) -> str:
        """Have the certificate swapped; returns the new one's serial number, once it is shown."""
        before = await self.shown()
        self.write_new()
        self.renew.set()
        while (shown := await self.shown()) == before:
            pass
        return shown


@pytest.fixture
async def server(site: Any, tls: Any) -> AsyncIterator[Server]:
    listener = open_listener("127.0.0.1", 0)
    address = listener.getsockname()
    stop, renew, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(serve(hello, listener=listener, tls=tls, ready=ready.set, stop=stop, renew=renew))
    await ready.wait()
    yield Server(site, tls, address, renew)
    stop.set()
    await task


async def held_across(server: Server, swaps: int) -> bool:
    """Hold a handshake open while the certificate is swapped; whether the machine was quick enough for it."""
    old, begun = await server.shown(), time.monotonic()
    shaking = await Handshake.begin(server.address, server.authority)
    try:
        shown = [old, *[await server.swap() for _ in range(swaps)]]
        assert len(set(shown)) == swaps + 1
        try:
            assert await shaking.finish() == old
            assert await shaking.ask() == b"HTTP/1.1 200 OK"
        except (ConnectionError, ssl.SSLError):
            if time.monotonic() - begun < LIMIT:
                raise
            return False
        assert [await server.shown() for _ in range(5)] == [shown[-1]] * 5
        return True
    finally:
        shaking.close()


@pytest.mark.parametrize("swaps", [1, 3])
async def test_a_handshake_in_progress_outlives_swaps(server: Server, swaps: int) -> None:
    while not await held_across(server, swaps):
        pass


async def test_a_swap_for_which_descriptors_are_wanting_ends_nothing_and_is_made_up_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrepot.web.server.RENEW_AGAIN_SECONDS", 0.01)
    async with asyncio.timeout(120):
        before = await server.shown()
        server.write_new()
        with structlog.testing.capture_logs() as told, descriptors_left(3):
            server.renew.set()
            while not told:  # noqa: ASYNC110  # nothing but a line of the log tells of it
                await asyncio.sleep(0)
        assert told[0]["event"] == "certificate_not_swapped"
        while await server.shown() == before:
            pass


def test_a_poll_is_looked_for_also_when_no_descriptor_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, descriptors_left(0):
        assert stop_accepting(listener.fileno()) is False, "nobody listened"
