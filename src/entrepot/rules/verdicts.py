"""What validation can say about one stored object."""

from enum import StrEnum


class Verdict(StrEnum):
    """``damaged``: its bytes do not match its id, or cannot be read."""

    GOOD = "good"
    MISSING = "missing"
    DAMAGED = "damaged"
