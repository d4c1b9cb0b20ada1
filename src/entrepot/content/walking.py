"""Walks a large source in a process beside the one that reads it, where a process can be forked.

To find a small file takes as long as to read it. Where thousands of them follow each other, one process that does both
leaves the other cores without work.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import IO, Final, NoReturn

import msgspec

from entrepot.content.frames import Failure, failure, next_head, send
from entrepot.content.gathering import Asked, Findings, walked
from entrepot.content.snapshot import FileItem, FolderItem, Item, LinkItem
from entrepot.core.errors import EntrepotError

TOGETHER: Final = 64
"""As many items are handed over at once; the pipe holds a few hundred."""


class _Items(msgspec.Struct, frozen=True, array_like=True, tag=7):
    items: tuple[FileItem | FolderItem | LinkItem, ...]


_DECODER: Final = msgspec.msgpack.Decoder(_Items | Findings | Failure)


@contextlib.contextmanager
def walked_beside(asked: Asked) -> Iterator[Iterator[Item | Findings]]:
    """What :func:`~entrepot.content.gathering.walked` gives. This process must have no other thread: it is forked.

    Raises:
        UnavailableError: by the iterator: the other process was ended.
    """
    if sys.platform == "win32":
        yield walked(asked)
        return
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiving)
        os.close(sys.stdout.fileno())  # whoever reads it must see its end although this process goes on
        _walk(asked, sending)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        yield _received(pipe, child)


def _walk(asked: Asked, out: int) -> NoReturn:
    """The forked process, which ends here, however it goes."""
    code = 1
    try:
        _send_all(asked, out)
        code = 0
    except BrokenPipeError:  # nobody takes it any more
        pass
    except Exception:  # noqa: BLE001 - what called this must not go on here, whatever happened
        traceback.print_exc()
    finally:
        os._exit(code)


def _send_all(asked: Asked, out: int) -> None:
    try:
        some: list[Item] = []
        for item in walked(asked):
            if not isinstance(item, Findings):
                some.append(item)
            if len(some) == TOGETHER or isinstance(item, Findings):
                send(out, _Items(tuple(some)))
                some = []
            if isinstance(item, Findings):
                send(out, item)
    except EntrepotError as error:
        send(out, failure(error))


def _received(pipe: IO[bytes], child: int) -> Iterator[Item | Findings]:
    head: _Items | Findings | Failure = _Items(())
    while isinstance(head, _Items):
        yield from head.items
        head = _DECODER.decode(next_head(pipe))
    os.waitpid(child, 0)  # what it took is counted with what this process took
    if isinstance(head, Failure):
        raise head.error()
    yield head
