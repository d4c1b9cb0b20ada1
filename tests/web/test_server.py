"""The embedded server as a process: ready, drained, renewed, and never left behind."""

import asyncio
import contextlib
import errno
import json
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from entrepot.core.errors import BadInputError, ConflictError, EntrepotError
from entrepot.web.asgi import send_response
from entrepot.web.embedded import check_tls
from entrepot.web.http import HttpClient
from entrepot.web.server import TlsFiles, listener_url, open_listener, serve

PROGRAM = textwrap.dedent(
    """
    import asyncio, signal, sys
    from pathlib import Path
    from entrepot.web.server import *
    from entrepot.web.server import TlsFiles

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if scope["path"] == "/fail":
            raise ValueError("secret of the server")
        told = asyncio.Event()
        if scope["path"] == "/until-told":
            asyncio.get_running_loop().add_signal_handler(signal.SIGRTMIN, told.set)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"01234", "more_body": True})
        if scope["path"] == "/slow":
            await asyncio.sleep(float(sys.argv[2]))
        if scope["path"] == "/until-told":
            await told.wait()
        await send({"type": "http.response.body", "body": b"56789"})

    listener = open_listener("127.0.0.1", 0)
    folder = Path(sys.argv[1])
    tls = TlsFiles(cert=folder / "tls.crt", key=folder / "tls.key")
    run_process(serve(app, listener=listener, tls=tls, drain_seconds=float(sys.argv[3]),
                      ready=lambda: announce_ready("test", listener_url(listener))))
    """
)


class Process:
    """A server process of our own, ended by its id."""

    def __init__(self, *arguments: str, program: str = PROGRAM) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    async def ready(self) -> str:
        line = await asyncio.to_thread(self._process.stdout.readline)
        announced = json.loads(line)
        assert announced["ready"] is True
        return announced["url"]

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def end(self) -> tuple[int, str, str]:
        out, err = await asyncio.to_thread(self._process.communicate, None, 60)
        return self._process.returncode, out, err

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(tls):
    made = []

    def starting(slow: float = 0.0, drain: float = 5.0) -> Process:
        made.append(Process(str(tls.cert.parent), str(slow), str(drain)))
        return made[-1]

    yield starting
    for process in made:
        process.kill()


@pytest.mark.process
async def test_a_stopped_process_finishes_running_requests_and_leaves_quietly(start, http):
    process = start(slow=1.0)
    url = await process.ready()
    asking = asyncio.create_task(http.request("GET", f"{url}/slow"))
    await asyncio.sleep(0.3)
    process.signal(signal.SIGTERM)
    assert (await asking).body == b"0123456789"
    assert await process.end() == (0, "", "")


@pytest.mark.process
async def test_a_drain_has_a_deadline_and_what_is_broken_off_does_not_look_whole(start, http):
    process = start(slow=3600, drain=0.2)
    url = await process.ready()
    asking = asyncio.create_task(http.request("GET", f"{url}/slow"))
    await asyncio.sleep(0.3)
    process.signal(signal.SIGINT)
    with pytest.raises(EntrepotError):
        await asking
    assert (await process.end())[0] == 0


async def serial(site, url: str) -> str:
    """Of the certificate that is shown."""
    host, port = url.removeprefix("https://").split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=site.authority.pem())
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return found


async def swap(process: Process, site, tls, url: str) -> None:
    """Have the certificate swapped, and wait until the new one is shown."""
    before = await serial(site, url)
    site.tls_files(tls.cert.parent)
    process.signal(signal.SIGHUP)
    while await serial(site, url) == before:  # noqa: ASYNC110  # another process swaps it
        await asyncio.sleep(0.05)


async def refused(url: str) -> None:
    """Wait until the server accepts no more: it ends."""
    host, port = url.removeprefix("https://").split(":")
    with contextlib.suppress(ConnectionError):
        while True:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await asyncio.sleep(0.05)


@pytest.mark.process
async def test_an_end_waits_for_requests_that_began_under_an_older_certificate(start, site, tls):
    process = start(drain=60.0)
    url = await process.ready()
    async with HttpClient(site.tls_trust) as http, http.stream("GET", f"{url}/until-told") as begun:
        await swap(process, site, tls, url)
        process.signal(signal.SIGTERM)
        await refused(url)
        await asyncio.sleep(0.3)  # so that an end that did not wait would have broken it off
        process.signal(signal.SIGRTMIN)
        assert await begun.content.read() == b"0123456789"
    assert (await process.end())[0] == 0


