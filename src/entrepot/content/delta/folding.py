"""Names without what changes from release to release. The client uses it, so it stays apart from the builders' SQL."""

import re
from typing import Final

_HASH: Final = re.compile(r"(?<![0-9A-Za-z])(?=[a-f]*[0-9])[0-9a-f]{7,}(?![0-9A-Za-z])")
_NUMBERS: Final = re.compile(r"\d+(?:[._]\d+)*")


def fold(text: str) -> str:
    """A name without version numbers and hashes: each becomes ``#``."""
    return _NUMBERS.sub("#", _HASH.sub("#", text))
