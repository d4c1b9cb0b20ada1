"""Gathers a source in a process of its own, which hands over what it read through a pipe.

To look at tens of thousands of small files takes a few calls of the system for each. In the server's process each of
them gives up Python's one lock, and queues for it again behind those who seal; beside it they cost half the time. And
while a file server does not answer for a small file, the publish can be cancelled: this process is ended.

That process is ``content/gatherer.py``, started by ``content/spare.py``; how it hands over what it found,
``content/frames.py`` says.
"""

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import IO, Final

import msgspec

from entrepot.content.frames import Failure, GroupHead, ended, exactly, next_head
from entrepot.content.gathering import Asked, Findings, gather
from entrepot.content.grouping import ITEM, Group, Piece
from entrepot.content.patterns import Excludes
from entrepot.content.snapshot import FileItem, sizes
from entrepot.content.spare import SPARE, Process
from entrepot.core.encoding import pack
from entrepot.core.errors import CancelledError, EntrepotError, UnavailableError
from entrepot.core.sizes import MIB

if sys.platform == "linux":
    import fcntl

FEW: Final = 1000
"""A source with no more files than that is gathered sooner than another process is started."""
PIPE_BYTES: Final = MIB
"""What the pipe holds, where the system allows it: with 64 KiB both sides would wait for each other at every step."""
WAITING: Final = 24 * MIB
"""So much may wait to be taken. Where files are tiny, that process alone cannot keep the server's pool busy: it works
ahead while the pool is busy with big ones."""
PATIENCE_SECONDS: Final = 1.0
"""So often whoever waits asks whether the work was cancelled."""
END_SECONDS: Final = 5.0
"""So long a killed process, and what reads from it, is waited for."""
_DECODER: Final = msgspec.msgpack.Decoder(GroupHead | FileItem | Findings | Failure)

Came = Piece | Findings | EntrepotError


class _Waiting(queue.Queue[Came]):
    """What came and was not taken yet; its size is that of what it holds, in bytes."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._bytes = 0

    def _qsize(self) -> int:
        return self._bytes

    def _put(self, item: Came) -> None:
        super()._put(item)
        self._bytes += _size(item)

    def _get(self) -> Came:
        item = super()._get()
        self._bytes -= _size(item)
        return item


def _size(item: Came) -> int:
    return item.weight if isinstance(item, Group) else ITEM


def gathered(
    asked: Asked, pool: Executor, cancelled: Callable[[], bool]
) -> contextlib.AbstractContextManager[Iterator[Piece | Findings]]:
    """What :func:`~entrepot.content.gathering.gather` gives, gathered in another process if the source is large.

    Raises:
        UnavailableError: the other process could not be started; by the iterator: it was ended.
        CancelledError: by the iterator: ``cancelled`` said so while it waited.
    """
    looked = sizes(Path(os.fsdecode(asked.source)), Excludes(asked.excludes))
    many = len(list(itertools.islice(looked, FEW + 1))) > FEW
    return contextlib.closing(_gathered(asked, cancelled)) if many else contextlib.nullcontext(gather(asked, pool))


def _gathered(asked: Asked, cancelled: Callable[[], bool]) -> Generator[Piece | Findings, None, None]:
    child = SPARE.take()
    assert child.stdin is not None
    assert child.stdout is not None
    came = _Waiting(WAITING)
    receiver = threading.Thread(target=_receive, args=(child.stdout, came), name="gathered", daemon=True)
    try:
        _widen(child.stdout)
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(pack(asked))
        receiver.start()
        piece: Came | None = None
        while not isinstance(piece, Findings):
            piece = _taken(came, cancelled)
            if isinstance(piece, EntrepotError):
                raise piece
            yield piece
    finally:
        _end(child, receiver, came)


def _taken(came: _Waiting, cancelled: Callable[[], bool]) -> Came:
    while True:
        try:
            return came.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            if cancelled():
                raise CancelledError("Publishing was cancelled.") from None


def _end(child: Process, receiver: threading.Thread, came: _Waiting) -> None:
    """End the process. One that hangs within the system, as with a file server that never answers, ends when it may:
    it is not waited for."""
    child.kill()
    until = time.monotonic() + END_SECONDS
    while receiver.is_alive() and time.monotonic() < until:  # it may wait for room
        with contextlib.suppress(queue.Empty):
            came.get(timeout=0.01)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(END_SECONDS)
    if child.stdout is not None and not receiver.is_alive():
        child.stdout.close()


def _receive(pipe: IO[bytes], came: _Waiting) -> None:
    """Take what comes while those who use it are busy, so that the other process need not wait."""
    piece: Came | None = None
    while not isinstance(piece, Findings | EntrepotError):
        try:
            piece = _next(pipe)
        except (UnavailableError, OSError, msgspec.DecodeError):
            piece = ended()
        came.put(piece)


def _next(pipe: IO[bytes]) -> Came:
    head = _DECODER.decode(next_head(pipe))
    if isinstance(head, GroupHead):
        return Group(exactly(pipe, head.size), head.entries)
    return head.error() if isinstance(head, Failure) else head


def _widen(pipe: IO[bytes]) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
