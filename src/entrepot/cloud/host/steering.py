"""Which of several listeners on one port gets the next connection (Linux, SO_REUSEPORT).

Without a say the kernel spreads connections evenly over all listeners of a port, also to one whose process is gone or
about to leave. A classic BPF program on the group names the ones that may be chosen (socket(7),
SO_ATTACH_REUSEPORT_CBPF): a random one of those. Listeners count in the order in which they began to listen.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Final

_ATTACH: Final = 51  # SO_ATTACH_REUSEPORT_CBPF, asm-generic/socket.h
_LOAD_RANDOM: Final = (0x20, 0, 0, 0xFFFFF000 + 56)  # A = random (SKF_AD_OFF + SKF_AD_RANDOM, linux/filter.h)
_MODULO: Final = 0x94
_SKIP_UNLESS: Final = 0x15
_ANSWER: Final = 0x06


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def program(chosen: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Instructions (code, jump if true, jump if false, constant) that answer one of these numbers at random."""
    assert chosen
    steps: list[tuple[int, int, int, int]] = [_LOAD_RANDOM, (_MODULO, 0, 0, len(chosen))]
    for position, number in enumerate(chosen[:-1]):
        steps += [(_SKIP_UNLESS, 0, 1, position), (_ANSWER, 0, 0, number)]
    return [*steps, (_ANSWER, 0, 0, chosen[-1])]


def steer(member: socket.socket, chosen: Sequence[int]) -> bool:
    """Let only these listeners of a group get new connections.

    Args:
        member: any listener of the group.
        chosen: their numbers in the order of listening, not empty.

    Returns:
        False where the kernel does not offer it; then nothing has changed.
    """
    code = b"".join(struct.pack("=HBBI", *step) for step in program(chosen))
    buffer = ctypes.create_string_buffer(code, len(code))
    asked = _Program(len(code) // 8, ctypes.addressof(buffer))
    try:
        member.setsockopt(socket.SOL_SOCKET, _ATTACH, bytes(asked))
    except OSError:
        return False
    return True
