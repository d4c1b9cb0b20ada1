"""Slow and odd clients: whoever drips, stays silent or speaks nonsense is let go, and nobody else notices."""

import asyncio
import contextlib
import json
import socket
import ssl

import pytest

from entrepot.core.sizes import MIB
from entrepot.web.downloads import MOST_WHOLE
from entrepot.web.embedded import MAX_BUFFER
from entrepot.web.process import raise_descriptor_limit
from entrepot.web.server import SEND_BUFFER

RECEIVE = 16 * 1024
IN_THE_CLIENT = 512 * 1024
"""What a client's own system and TLS have received, and the client has not read: 128 KiB in asyncio's reader, up to
256 KiB in the TLS that feeds it, and the system's buffer, which is small here."""


class Connection:
    """A TLS connection on which a test says exactly what it wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    def say(self, text: str) -> None:
        self.writer.write(text.encode("latin-1"))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, value in fields.items()}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer."""
        status, headers = await self.head()
        return status, headers, await self._reader.readexactly(int(headers.get("content-length", 0)))

    async def some(self, count: int) -> bytes:
        """So many bytes of a body."""
        return await self._reader.readexactly(count)

    async def ended(self) -> bytes:
        """What still comes until the server closes."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            return await self._reader.read()
        return b""


@pytest.fixture
async def connect(site):
    made = []

    async def connecting(url: str, *, tls: bool = True, buffer: int = 0) -> Connection:
        host, port = url.removeprefix("https://").split(":")
        raw = socket.socket()
        raw.setblocking(False)
        if buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        context = ssl.create_default_context(cadata=site.authority.pem()) if tls else None
        name = "localhost" if tls else None
        made.append(Connection(*await asyncio.open_connection(sock=raw, ssl=context, server_hostname=name)))
        return made[-1]

    yield connecting
    for one in made:
        one.writer.transport.abort()


@pytest.fixture
def impatient(monkeypatch):
    """A server that waits a second for a request's head."""
    monkeypatch.setattr("entrepot.web.embedded.HEADER_SECONDS", 1)


def get(object_id, *more: str, method: str = "GET") -> str:
    lines = [f"{method} /objects/{object_id.hex()} HTTP/1.1", "Host: localhost", "Authorization: Bearer good", *more]
    return "\r\n".join(lines) + "\r\n\r\n"


async def test_silent_half_and_dripping_heads_and_idle_connections_end(plane, served, connect, stock, impatient):
    object_id, data = stock(100)

    async def drip(connection: Connection) -> None:
        connection.say("GET / HTTP/1.1\r\nHost: localhost\r\n")
        while True:
            connection.say("X-More: and more\r\n")
            await asyncio.sleep(0.1)

    async with served(plane) as url, asyncio.timeout(60):
        silent, half, dripping, idle = [await connect(url) for _ in range(4)]
        half.say("GET / HTTP/1.1\r\nHost: local")
        idle.say(get(object_id))
        assert (await idle.answer())[2] == data
        drips = asyncio.create_task(drip(dripping))
        for connection in (silent, half, dripping, idle):
            assert await connection.ended() == b""
        drips.cancel()
        other = await connect(url)
        other.say(get(object_id))
        assert (await other.answer())[0] == 200, "nobody else notices"


async def test_who_never_begins_with_tls_is_let_go(plane, served, connect):
    async with served(plane) as url, asyncio.timeout(60):
        silent, half = await connect(url, tls=False), await connect(url, tls=False)
        half.writer.write(b"\x16\x03\x01\x02\x00\x01")
        assert await silent.ended() == b""
        assert await half.ended() == b""


async def test_two_thousand_silent_connections_lock_nobody_out(plane, served, connect, stock):
    object_id, data = stock(100)
    raise_descriptor_limit()
    loop = asyncio.get_running_loop()
    async with served(plane) as url, contextlib.AsyncExitStack() as stack, asyncio.timeout(120):
        host, port = url.removeprefix("https://").split(":")
        for _ in range(2000):
            silent = stack.enter_context(socket.socket())
            silent.setblocking(False)
            await loop.sock_connect(silent, (host, int(port)))
        for _ in range(50):
            await connect(url)  # silent after the handshake
        one = await connect(url)
        one.say(get(object_id))
        assert (await one.answer())[2] == data


