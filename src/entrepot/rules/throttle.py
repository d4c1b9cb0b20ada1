"""How the rate of a throttled token is kept (R23; ADR 0013). Pure.

All downloads on a token take turns at one gateway instance: one sends a piece, then whoever has waited longest sends
his, and each piece puts off the next by the time that it takes at the rate. So of ``n`` downloads none is silent for
longer than ``n`` pieces take.

A piece is what a quarter of a second brings, at least 16 KiB, which take 0.256 s at :data:`LEAST_RATE`. Clients give
up after 30 s of silence (``web.http.STALL_SECONDS``). Of the 6 downloads that one has at a time by default each is
silent for 6 times as long at most, 1.6 s; of the 64 that an instance lets a device have, for 16.4 s. Clients also leave
a source that sends an object at less than 4 KiB/s, beyond these 30 s (``web.http.MINIMUM_RATE``): at the least rate 15
downloads at a time get more than that (64,000 / 15 = 4,267 bytes a second), at 256 KiB/s all 64 get as much.
"""

from typing import Final

from entrepot.core.sizes import KIB

LEAST_RATE: Final = 64_000
"""Bytes a second: at less a client's downloads on the token would run into its own time limits, and never end."""
LEAST_PIECE: Final = 16 * KIB
MOST_PIECE: Final = 256 * KIB
_PIECES_A_SECOND: Final = 4


def kept_rate(rate: int) -> int:
    """The rate that is kept: budgets and tokens of before may have a lower one than the least; 0: no bound."""
    return max(rate, LEAST_RATE) if rate else 0


def piece(rate: int) -> int:
    """Bytes that a download on a token of this rate may send when it is its turn."""
    return max(LEAST_PIECE, min(MOST_PIECE, kept_rate(rate) // _PIECES_A_SECOND))
