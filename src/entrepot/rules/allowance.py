"""A token's allowance, cut into slots (R23). Pure.

Under a budget a token carries how many bytes may be sent on it. Several gateway instances serve the same token and do
not talk to each other, so the allowance is cut into slots of ``max(allowance / 8, 4 MiB)``; an instance sends only from
a slot that it has won in the store, where exactly one can win it. The slots' sizes add up to the allowance: whatever
instances do, crash or restart, no more can be sent on the token. What remains of a slot when an instance ends is lost.
"""

from typing import Final

from entrepot.core.sizes import MIB

SLOTS: Final = 8
LEAST: Final = 4 * MIB


def slots(allowance: int) -> tuple[int, ...]:
    """Sizes of the slots; they add up to the allowance."""
    if allowance <= 0:
        return ()
    size = max(-(-allowance // SLOTS), LEAST)
    whole, rest = divmod(allowance, size)
    return (size,) * whole + ((rest,) if rest else ())


def granted(needed: int, *, budget: int, used: int, outstanding: int) -> int:
    """The allowance of a new token: what is needed, or 0 when budget minus used minus unexpired grants has no room.

    A grant is whole or none: part of a download is of no use to anybody.
    """
    return needed if 0 < needed <= budget - used - outstanding else 0
