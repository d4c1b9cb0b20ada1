"""Sizes in bytes. GB is 10^9 bytes in prices and quotas (R21); KiB, MiB, GiB are powers of two."""

import re
from decimal import Decimal

from entrepot.core.errors import BadInputError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
KB = 1000
MB = 1000 * KB
GB = 1000 * MB
TB = 1000 * GB

_UNITS = {
    "": 1,
    "B": 1,
    "KIB": KIB,
    "MIB": MIB,
    "GIB": GIB,
    "TIB": 1024 * GIB,
    "KB": KB,
    "MB": MB,
    "GB": GB,
    "TB": TB,
}
_SIZE = re.compile(r"\s*(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(?P<unit>[A-Za-z]*)\s*")


def format_size(count: int) -> str:
    """Readable decimal size: ``0 B``, ``1.5 kB``, ``12.3 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.95 or unit == "TB":
            return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def parse_size(text: str) -> int:
    """Bytes of ``10 GB``, ``64KiB``, ``1000``.

    Raises:
        BadInputError: no number, or a unit that is not known.
    """
    match = _SIZE.fullmatch(text)
    factor = _UNITS.get(match["unit"].upper()) if match else None
    if match is None or factor is None:
        raise BadInputError(f"{text!r} is not a size.", next_step="Write for example 500 MB, 2 GB or 64 KiB.")
    return int(Decimal(match["number"]) * factor)
