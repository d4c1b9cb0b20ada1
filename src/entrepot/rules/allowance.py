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


def enough(size: int) -> int:
    """The allowance that a download of so many bytes needs at least: what is asked again after a broken connection, and
    lists."""
    return size + size // 4 + LEAST


def ample(size: int, instances: int) -> int:
    """The allowance on which a download comes through whichever of the instances answers each request.

    Each instance wins slots of its own, and of its last one it may need a byte only. As long as slots are of the least
    size there are enough of them, however requests are spread; larger ones are an eighth of the allowance, and chance
    evens out what so many requests need. Of more instances than slots some have none.
    """
    several = min(instances, SLOTS)
    return max(enough(size), (max(0, size - several) // LEAST + several) * LEAST)


def granted(needed: int, *, budget: int, used: int, outstanding: int) -> int:
    """The allowance of a new token: what is needed, or 0 when budget minus used minus unexpired grants has no room.

    A grant is whole or none: part of a download is of no use to anybody.
    """
    return needed if 0 < needed <= budget - used - outstanding else 0
