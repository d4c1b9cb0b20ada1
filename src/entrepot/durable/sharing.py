"""Files that another program has open.

Windows neither replaces, renames nor deletes a file that somebody has open, nor renames a folder that holds one.
A virus scanner or an indexer opens every new file for moments: waiting helps (:func:`insist`). A program that runs from
the file has it open for as long as it runs: then an :class:`InUseError` says so. POSIX knows neither, but refuses to
write into a program that runs.
"""

import errno
import time
from collections.abc import Callable
from typing import Final, TypeVar

from entrepot.core.errors import StorageError

T = TypeVar("T")

PAUSES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between tries: 1.6 in all."""

_ACCESS_DENIED: Final = 5
_SHARING_VIOLATION: Final = 32
_LOCK_VIOLATION: Final = 33
_HELD: Final = (_SHARING_VIOLATION, _LOCK_VIOLATION)


class InUseError(StorageError):
    """Another program has the file, or a file in the folder, open."""

    code = "in_use"


def is_in_use(error: OSError) -> bool:
    """Whether the system says that another program holds the file."""
    return _windows_code(error) in _HELD or error.errno in (errno.ETXTBSY, errno.EBUSY)


def insist(action: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Replace, rename or delete a file; where another program holds it, try again, for less than two seconds in all.

    Windows answers "access denied", too, when the target of a rename is held, so that is tried again as well.

    Args:
        action: changes nothing when it fails.

    Raises:
        OSError: what the last try said.
    """
    for pause in PAUSES:
        try:
            return action()
        except OSError as error:
            if _windows_code(error) not in (*_HELD, _ACCESS_DENIED):
                raise
        sleep(pause)
    return action()


def _windows_code(error: OSError) -> int | None:
    return getattr(error, "winerror", None)  # only Windows has it
