"""Ports to keep are none that the kernel gives out by itself."""

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from entrepot.web import ports
from entrepot.web.ports import KERNEL, USUAL, lasting_port, lasting_ports

from ..conftest import share_of_ports


@pytest.fixture(autouse=True)
def all_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a server: the tests' own workers have a share each."""
    monkeypatch.setattr(ports, "USUAL", USUAL)


@pytest.mark.skipif(not KERNEL.exists(), reason="reads Linux's range")
def test_no_outgoing_connection_gets_a_port_to_keep() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as outgoing:
        assert server.getsockname()[1] not in lasting_ports()
        assert outgoing.getsockname()[1] not in lasting_ports()


@pytest.mark.parametrize(
    ("given", "first", "last"),
    [
        ("32768\t60999\n", 16_384, 32_767),
        ("20000\t60999\n", 16_384, 19_999),
        ("16384\t30000\n", 30_001, 32_767),
        ("1024\t60999\n", 61_000, 65_535),
        ("10000\t65535\n", 1_024, 9_999),
    ],
)
def test_ports_to_keep_lie_outside_those_that_the_kernel_gives_out(
    tmp_path: Path, given: str, first: int, last: int
) -> None:
    kernel = tmp_path / "range"
    kernel.write_text(given)
    assert list(lasting_ports(kernel)) == list(range(first, last + 1))


def test_there_is_none_where_the_kernel_gives_out_all(tmp_path: Path) -> None:
    kernel = tmp_path / "range"
    kernel.write_text("1024\t65535\n")
    assert not lasting_ports(kernel)


def test_where_no_kernel_tells_the_usual_ones_are_taken(tmp_path: Path) -> None:
    assert lasting_ports(tmp_path / "none") == USUAL


def test_a_port_to_keep_is_free_and_is_another_each_time() -> None:
    found = {lasting_port("127.0.0.1") for _ in range(20)}
    assert len(found) > 1
    for port in found:
        assert port in lasting_ports()
        socket.create_server(("127.0.0.1", port)).close()


def test_a_port_that_is_forbidden_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden: list[int] = []

    class Guarded(socket.socket):
        """The system's rules forbid the first port that is asked for."""

        def bind(self, address: Any) -> None:
            if not forbidden:
                forbidden.append(address[1])
                raise PermissionError(errno.EACCES, "Permission denied")
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Guarded)
    assert lasting_port("127.0.0.1") != 0
    assert forbidden


def test_there_is_none_at_an_address_of_another_machine() -> None:
    assert lasting_port("192.0.2.1") == 0


def test_where_only_some_may_be_taken_it_is_one_of_those_and_a_free_one() -> None:
    low, high = (range(first, first + 3) for first in (lasting_ports()[0], 50_000))
    assert {lasting_port("127.0.0.1", (low, high)) for _ in range(20)} <= set(low), "it lasts, unlike the others"
    wanted = lasting_port("127.0.0.1")
    only = (range(wanted, wanted + 1),)
    assert lasting_port("127.0.0.1", only) == wanted
    with socket.create_server(("127.0.0.1", wanted)):
        assert lasting_port("127.0.0.1", only) == 0
        assert lasting_port("127.0.0.1", (*only, range(50_000, 50_500))) in range(50_000, 50_500)


@pytest.mark.parametrize("workers", [1, 3, 4])
def test_no_two_workers_of_the_tests_take_the_same_port(workers: int) -> None:
    names = [{"PYTEST_XDIST_WORKER": f"gw{each}", "PYTEST_XDIST_WORKER_COUNT": str(workers)} for each in range(workers)]
    taken = [port for name in names for port in share_of_ports(name)]
    assert sorted(taken) == list(USUAL)
    assert share_of_ports({}) == USUAL
    started_again = {"PYTEST_XDIST_WORKER": f"gw{workers}", "PYTEST_XDIST_WORKER_COUNT": str(workers)}
    assert share_of_ports(started_again) == share_of_ports(names[0]), "in place of one that ended"
