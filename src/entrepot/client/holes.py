"""Writes into files, and leaves a hole where zeros belong and nothing is: an image of 8 GiB with 16 MiB of data takes
16 MiB of the disk here, too.

Blocks that are not zero cost a look at their first bytes. What a file holds already is believed of nobody: zeros that
fall on other bytes of an earlier attempt are written. A hole at the end comes to be when the file is cut to its size.
"""

import errno
import os
import sys
from collections.abc import Iterator
from typing import Final

BLOCK: Final = 64 * 1024
"""Zeros are left out by blocks of the file of this size: smaller holes would cost more calls than room."""
_ZEROS: Final = bytes(BLOCK)
_HEAD: Final = 32


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write everything where the descriptor stands."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_at(descriptor: int, at: int, data: bytes | memoryview) -> None:
    """Write bytes at an offset, but no zeros where the file has a hole or has ended."""
    view = memoryview(data)
    for start, end, blank in _runs(view, at):
        if blank:
            _write_zeros(descriptor, at + start, at + end)
        else:
            os.lseek(descriptor, at + start, os.SEEK_SET)
            write_all(descriptor, view[start:end])


def _runs(view: memoryview, at: int) -> Iterator[tuple[int, int, bool]]:
    """Ranges of ``view`` that are whole blocks of zeros, and those between."""
    begin = position = 0
    blank = False
    while position < len(view):
        end = min(len(view), position + BLOCK - (at + position) % BLOCK)
        zero = _is_zero(view[position:end])
        if zero != blank:
            if begin < position:
                yield begin, position, blank
            begin, blank = position, zero
        position = end
    if begin < position:
        yield begin, position, blank


def _is_zero(block: memoryview) -> bool:
    """Most blocks differ in their first bytes."""
    return bytes(block[:_HEAD]) == _ZEROS[: min(_HEAD, len(block))] and bytes(block) == _ZEROS[: len(block)]


if sys.platform == "win32":

    def _write_zeros(descriptor: int, start: int, end: int) -> None:
        """Files have holes only where the system is told so file by file, and what wrote them could not tell."""
        _fill(descriptor, start, end)

else:

    def _write_zeros(descriptor: int, start: int, end: int) -> None:
        """Write zeros over what stands in a range; its holes, and what is beyond the end of the file, stay."""
        while start < end:
            try:
                data = os.lseek(descriptor, start, os.SEEK_DATA)
                hole = os.lseek(descriptor, data, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                    return
                data, hole = start, end  # the file system cannot tell
            _fill(descriptor, data, min(hole, end))
            start = hole


def _fill(descriptor: int, start: int, end: int) -> None:
    if start < end:
        os.lseek(descriptor, start, os.SEEK_SET)
    while start < end:
        start += os.write(descriptor, _ZEROS[: end - start])
