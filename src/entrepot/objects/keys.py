"""Keys of a store: which ones exist on every kind of store, with the same meaning.

One key never differs from another only by case where that matters to the product: object keys are lower case, and the
rooms above choose their document keys so.
"""

import re
from typing import Final

from entrepot.core.errors import BadInputError, LimitedError
from entrepot.objects.store import MAX_LINK_SECONDS

MAX_KEY: Final = 1024
OBJECTS: Final = "objects/"
"""Begins the keys of sealed objects, whose values never change; all other keys are documents."""

_SEGMENT: Final = r"[A-Za-z0-9_-][A-Za-z0-9_.=+@-]{0,199}"
_KEY: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_RESERVED: Final = re.compile(r"(?:.*/)?(?:con|prn|aux|nul|com\d|lpt\d)(?:\.[^/]*)?(?:/.*)?", re.IGNORECASE)


def check_key(key: str) -> str:
    """Check a key before it becomes a path or an address.

    A key is made of segments of letters, digits and ``_ . = + @ -``, none beginning or
    ending with a dot, joined by ``/``. So it cannot be absolute, escape, name a hidden file, or be one that
    Windows cannot store.

    Raises:
        BadInputError: any other text.
    """
    if len(key) > MAX_KEY or not _KEY.fullmatch(key) or _RESERVED.fullmatch(key) or "./" in key or key[-1] == ".":
        raise BadInputError(f"{key[:200]!r} is not a key that a store can hold.")
    return key


def check_range(start: int, length: int | None) -> None:
    """Check the range of a read.

    Raises:
        BadInputError: a negative start or length.
    """
    if start < 0 or (length is not None and length < 0):
        raise BadInputError("A range begins at 0 or later and is not negative.")


def check_seconds(seconds: int) -> int:
    """Check how long a signed address shall be good.

    Raises:
        BadInputError: less than 1 or more than ``MAX_LINK_SECONDS``.
    """
    if not 1 <= seconds <= MAX_LINK_SECONDS:
        raise BadInputError(f"A signed address is good for 1 to {MAX_LINK_SECONDS} seconds.")
    return seconds


def check_size(key: str, size: int, limit: int) -> None:
    """Check the size of a value that is wanted whole.

    Raises:
        LimitedError: it is larger than ``limit``.
    """
    if size > limit:
        raise LimitedError(f"{key} is larger than {limit} bytes.")