async def test_a_body_that_drips_has_a_deadline(plane, served, connect, monkeypatch):
    monkeypatch.setattr("entrepot.web.asgi.BODY_SECONDS", 0.3)
    monkeypatch.setattr("entrepot.web.asgi.BODY_RATE", 10**9)
    async with served(plane) as url, asyncio.timeout(60):
        connection = await connect(url)
        connection.say(
            "POST /objects/missing HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer site\r\nContent-Length: 3200\r\n\r\nab"
        )
        status, headers, body = await connection.answer()
    assert (status, headers["content-type"]) == (503, "application/problem+json")
    assert "did not arrive in time" in json.loads(body)["detail"]
    assert int(headers["retry-after"]) > 0


@pytest.mark.parametrize("size", [MIB, 5 * MIB, 32 * MIB])
async def test_a_client_that_takes_less_than_the_minimum_rate_is_cut_off(
    plane, served, connect, stock, records, size, monkeypatch
):
    """In the middle of a download, and when all of it, or its end, was handed over: the kernel knows what was taken."""
    monkeypatch.setattr("entrepot.web.downloads.MINIMUM_WAIT", 0.3)
    plane.downloads.minimum_rate = 64 * MIB
    plane.downloads._seconds = 0.05
    object_id, _ = stock(size)
    async with served(plane) as url, asyncio.timeout(60):
        connection, other = await connect(url, buffer=RECEIVE), await connect(url)
        connection.say(get(object_id))
        assert (await connection.head())[0] == 200
        connection.writer.transport.pause_reading()
        while not records or not plane.downloads.cuts:
            other.say(get(object_id, "Range: bytes=0-9"))
            assert (await other.answer())[0] == 206, "whoever takes what he gets stays"
            await asyncio.sleep(0.05)
        connection.writer.transport.resume_reading()
        assert len(await connection.ended()) < size
        assert plane.downloads.cuts == 1


CUTS = {
    "device": lambda plane: plane.cut({"dev-good"}),
    "token": lambda plane: plane.cut(set(), {"jti-good"}),
    "everyone": lambda plane: plane.cut_all(),
}


@pytest.mark.parametrize(
    ("size", "order"),
    [(MIB, "device"), (MOST_WHOLE, "token"), (MOST_WHOLE, "everyone"), (5 * MIB, "device"), (5 * MIB, "everyone")],
)
@pytest.mark.parametrize("known", [False, True])
async def test_a_cut_leaves_a_slow_client_no_more_than_what_lies_in_the_system(
    plane, served, connect, stock, size, order, known
):
    """Also where all that he asked for was handed over in one message already."""
    object_id, data = stock(size)
    loop, ended, end_connections = asyncio.get_running_loop(), asyncio.Event(), plane.downloads._end_connections

    def ending(peers) -> int:
        found = end_connections(peers)
        loop.call_soon_threadsafe(ended.set)
        return found

    plane.downloads._end_connections = ending
    async with served(plane) as url, asyncio.timeout(60):
        slow = await connect(url, buffer=RECEIVE)
        if known:  # then small ones are answered at once
            slow.say(get(object_id))
            assert (await slow.answer())[2] == data
        slow.say(get(object_id))
        assert (await slow.head())[0] == 200
        got = len(await slow.some(100_000))
        assert CUTS[order](plane) <= 1
        await ended.wait()
        assert len(await slow.ended()) <= 2 * SEND_BUFFER + IN_THE_CLIENT < size - got
        assert plane.downloads.cuts <= 1, "once, unless the system held nothing at that moment"


async def test_a_cut_of_one_device_leaves_what_others_were_handed(plane, served, connect, stock):
    object_id, data = stock(MIB)
    async with served(plane) as url, asyncio.timeout(60):
        slow = await connect(url, buffer=RECEIVE)
        slow.say(get(object_id))
        await slow.head()
        assert plane.cut({"dev-other"}, {"jti-other"}) == 0
        assert await slow.some(MIB) == data


@pytest.mark.parametrize("size", [MIB, MOST_WHOLE, 32 * MIB])
async def test_what_is_recorded_of_an_aborted_download_is_at_most_so_much_more_than_came(
    plane, served, connect, stock, records, size
):
    """docs/formats/transaction-record.md states the bound: what is on its way in the server and in the kernel."""
    object_id, _ = stock(size)
    async with served(plane) as url, asyncio.timeout(60):
        connection = await connect(url, buffer=RECEIVE)
        connection.say(get(object_id))
        await connection.head()
        got = len(await connection.some(200_000))
        connection.writer.transport.pause_reading()
        await asyncio.sleep(0.5)  # whatever can be handed over meanwhile is
        connection.writer.transport.abort()
        while not records:  # noqa: ASYNC110  # the server's own task ends it
            await asyncio.sleep(0.01)
    [record] = records
    excess = record.sent - got
    assert 0 <= excess <= MOST_WHOLE + 2 * SEND_BUFFER + IN_THE_CLIENT


