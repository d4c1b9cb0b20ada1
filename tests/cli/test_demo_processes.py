"""Children of the demonstration end with it, however it ends; the slow line is slow, and honest about its bytes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from entrepot.cli.demo.processes import Server, Servers, StepFailedError, run_command
from entrepot.cli.demo.slowline import SlowLine
from entrepot.core.errors import UnavailableError

pytestmark = pytest.mark.process

PARENT = """
import os, sys, time
from pathlib import Path
from entrepot.cli.demo.processes import Servers
folder = Path(sys.argv[1])
with Servers(folder, dict(os.environ)) as servers:
    server = servers.launch("host", "host", "serve", "--home", str(folder / "home"))
    server.await_ready()
    print(server.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def environment() -> dict[str, str]:
    return dict(os.environ)


@pytest.fixture
def host(tmp_path: Path, environment: dict[str, str]) -> Path:
    home = tmp_path / "home"
    log = tmp_path / "commands.log"
    run_command(["host", "init", "--home", str(home), "--listen", "127.0.0.1:0"], environment=environment, log=log)
    return home


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_servers_start_and_end_together(host: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    with Servers(tmp_path, environment) as servers:
        server = servers.launch("host", "host", "serve", "--home", str(host))
        assert server.await_ready() == server.url
        pid = server.pid
        assert server.url.startswith("https://127.0.0.1:")
        assert alive(pid)
    assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_die_with_their_parent(host: Path, tmp_path: Path, environment, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if not alive(child):
            break
        time.sleep(0.05)
    assert not alive(child)


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path, environment: dict[str, str]) -> None:
    server = Server("host", ["host", "serve", "--home", str(tmp_path)], log=tmp_path / "x.log", environment=environment)
    server.launch()
    with pytest.raises(UnavailableError, match="not a cloud host's home") as failure:
        server.await_ready()
    server.end()
    assert str(tmp_path / "x.log") in failure.value.next_step


def test_a_failing_command_is_reported_with_its_own_words(tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(StepFailedError, match="not a cloud host"):
        run_command(["host", "status", "--home", str(tmp_path)], environment=environment, log=tmp_path / "commands.log")
    assert "host status" in (tmp_path / "commands.log").read_text()


def test_the_slow_line_passes_everything_on_and_counts_it() -> None:
    data = os.urandom(300_000)
    with socket.create_server(("127.0.0.1", 0)) as far:
        port = far.getsockname()[1]

        def answer() -> None:
            connection, _ = far.accept()
            with connection:
                assert connection.recv(5) == b"hello"
                connection.sendall(data)

        server = threading.Thread(target=answer)
        server.start()
        with SlowLine("127.0.0.2", port, to=("127.0.0.1", port), rate=0) as line:
            with socket.create_connection(("127.0.0.2", port)) as near:
                near.sendall(b"hello")
                received = b""
                while piece := near.recv(65536):
                    received += piece
            assert received == data
            assert line.passed == len(data)
            assert line.last_byte > 0
        server.join()


def test_the_slow_line_is_as_slow_as_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as far:
        port = far.getsockname()[1]
        with SlowLine("127.0.0.2", port, to=("127.0.0.1", port), rate=10_000) as line:
            near = socket.create_connection(("127.0.0.2", port))
            connection, _ = far.accept()
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.sendall(b"x" * 50_000_000)
            assert line.passed < 100_000
            near.close()
            connection.close()
