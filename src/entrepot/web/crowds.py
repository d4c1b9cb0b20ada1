"""How many connections one address may hold: the server accepts them before any code of ours is asked.

So they are looked at from time to time, and what an address has beyond its share is reset, the most silent first: those
that neither sent nor were sent anything for longest. A download that runs, or a request that just came, is the last to
go. Linux only, as ``stalled``; elsewhere nothing is reset.
"""

import asyncio
import contextlib
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import structlog

from entrepot.web.addresses import network_of
from entrepot.web.descriptors import held, open_descriptors, reset
from entrepot.web.process import most_descriptors

LOOK_SECONDS = 2.0
_SILENCE: Final = struct.Struct("=44xI4xI")
"""Of ``struct tcp_info``: milliseconds since data was last sent, and last received."""
_log = structlog.get_logger("entrepot.web")


async def keep_bounded(port: int, most: Callable[[], int]) -> None:
    """Look again and again, until cancelled. A look that fails is told once, and is not the last.

    Args:
        port: where the server listens.
        most: connections that one address may hold now; 0: any number.
    """
    failing = False
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            if (limit := _bearable(most())) and (ended := await asyncio.to_thread(end_excess, port, limit)):
                _log.warning("connections_of_one_address_ended", ended=ended, limit=limit)
            failing = False
        except Exception:  # noqa: BLE001  # whatever it is: it must not leave addresses without a bound for ever
            if not failing:
                _log.exception("connections_not_looked_at")
            failing = True


def _bearable(most: int) -> int:
    """At most half of what this process may have open: others' connections, its files and these looks need the rest."""
    allowed = most_descriptors()
    return min(most, max(1, allowed // 2)) if allowed else most


def end_excess(port: int, most: int) -> int:
    """Reset what addresses hold beyond ``most`` connections to this port. Call it in a thread.

    Returns:
        how many were reset.
    """
    if sys.platform != "linux":
        return 0
    descriptors = open_descriptors()
    if len(descriptors) <= most:
        return 0
    share: defaultdict[str, list[int]] = defaultdict(list)
    for descriptor in descriptors:
        if address := _holder_of(descriptor, port):
            share[address].append(descriptor)
    return sum(_end_most_silent(each, len(each) - most, address, port) for address, each in share.items())


def _end_most_silent(descriptors: list[int], count: int, address: str, port: int) -> int:
    if count <= 0:
        return 0
    descriptors.sort(key=_silent_for, reverse=True)
    return sum(_end(descriptor, address, port) for descriptor in descriptors[:count])


def _holder_of(descriptor: int, port: int) -> str:
    """The address that holds this connection to the port; empty if it is no such connection (any more)."""
    with contextlib.suppress(OSError), held(descriptor) as connection:
        return _holder(connection, port)
    return ""


def _holder(connection: socket.socket, port: int) -> str:
    if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] == port:
        return network_of(connection.getpeername()[0])
    return ""


def _silent_for(descriptor: int) -> int:
    """Milliseconds since anything came from there or went there."""
    with contextlib.suppress(OSError), held(descriptor) as connection:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SILENCE.size)
        sent, received = _SILENCE.unpack(told)
        return int(min(sent, received))
    return 0


def _end(descriptor: int, address: str, port: int) -> bool:
    """The number may stand for another connection by now: only one of the same address is ended."""
    with contextlib.suppress(OSError), held(descriptor) as connection:
        return _holder(connection, port) == address and reset(connection)
    return False