@pytest.mark.process
async def test_a_certificate_is_swapped_without_a_failed_request(start, site, tls):
    process = start(slow=1.0)
    url = await process.ready()
    async with HttpClient(site.tls_trust) as http:
        running = asyncio.create_task(http.request("GET", f"{url}/slow"))
        await asyncio.sleep(0.3)
        await swap(process, site, tls, url)
        assert (await running).body == b"0123456789"
        tls.cert.write_text("no certificate")
        process.signal(signal.SIGHUP)
        await asyncio.sleep(0.3)
        assert (await http.request("GET", url)).status == 200
    process.signal(signal.SIGTERM)
    code, _, err = await process.end()
    assert code == 0
    assert [json.loads(line)["event"] for line in err.splitlines()] == [
        "certificate_swapped",
        "certificate_not_swapped",
    ]


@pytest.mark.process
async def test_a_failing_application_tells_its_log_and_not_its_caller(start, http):
    process = start()
    url = await process.ready()
    answer = await http.request("GET", f"{url}/fail", accept=(500,))
    assert answer.status == 500
    assert b"secret" not in answer.body
    process.signal(signal.SIGTERM)
    _, _, err = await process.end()
    [line] = [json.loads(line) for line in err.splitlines()]
    assert (line["event"], line["path"], line["level"]) == ("request_failed", "/fail", "error")
    frames = [frame for error in line["exception"] for frame in error["frames"]]
    assert frames
    assert not any(frame.get("locals") for frame in frames)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
async def test_a_child_dies_with_its_parent_even_by_sigkill():
    program = textwrap.dedent(
        """
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", f'''
        import os, time
        from entrepot.web.process import die_with_parent
        die_with_parent({os.getpid()})
        print(os.getpid(), flush=True)
        time.sleep(600)
        '''.replace("\\n        ", "\\n")])
        time.sleep(600)
        """
    )
    parent = Process(program=program)
    child = int(await asyncio.to_thread(parent._process.stdout.readline))
    assert alive(child)
    parent.kill()
    for _ in range(1000):
        if not alive(child):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the child outlived its parent")


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_taken_port_is_a_conflict_unless_it_is_shared_on_purpose():
    with open_listener("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConflictError, match=str(port)):
            open_listener("127.0.0.1", port)
    with (
        open_listener("127.0.0.1", 0, shared=True) as first,
        open_listener("127.0.0.1", first.getsockname()[1], shared=True) as second,
    ):
        assert first.getsockname() == second.getsockname()
    with pytest.raises((BadInputError, ConflictError)):
        open_listener("192.0.2.1", 0)


def test_who_may_not_open_a_port_is_told_what_lets_him(monkeypatch):
    class Forbidding(socket.socket):
        def bind(self, address):
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Forbidding)
    with pytest.raises(ConflictError, match=r"Cannot listen on 127\.0\.0\.1:443: Permission denied") as caught:
        open_listener("127.0.0.1", 443)
    assert "CAP_NET_BIND_SERVICE" in caught.value.next_step


def test_who_finds_a_port_taken_is_told_by_whom_and_where_to_choose_another():
    with open_listener("127.0.0.1", 0) as taken, pytest.raises(ConflictError) as caught:
        open_listener("127.0.0.1", taken.getsockname()[1])
    assert "ss -ltnp" in caught.value.next_step
    assert "`listen` in the settings" in caught.value.next_step


def test_the_end_of_an_answer_does_not_wait_for_an_acknowledgement():
    with open_listener("127.0.0.1", 0) as listener:
        listener.settimeout(30)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_url_names_the_port_that_was_found():
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert listener_url(listener) == f"https://127.0.0.1:{port}"
        assert listener_url(listener, "::1") == f"https://[::1]:{port}"


