"""What a host and its gateway instances say to each other while they run: lines over two pipes.

Host to instance, on its standard input: ``control`` (read the control document now), ``stop`` (cut all clients off and
end). The end of the pipe means that the host is gone or wants no more: drain and end. Instance to host, on its standard
output: the readiness line of ``web.server``, then a :class:`Heartbeat` a second, as JSON.
"""

import contextlib
import json
from enum import StrEnum
from typing import Final

import msgspec

from entrepot.core.encoding import to_json

HEARTBEAT_SECONDS: Final = 1.0
MAX_LINE: Final = 4096


class Order(StrEnum):
    """A line from the host."""

    CONTROL = "control"
    STOP = "stop"


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """``beat`` milliseconds since 1970; ``control`` counter of the control document that is obeyed (0: none);
    ``epoch`` of that document, ``trust`` the number of the trust document that is obeyed;
    ``active`` downloads running; ``sent`` bytes handed over and ``cpu`` seconds of processor time since the start;
    ``healthy``: records can be kept."""

    beat: int
    control: int
    active: int
    sent: int
    healthy: bool = True
    epoch: int = 0
    trust: int = 0
    cpu: float = 0.0


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """One line."""
    return to_json(beat) + b"\n"


def is_ready_line(line: bytes) -> bool:
    """Tell whether this is the readiness line."""
    with contextlib.suppress(ValueError):
        told = json.loads(line)
        return isinstance(told, dict) and told.get("ready") is True
    return False


def parse_heartbeat(line: bytes) -> Heartbeat | None:
    """A heartbeat; None for any other line."""
    try:
        return msgspec.json.decode(line, type=Heartbeat)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