async def test_a_connection_serves_many_requests_and_survives_refusals(plane, served, connect, stock):
    object_id, data = stock(1000)
    async with served(plane) as url:
        connection = await connect(url)
        for more, status in (
            (("Range: bytes=0-9",), 206),
            (("Range: bytes=1000-",), 416),
            ((f'If-None-Match: "{object_id.hex()}"',), 304),
            (("Range: bytes=5-6", 'If-Range: "other"'), 200),
            (("Range: bytes=5-6", f'If-Range: "{object_id.hex()}"'), 206),
            ((), 200),
        ):
            connection.say(get(object_id, *more))
            found = await connection.answer()
            assert found[0] == status, more
        assert found[2] == data
        connection.say(get(object_id, method="HEAD"))
        status, headers = await connection.head()
        assert (status, headers["content-length"], headers["accept-ranges"]) == (200, "1000", "bytes")
        connection.say(get(object_id) + get(object_id, "Connection: close"))  # sent ahead
        assert (await connection.answer())[2] == data
        assert (await connection.answer())[2] == data
        assert await connection.ended() == b""


async def test_every_refusal_is_a_problem_document(plane, served, connect, stock, keyring):
    object_id, _ = stock(10)
    keyring.revoked.add("other")
    plane.downloads.most = 0
    async with served(plane) as url:
        connection = await connect(url)
        asked = (
            ("GET", "", "", 401),
            ("GET", "", "Authorization: Basic abc", 401),
            ("GET", "", "Authorization: Bearer good\r\nAuthorization: Bearer good", 401),
            ("GET", "", "Authorization: Bearer other", 403),
            ("GET", "", "Authorization: Bearer good", 503),
            ("GET", "/x", "Authorization: Bearer good", 400),
            ("PATCH", "", "Authorization: Bearer good", 405),
            ("BREW", "", "", 405),
        )
        for method, path, header, wanted in asked:
            name = object_id.hex() + path
            connection.say(f"{method} /objects/{name} HTTP/1.1\r\nHost: x\r\n{header or 'X-No: token'}\r\n\r\n")
            status, headers, body = await connection.answer()
            problem = json.loads(body)
            assert (status, problem["status"], headers["content-type"]) == (wanted, wanted, "application/problem+json")
            assert problem["code"]
            assert ("retry-after" in headers) is (wanted in (429, 503))
            assert ("www-authenticate" in headers) is (wanted == 401)
            assert ("allow" in headers) is (wanted == 405)


@pytest.mark.parametrize(
    ("bearer", "more", "wanted"), [("bare", "X-No: range", 404), ("good", "Range: bytes=10-", 416)]
)
async def test_what_is_not_there_is_a_problem_document_too(plane, served, connect, stock, bearer, more, wanted):
    object_id, _ = stock(10)
    async with served(plane) as url:
        connection = await connect(url)
        connection.say(get(object_id, more).replace("Bearer good", f"Bearer {bearer}"))
        status, headers, body = await connection.answer()
    assert (status, json.loads(body)["status"], headers["content-type"]) == (wanted, wanted, "application/problem+json")
    assert headers.get("content-range") == ("bytes */10" if wanted == 416 else None)


async def test_a_head_that_is_too_large_is_refused_at_once(plane, served, connect):
    async with served(plane) as url, asyncio.timeout(60):
        for filler in ("x" * MAX_BUFFER, "\r\n".join(f"X-{number}: y" for number in range(500))):
            connection = await connect(url)
            connection.say(f"GET / HTTP/1.1\r\nHost: x\r\nX-Large: {filler}\r\n\r\n")
            assert (await connection.head())[0] == 431
            await connection.ended()


@pytest.mark.parametrize(
    "request_",
    [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: x\r\n : y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        "\x16\x03\x01 not a request\r\n\r\n",
    ],
)
async def test_what_is_no_request_of_http_1_is_refused_and_the_connection_ends(plane, served, connect, request_):
    async with served(plane) as url, asyncio.timeout(60):
        connection = await connect(url)
        connection.say(request_)
        answer = await connection.ended()
        assert not answer or answer.startswith(b"HTTP/1.1 4")
