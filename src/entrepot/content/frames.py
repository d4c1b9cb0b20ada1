"""What one process of a publish hands to another through a pipe: frames, each the length of its head (4 bytes), the
head (MessagePack), and the plain bytes that the head speaks of."""

import os
import struct
from typing import IO, Final

import msgspec

from entrepot.content.manifest import Entry
from entrepot.core.encoding import pack
from entrepot.core.errors import EntrepotError, UnavailableError, error_classes

_LENGTH: Final = struct.Struct(">I")


class GroupHead(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A group, whose ``size`` plain bytes follow."""

    size: int
    entries: tuple[Entry, ...]


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """An error, to be raised on the other side."""

    code: str
    message: str
    next_step: str

    def error(self) -> EntrepotError:
        """The same error, of the same class."""
        return error_classes().get(self.code, EntrepotError)(self.message, next_step=self.next_step)


def failure(error: EntrepotError) -> Failure:
    """How an error is handed over."""
    return Failure(error.code, error.message, error.next_step)


def send(out: int, head: msgspec.Struct, plain: bytes = b"") -> None:
    """Write a frame to a pipe.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    packed = pack(head)
    for data in (_LENGTH.pack(len(packed)) + packed, plain):
        view = memoryview(data)
        while view:
            view = view[os.write(out, view) :]


def next_head(pipe: IO[bytes]) -> bytes:
    """The next frame's head; its plain bytes, if it has any, come next (:func:`exactly`).

    Raises:
        UnavailableError: the other process ended before.
    """
    size: int
    (size,) = _LENGTH.unpack(exactly(pipe, _LENGTH.size))
    return exactly(pipe, size)


def exactly(pipe: IO[bytes], size: int) -> bytes:
    """So many bytes.

    Raises:
        UnavailableError: the other process ended before.
    """
    data = pipe.read(size)
    if len(data) < size:
        raise ended()
    return data


def ended() -> UnavailableError:
    """The error that says that the other process is no more."""
    return UnavailableError(
        "The process that reads the source was ended.", next_step="Publish again; the server's log may say why."
    )
