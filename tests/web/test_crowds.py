"""Connections of one address: what is beyond its share is reset, and whoever is busy stays."""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from entrepot.core.sizes import MIB
from entrepot.protocol.control import AddressLimits, GatewaySettings
from entrepot.web.crowds import end_excess, keep_bounded
from entrepot.web.descriptors import BOUND, held, open_descriptors

from .exhaustion import descriptors_left

ASK = "GET /objects/{} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\n\r\n"


class Held:
    """A connection that somebody holds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, object_id) -> bytes:
        """Ask for an object; its bytes."""
        self.writer.write(ASK.format(object_id.hex()).encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await self.reader.readexactly(size)

    async def ended(self) -> None:
        """Wait until the server has closed it."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.reader.read()


@pytest.fixture
async def hold(site):
    made = []

    async def holding(url: str) -> Held:
        host, port = url.removeprefix("https://").split(":")
        context = ssl.create_default_context(cadata=site.authority.pem())
        made.append(Held(*await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")))
        return made[-1]

    yield holding
    for one in made:
        one.writer.transport.abort()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture(autouse=True)
def _silent_ones_are_not_closed_for_another_reason(monkeypatch):
    monkeypatch.setattr("entrepot.web.embedded.HEADER_SECONDS", 3600)


async def test_the_most_silent_connections_of_an_address_go_and_the_others_do_not_notice(plane, served, hold, stock):
    object_id, data = stock(MIB)
    async with served(plane) as url, asyncio.timeout(120):
        held = [await hold(url) for _ in range(6)]
        for one in held:
            assert await one.ask(object_id) == data
        await asyncio.sleep(0.1)  # so that the kernel's clock tells the next from those before
        busy = held[1:3]
        for one in busy:
            await one.ask(object_id)
        assert await asyncio.to_thread(end_excess, port_of(url), 2) == 4
        for one in held:
            if one in busy:
                assert await one.ask(object_id) == data
            else:
                await one.ended()


async def test_who_holds_no_more_than_allowed_loses_none(plane, served, hold, stock):
    object_id, data = stock(100)
    async with served(plane) as url, asyncio.timeout(120):
        held = [await hold(url) for _ in range(3)]
        assert await asyncio.to_thread(end_excess, port_of(url), 3) == 0
        assert [await one.ask(object_id) for one in held] == [data] * 3


async def test_connections_to_other_ports_are_nobodys_business(plane, served, hold, stock):
    object_id, data = stock(100)
    async with served(plane) as url, served(plane) as other, asyncio.timeout(120):
        one, another = await hold(url), await hold(other)
        assert await asyncio.to_thread(end_excess, port_of(other), 0) == 1
        assert await one.ask(object_id) == data
        await another.ended()


async def test_a_server_looks_by_itself_as_its_control_document_says(plane, served, hold, monkeypatch):
    monkeypatch.setattr("entrepot.web.crowds.LOOK_SECONDS", 0.01)
    plane.admission.obey(GatewaySettings(addresses=AddressLimits(connections=0)))
    async with served(plane) as url, asyncio.timeout(120):
        held = [await hold(url) for _ in range(5)]
        plane.admission.obey(GatewaySettings(addresses=AddressLimits(connections=2)))
        ends = waiting = {asyncio.create_task(one.ended()) for one in held}
        while len(ends - waiting) < 3:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for end in waiting:
            end.cancel()


async def test_a_look_that_fails_is_told_once_and_is_not_the_last(monkeypatch):
    loop, limits, again = asyncio.get_running_loop(), [], asyncio.Event()

    def look(_port: int, most: int) -> int:
        limits.append(most)
        if len(limits) < 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        loop.call_soon_threadsafe(again.set)
        return 0

    monkeypatch.setattr("entrepot.web.crowds.LOOK_SECONDS", 0.001)
    monkeypatch.setattr("entrepot.web.crowds.end_excess", look)
    monkeypatch.setattr("entrepot.web.crowds.most_descriptors", lambda: 100)
    with structlog.testing.capture_logs() as told:
        looking = asyncio.create_task(keep_bounded(1, lambda: 4096))
        async with asyncio.timeout(120):
            await again.wait()
        looking.cancel()
    assert limits[:3] == [50] * 3, "half of what the process may have open"
    assert [line["event"] for line in told] == ["connections_not_looked_at"]


def test_numbers_are_bounded_also_where_the_system_sets_no_limit(monkeypatch):
    monkeypatch.setattr("entrepot.web.descriptors.most_descriptors", lambda: 0)
    with descriptors_left(0):
        assert len(open_descriptors()) == BOUND


@pytest.mark.parametrize("left", [0, 1, 2])
def test_an_address_that_took_every_descriptor_loses_them_all_the_same(left):
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        clients, accepted = [], []
        for _ in range(12):
            clients.append(opened.enter_context(socket.create_connection(listener.getsockname())))
            accepted.append(opened.enter_context(listener.accept()[0]))
        with descriptors_left(left):
            ended = end_excess(listener.getsockname()[1], 3)
        for one in clients:
            one.settimeout(0)
        open_still = [one for one in clients if still_open(one)]
        assert (ended, len(open_still)) == (9, 3)
        open_still[0].sendall(b"x")
        assert accepted[clients.index(open_still[0])].recv(1) == b"x", "the server still has it"


def still_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_a_number_that_becomes_a_files_meanwhile_costs_no_lock(tmp_path, monkeypatch):
    path, (one, other), duplicate = tmp_path / "database", socket.socketpair(), os.dup
    with one, other, path.open("w") as locked:
        fcntl.lockf(locked, fcntl.LOCK_EX)
        monkeypatch.setattr("entrepot.web.descriptors.os.dup", lambda _: duplicate(locked.fileno()))
        with pytest.raises(OSError, match=os.strerror(errno.ENOTSOCK)), held(one.fileno()):
            pass
        assert locked_for_others(path)


def test_a_look_leaves_the_locks_of_files_alone(tmp_path):
    path = tmp_path / "database"
    with path.open("w") as locked:
        fcntl.lockf(locked, fcntl.LOCK_EX)
        assert end_excess(1, 0) == 0
        assert locked_for_others(path)


def locked_for_others(path: Path) -> bool:
    locking = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    other = subprocess.run([sys.executable, "-c", locking, str(path)], capture_output=True, check=False)
    return b"BlockingIOError" in other.stderr
