"""Allowances of tokens, kept across instances by conditional creates in the object store (R23; ``rules.allowance``).

A request is debited whole before the first byte is sent; what it did not send after all goes back to this instance's
purse, never to the store: what was sent on a token never exceeds its allowance, with however many instances, however
they end. Nothing is debited after the token has ended, so from then on the slots that were won tell for good how much
can have been sent. The site looks at them, and removes them.
"""

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from entrepot.core.errors import ForbiddenError, LimitedError, UnauthenticatedError
from entrepot.core.times import Clock
from entrepot.objects.store import ObjectStore
from entrepot.protocol.allowances import encode_slot, slot_key
from entrepot.rules.allowance import slots
from entrepot.rules.throttle import kept_rate
from entrepot.web.grants import Grant

KEPT: Final = 20_000
_JTI: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class UsedUpError(LimitedError):
    """What may be sent on a token was sent. Only another token helps, and the budget must have room for it."""

    retry_after = 60


class Purses(Protocol):
    """Keeps what may be sent on tokens. Used in one event loop."""

    async def take(self, grant: Grant, count: int) -> None:
        """Debit the bytes of a request, before it is answered."""

    def give_back(self, grant: Grant, count: int) -> None:
        """Of these bytes, debited here, is certain that they were not sent."""

    async def pace(self, grant: Grant, count: int) -> None:
        """Wait until these bytes may go, where the token has a rate."""


class NoPurses:
    """Where no budget can be active: nothing is debited."""

    async def take(self, grant: Grant, count: int) -> None:
        """See :class:`Purses`."""

    def give_back(self, grant: Grant, count: int) -> None:
        """See :class:`Purses`."""

    async def pace(self, grant: Grant, count: int) -> None:
        """See :class:`Purses`."""


class _Purse:
    """What this instance has won of one token's allowance and not spent."""

    __slots__ = ("due", "left", "lock", "next", "turn")

    def __init__(self) -> None:
        self.left = 0
        self.next = 0
        self.due = 0.0  # when the next bytes may go, where the token has a rate
        self.lock = asyncio.Lock()
        self.turn = asyncio.Lock()  # held by whoever's bytes go next; the others queue up in their order


class Allowances:
    """The purses of one instance. Use it in one event loop.

    Args:
        holder: names this instance in the slots that it wins.
        clock: for rates, seconds from any beginning; ``now`` for the end of tokens, seconds since 1970.

    Attributes:
        latest: when the last of the tokens ends on which something was debited here; 0: nothing was.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        holder: str,
        kept: int = KEPT,
        clock: Callable[[], float] = time.monotonic,
        now: Clock = time.time,
    ) -> None:
        self._store = store
        self._holder = holder
        self._kept = kept
        self._clock = clock
        self._now = now
        self.latest = 0
        self._purses: OrderedDict[str, _Purse] = OrderedDict()

    async def take(self, grant: Grant, count: int) -> None:
        """See :class:`Purses`.

        Raises:
            UsedUpError: the allowance is used up.
            UnauthenticatedError: the token has ended meanwhile.
            ForbiddenError: the token's id cannot name slots.
            UnavailableError: the store does not answer: then nothing is sent either.
        """
        if not grant.allow or count <= 0:
            return
        if not _JTI.fullmatch(grant.jti):
            raise ForbiddenError("A token with an allowance has an id of letters, digits, - and _.")
        purse = self._purse(grant.jti)
        sizes = slots(grant.allow)
        async with purse.lock:
            if grant.expires and self._now() >= grant.expires:
                raise UnauthenticatedError(
                    "The token has expired.", next_step="Ask the management point for a new token."
                )
            self.latest = max(self.latest, grant.expires)  # before: also where a slot is won and nothing comes of it
            while purse.left < count:
                if purse.next >= len(sizes):
                    raise UsedUpError(
                        "The transfer budget has no room for more on this token.",
                        next_step="Ask the management point again later, or another distribution point.",
                    )
                number = purse.next
                if await asyncio.to_thread(self._win, grant.jti, number):
                    purse.left += sizes[number]
                purse.next = number + 1
            purse.left -= count

    def give_back(self, grant: Grant, count: int) -> None:
        """See :class:`Purses`. What a forgotten purse had is lost, as in a crash."""
        purse = self._purses.get(grant.jti)
        if purse is not None and grant.allow and count > 0:
            purse.left += count

    async def pace(self, grant: Grant, count: int) -> None:
        """See :class:`Purses`: all downloads on the token together keep its rate here, and take turns.

        Whoever is cancelled while he waits leaves nothing behind for which the others would have to wait.
        """
        if not grant.rate:
            return
        purse = self._purse(grant.jti)
        async with purse.turn:
            now = self._clock()
            begin = max(now, purse.due)
            if begin > now:
                await asyncio.sleep(begin - now)
            purse.due = begin + count / kept_rate(grant.rate)

    def _purse(self, jti: str) -> _Purse:
        purse = self._purses.setdefault(jti, _Purse())
        self._purses.move_to_end(jti)
        if len(self._purses) > self._kept:
            self._purses.popitem(last=False)  # what it had is lost, as in a crash
        return purse

    def _win(self, jti: str, number: int) -> bool:
        # Bytes of this attempt alone: a store that cannot tell racing writers of equal bytes apart tells these apart.
        mine = encode_slot(self._holder, secrets.token_hex(16))
        return self._store.put(slot_key(jti, number), mine, if_absent=True)
