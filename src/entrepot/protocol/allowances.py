"""What instances of a cloud point leave in its store about the allowances of tokens (R23; ADR 0017).

``allow/<jti>/<slot>`` is created by the one instance that won the slot, and names it: so the site knows, when the token
has ended, how much of the allowance can have been sent, and by whom. ``marks/<instance>`` says up to when an instance
has accounted for what it sent: so the site knows when its figures hold all of it. A slot whose instance never says so
counts whole.
"""

from typing import Final

import msgspec

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import FormatError

ALLOWANCE_PREFIX: Final = "allow/"
MARK_PREFIX: Final = "marks/"
MAX_SLOT_BYTES: Final = 200
MAX_MARK_BYTES: Final = 500
ALL_SEGMENTS: Final = -1
_MOST: Final = 2**53


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the instance sent on tokens which end before ``before`` (seconds since 1970) is recorded in the
    first ``segments`` segments of its chain; ``ALL_SEGMENTS``: those that were in the store before the mark was.

    ``at``: when this was written. ``ended``: the instance will send nothing more.
    """

    before: int
    segments: int
    at: int
    ended: bool = False


def slot_key(jti: str, number: int) -> str:
    """Where the instance that wins a slot of a token's allowance says so."""
    return f"{ALLOWANCE_PREFIX}{jti}/{number}"


def mark_key(instance: str) -> str:
    """Where an instance's mark is."""
    return f"{MARK_PREFIX}{instance}"


def encode_slot(instance: str, nonce: str) -> bytes:
    """A won slot's bytes: who won it, and what tells this attempt from every other."""
    return f"{instance} {nonce}".encode()


def decode_slot(data: bytes) -> str:
    """The instance that won a slot.

    Raises:
        FormatError: these are not the bytes of a slot.
    """
    instance, space, _ = data[:MAX_SLOT_BYTES].partition(b" ")
    if not instance or not space or not instance.isascii():
        raise FormatError("A slot of an allowance does not name an instance.")
    return instance.decode("ascii")


def encode_mark(mark: Mark) -> bytes:
    """As it lies in the store."""
    return to_json(mark)


def decode_mark(data: bytes) -> Mark:
    """A mark from the store.

    Raises:
        FormatError: it is none.
    """
    mark = from_json(data, Mark, "mark of an instance")
    if not (0 <= mark.before <= _MOST and ALL_SEGMENTS <= mark.segments <= _MOST and 0 <= mark.at <= _MOST):
        raise FormatError("The mark of an instance has impossible figures.")
    return mark
