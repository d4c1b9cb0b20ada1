"""Takes a server's ability to open connections, by the kernel: for roles that must only ever be connected to (R7).

Python imports a module of this name at its start when the folder is in ``PYTHONPATH``. A process whose command line
has the words of ``NO_WAY_OUT`` gets a seccomp filter, and so does whatever it starts: a call of ``connect`` kills the
process that makes it, whichever library makes it. Accepting connections is as before.
"""

import ctypes
import os
import platform
import struct
import sys

# Architecture as seccomp names it, and the number of the call.
CONNECT = {"x86_64": (0xC000003E, 42), "aarch64": (0xC00000B7, 203)}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 22, 38, 2


class Program(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forbid_connections() -> None:
    """Let the kernel kill this process, and those it starts, when it opens a connection.

    Raises:
        OSError: the kernel refuses the filter.
    """
    architecture, connect = CONNECT[platform.machine()]
    instructions = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (LOAD, 0, 0, 4),  # the architecture: a call of another one is none that we know
            (JUMP_IF_EQUAL, 0, 3, architecture),
            (LOAD, 0, 0, 0),  # the number of the call
            (JUMP_IF_EQUAL, 0, 1, connect),
            (RETURN, 0, 0, KILL_PROCESS),
            (RETURN, 0, 0, ALLOW),
        )
    )
    program = Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "The kernel takes no filter.")


if "NO_WAY_OUT" in os.environ and set(os.environ["NO_WAY_OUT"].split()) <= set(sys.orig_argv):
    forbid_connections()
