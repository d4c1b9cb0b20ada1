"""What a server process asks of its system: descriptors, memory that is kept, an end with its parent."""

import asyncio
import ctypes
import os
import signal
import sys
from typing import Final

from entrepot.core.sizes import MIB

PR_SET_PDEATHSIG: Final = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_MEMORY: Final = 64 * MIB
LARGEST_KEPT: Final = 16 * MIB
"""No buffer of responses or of publishing is larger."""


def raise_descriptor_limit() -> None:
    """Allow as many open files and connections as the system grants without privileges."""
    if sys.platform == "win32":
        return
    import resource  # POSIX only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_descriptors() -> int:
    """How many files and connections this process may have open; 0: any number."""
    if sys.platform == "win32":
        return 0
    import resource  # POSIX only

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft


def keep_freed_memory(*, one_heap: bool = False) -> None:
    """Let the C library keep what it needs again at once: it would return large buffers to the system after every
    response, and half the time of the next one would go into getting their pages back.

    Args:
        one_heap: whether threads that start from now on share one heap. Where buffers go from thread to thread, as in
            publishing, each would keep what others could use: 85 of 300 MiB.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # glibc's
        library.mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        if one_heap:
            library.mallopt(M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Return to the system what the C library keeps between blocks that are in use. It takes some milliseconds, in
    which other threads may wait: call it where work has ended and no other goes on."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):  # glibc's
        library.malloc_trim(0)


def fast_loop() -> asyncio.AbstractEventLoop:
    """An event loop for a process whose main work is to hand objects over: uvloop's, where there is one.

    It takes 8 % less processor time for a small answer. Processes that mostly do something else, and could meet its
    small differences (subprocesses, clients' TLS), keep asyncio's own.
    """
    try:
        import uvloop  # it has no version for Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when the thread that started it ends, however it ends (Linux).

    Call it first thing in the child. The parent must start the child from a thread that lives as long as it does.

    Args:
        parent: the parent's process id, as the parent knew it: if it died before this call, the child ends here.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
