"""Allowances of tokens, kept across instances by conditional creates in the object store (R23; ``rules.allowance``).

Bytes are debited before they are sent, and never given back: what was sent on a token never exceeds its allowance,
with however many instances, however they end. Slots of tokens that have expired are removed by the site.
"""

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from entrepot.core.errors import ForbiddenError, LimitedError
from entrepot.objects.store import ObjectStore
from entrepot.protocol.tokens import ALLOWANCE_PREFIX
from entrepot.rules.allowance import slots
from entrepot.web.grants import Grant

KEPT: Final = 20_000
Debit = Callable[[Grant, int], Awaitable[None]]
_JTI: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


async def unbounded(grant: Grant, count: int) -> None:
    """Where no budget can be active: nothing is debited."""


class _Purse:
    """What this instance has won of one token's allowance and not spent."""

    __slots__ = ("due", "left", "lock", "next")

    def __init__(self) -> None:
        self.left = 0
        self.next = 0
        self.due = 0.0  # when the next bytes may go, where the token has a rate
        self.lock = asyncio.Lock()


class Allowances:
    """The purses of one instance. Use it in one event loop.

    Args:
        holder: names this instance in the slots that it wins, for whoever looks into the store.
    """

    def __init__(
        self, store: ObjectStore, *, holder: str, kept: int = KEPT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._holder = holder
        self._kept = kept
        self._clock = clock
        self._purses: OrderedDict[str, _Purse] = OrderedDict()

    async def take(self, grant: Grant, count: int) -> None:
        """Debit bytes that are about to be sent, and wait where the token has a rate.

        Raises:
            LimitedError: the allowance is used up.
            ForbiddenError: the token's id cannot name slots.
            UnavailableError: the store does not answer: then nothing is sent either.
        """
        if not grant.allow or count <= 0:
            return
        if not _JTI.fullmatch(grant.jti):
            raise ForbiddenError("A token with an allowance has an id of letters, digits, - and _.")
        purse = self._purses.setdefault(grant.jti, _Purse())
        self._purses.move_to_end(grant.jti)
        if len(self._purses) > self._kept:
            self._purses.popitem(last=False)  # what it had is lost, as in a crash
        sizes = slots(grant.allow)
        async with purse.lock:
            while purse.left < count:
                if purse.next >= len(sizes):
                    raise LimitedError(
                        "The transfer budget has no room for more on this token.",
                        next_step="Ask the management point again later, or another distribution point.",
                    )
                number = purse.next
                if await asyncio.to_thread(self._win, grant.jti, number):
                    purse.left += sizes[number]
                purse.next = number + 1
            purse.left -= count
            pause = self._pause(purse, count, grant.rate)
        if pause > 0:
            await asyncio.sleep(pause)

    def _pause(self, purse: _Purse, count: int, rate: int) -> float:
        """How long these bytes wait so that all downloads on the token together keep its rate here."""
        if not rate:
            return 0.0
        now = self._clock()
        begin = max(now, purse.due)
        purse.due = begin + count / rate
        return begin - now

    def _win(self, jti: str, number: int) -> bool:
        # Bytes of this attempt alone: a store that cannot tell racing writers of equal bytes apart tells these apart.
        mark = f"{self._holder} {secrets.token_hex(16)}".encode()
        return self._store.put(f"{ALLOWANCE_PREFIX}{jti}/{number}", mark, if_absent=True)
