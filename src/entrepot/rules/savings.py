"""What a download did not have to transfer, and why (R28). Pure; bytes are sealed bytes, as they would have travelled.

Without anything of ours a device would have downloaded the plain files of the version. What it did instead is split:

- *dedupe*: the plain size minus that of the version's distinct chunks, where that is known;
- *compression*: what else the sealed chunks are smaller than the files;
- *own cache*, *installed* (chunks cut again from an earlier version's tree), *peers*: what came from there;
- *deltas*: what remains of the sealed size after all that was transferred, where deltas were used;
- *transferred*: what points and cloud points sent.

A device is believed about itself only within the size of the version: no share is larger than what was left to save.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from entrepot.core.errors import BadInputError

OWN_CACHE: Final = "own-cache"
INSTALLED: Final = "installed"
PEER: Final = "peer"
DELTA: Final = "delta"
DEDUPE: Final = "dedupe"
COMPRESSION: Final = "compression"
TRANSFERRED: Final = "transferred"
KINDS: Final = (DEDUPE, COMPRESSION, OWN_CACHE, INSTALLED, PEER, DELTA, TRANSFERRED)
_MOST: Final = 10
_SLACK: Final = 1 << 30
_LOCAL: Final = {"own-cache": OWN_CACHE, "installed": INSTALLED, "peer": PEER}


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes from one source, as a device reports them."""

    kind: str
    form: str
    point: str
    bytes: int


class Saving(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one kind; ``point``: whose transfers they are, or would have been."""

    kind: str
    point: str
    bytes: int


def is_plausible(pieces: Sequence[Piece], *, plain: int, sealed: int) -> bool:
    """Tell whether one download can have taken so much: a device that claims more would spoil everyone's sums.

    Broken transfers are made anew and cost more than the version has; ten times as much they do not.
    """
    return sum(piece.bytes for piece in pieces) <= _MOST * (plain + sealed) + _SLACK


def savings(pieces: Sequence[Piece], *, plain: int, sealed: int, success: bool, distinct: int = 0) -> list[Saving]:
    """Split one download.

    Args:
        pieces: what the device reports.
        plain: bytes of the version's files.
        sealed: bytes of its distinct objects.
        distinct: plain bytes of its distinct chunks; 0 where that is not known: then all is compression.
        success: it is whole; otherwise only what was transferred counts.

    Raises:
        BadInputError: a size is negative.
    """
    if min([plain, sealed, distinct, *(piece.bytes for piece in pieces)]) < 0:
        raise BadInputError("A size is not negative.")
    sent: dict[str, int] = {}
    local = dict.fromkeys((OWN_CACHE, INSTALLED, PEER), 0)
    delta = 0
    for piece in pieces:
        if piece.kind in _LOCAL:
            local[_LOCAL[piece.kind]] += piece.bytes
        else:
            sent[piece.point] = sent.get(piece.point, 0) + piece.bytes
            delta += piece.bytes if piece.form == DELTA else 0
    found = [Saving(kind=TRANSFERRED, point=point, bytes=count) for point, count in sorted(sent.items())]
    if not success:
        return found
    carrier = max(sent, key=lambda point: (sent[point], point)) if sent else ""
    left = max(0, sealed - sum(sent.values()))
    smaller = max(0, plain - sealed)
    twice = min(smaller, plain - (min(distinct, plain) or plain))
    shares = {DEDUPE: twice, COMPRESSION: smaller - twice}
    for kind, count in local.items():
        shares[kind] = min(count, left)
        left -= shares[kind]
    shares[DELTA] = left if delta else 0
    return found + [Saving(kind=kind, point=carrier, bytes=count) for kind, count in shares.items() if count]
