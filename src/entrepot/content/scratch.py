"""Scratch data: what a piece of work notes on the disk so that memory stays bounded, in databases of its own that go
with it. Nobody reads them afterwards, so a disk that does not take them costs the work and nothing else."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Final

from entrepot.core.errors import StorageError

TEMPORARY: Final = "the folder of temporary files (/var/tmp, or what TMPDIR names)"


@contextlib.contextmanager
def scratch_errors(place: str = TEMPORARY) -> Iterator[None]:
    """Translate what a scratch database says of its disk.

    Args:
        place: where it lies, for whoever makes room there.

    Raises:
        StorageError: the disk is full, or refuses.
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a defect, which no room on a disk mends
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"Scratch data cannot be kept in {place}: {error}.", next_step="Free space there, then do this again."
        ) from error