def test_keys_that_others_may_read_or_that_are_encrypted_or_foreign_are_refused(site, tls, tmp_path):
    check_tls(tls)
    with pytest.raises(BadInputError, match="cannot be used"):
        check_tls(TlsFiles(cert=site.tls_files(tmp_path / "other").cert, key=tls.key))
    with pytest.raises(BadInputError, match="cannot be used"):
        check_tls(TlsFiles(cert=tmp_path / "nothing", key=tls.key))
    tls.key.chmod(0o640)
    with pytest.raises(BadInputError, match="read by others"):
        check_tls(tls)
    tls.key.chmod(0o600)
    tls.key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(BadInputError, match="encrypted"):
        check_tls(tls)


async def test_an_application_that_cannot_start_is_not_served(tls):
    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    listener = open_listener("127.0.0.1", 0)
    with pytest.raises(EntrepotError, match="no database"):
        await serve(app, listener=listener, tls=tls, stop=asyncio.Event())
    listener.close()


async def test_start_up_and_shutdown_bracket_the_serving(tls, http):
    told = []

    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            told.append("request")
            return await send_response(send, 204)
        for _ in range(2):
            message = await receive()
            told.append(message["type"])
            await send({"type": message["type"] + ".complete"})
        return None

    listener = open_listener("127.0.0.1", 0)
    url, stop = listener_url(listener), asyncio.Event()
    serving = asyncio.create_task(serve(app, listener=listener, tls=tls, stop=stop))
    await http.request("GET", url)
    stop.set()
    await serving
    assert told == ["lifespan.startup", "request", "lifespan.shutdown"]
    with pytest.raises(EntrepotError, match="refuses"):
        await http.request("GET", url)


async def test_long_work_in_threads_keeps_no_request_waiting(tls, http):
    """Publishing, validation and the like sit in worker threads for hours; asyncio's default has a handful."""
    done = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": (await receive())["type"] + ".complete"})
            return None
        await asyncio.to_thread(lambda: None)
        return await send_response(send, 204)

    listener = open_listener("127.0.0.1", 0)
    url, stop = listener_url(listener), asyncio.Event()
    serving = asyncio.create_task(serve(app, listener=listener, tls=tls, stop=stop))
    await http.request("GET", url)
    long_work = [asyncio.create_task(asyncio.to_thread(done.wait, 60)) for _ in range(40)]
    try:
        assert (await http.request("GET", url)).status == 204
        assert not any(work.done() for work in long_work)
    finally:
        done.set()
        await asyncio.gather(*long_work)
        stop.set()
        await serving


BUFFERS = textwrap.dedent(
    """
    import resource
    from entrepot.web.process import keep_freed_memory

    keep_freed_memory()
    for number in range(40):
        if number == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = [bytearray(2**20) for _ in range(4)]
        del held
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="the C library of other systems has no such setting")
def test_memory_of_responses_is_taken_again_without_asking_the_system_for_its_pages():
    done = subprocess.run([sys.executable, "-c", BUFFERS], capture_output=True, text=True, check=True)
    pages = 40 * 4 * 2**20 // 4096
    assert int(done.stdout) < pages // 20


SCATTERED = textwrap.dedent(
    """
    import os
    from pathlib import Path
    from entrepot.web.process import give_back_memory, keep_freed_memory

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    keep_freed_memory(one_heap=True)
    large, small = [], []
    for number in range(60):
        large.append(bytearray(b"x") * 2**20)
        small.append(bytearray(b"y") * 4096)  # lives on behind it
    del large
    before = resident()
    give_back_memory()
    print(before - resident())
    """
)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="the C library of other systems has no such call")
def test_memory_between_blocks_that_live_on_is_given_back_when_asked():
    done = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40 * 2**20


HANDED_ON = textwrap.dedent(
    """
    import resource
    import threading
    from entrepot.web.process import keep_freed_memory

    keep_freed_memory(one_heap=True)
    used, over = [], threading.Event()

    def use(freed):
        held = [bytearray(2**20) for _ in range(16)]
        del held
        used.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        freed.set()
        over.wait(60)  # or the next thread would take its heap over

    for _ in range(5):
        freed = threading.Event()
        threading.Thread(target=use, args=(freed,)).start()
        freed.wait()
    over.set()
    print(used[-1] - used[0])
    """
)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="the C library of other systems has no such setting")
def test_what_one_thread_has_freed_another_takes_where_they_share_a_heap():
    done = subprocess.run([sys.executable, "-c", HANDED_ON], capture_output=True, text=True, check=True)
    pages = 4 * 16 * 2**20 // 4096
    assert int(done.stdout) < pages // 4
