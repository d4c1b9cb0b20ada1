"""Ports to keep are none that the kernel gives out by itself."""

import socket
from pathlib import Path

import pytest

from entrepot.web.ports import LASTING, lasting_port


@pytest.mark.skipif(not Path("/proc/sys/net/ipv4/ip_local_port_range").exists(), reason="reads Linux's range")
def test_no_outgoing_connection_gets_a_port_to_keep() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as outgoing:
        assert server.getsockname()[1] not in LASTING
        assert outgoing.getsockname()[1] not in LASTING


def test_a_port_to_keep_is_free_and_is_another_each_time() -> None:
    ports = {lasting_port("127.0.0.1") for _ in range(20)}
    assert len(ports) > 1
    for port in ports:
        assert port in LASTING
        socket.create_server(("127.0.0.1", port)).close()


def test_there_is_none_at_an_address_of_another_machine() -> None:
    assert lasting_port("192.0.2.1") == 0
