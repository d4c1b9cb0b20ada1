"""Gets one sealed object from whichever source delivers it, verified and opened.

A damaged object is its source's fault when the bytes do not match the object's id: the next source is asked. Bytes that
do match the id but do not open as promised are nobody's fault but the manifest's, and no other source could help; what
helps depends on why: an update of this program where it is too old for them, else another reference to the content.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

import msgspec

from entrepot.client.sources import FULL, SourceList, SourceState
from entrepot.content.sealing import open_sealed
from entrepot.core.errors import (
    EntrepotError,
    FormatError,
    IntegrityError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from entrepot.core.ids import ObjectId
from entrepot.core.times import Clock
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import SealedRef
from entrepot.protocol.location import LocationReply, Source
from entrepot.rules.retry import Schedule, next_pause

PUBLISHED_WRONGLY: Final = "Fetch again; if it says the same, the content was published wrongly: publish it again."
"""What helps when signed or verified bytes break a rule: the site may have sealed the content anew meanwhile."""

QUICK_RETRY: Final = 0.2
"""Seconds before a source is asked a second time after its first failure in a row."""


class Transport(Protocol):
    """Reads a sealed object from a source (``connections.Connections``; in tests, memory)."""

    async def get(self, source: Source, object_id: ObjectId, size: int, token: str) -> bytes:
        """At most ``size`` bytes, unverified.

        Raises:
            EntrepotError: retryable when asking again may help.
        """


class Opened(msgspec.Struct, frozen=True):
    """A verified object: sealed and plain bytes, and who delivered it."""

    sealed: bytes
    plain: bytes
    source: str


class Downloader:
    """Downloads objects, one call per object, any number of calls at a time.

    Args:
        transport: how to read from a source.
        sources: those of the location reply.
        relocate: asks the management point anew.
        retries: further rounds over all sources after the first.
        clock: seconds since 1970.
        sleep: waits.
        draw: random numbers, 0 ≤ x < 1.
    """

    def __init__(
        self,
        transport: Transport,
        sources: SourceList,
        relocate: Callable[[], Awaitable[LocationReply]],
        *,
        retries: int,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.sources: Final = sources
        self._transport = transport
        self._relocate = relocate
        self._schedule = Schedule(quick=(0.5, 1, 2, 4), pause=8, attempts=retries + 1)
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._renewing = asyncio.Lock()

    async def get(self, ref: SealedRef, what: str, *, form: str = FULL, delta_from: int = 0) -> Opened:
        """One object.

        Args:
            what: it is, for errors.
            form: under which its bytes are counted.
            delta_from: it belongs to the delta from this version: one round, no waiting, since full objects remain.

        Raises:
            UnavailableError: no source delivers it; the text names the reasons.
            IntegrityError: the manifest's reference itself is wrong.
            UnsupportedError: this program is too old for the object.
        """
        failed = 0
        while True:
            generation = self.sources.generation
            for state in self.sources.candidates(self._clock(), patient=failed == 0, delta_from=delta_from):
                opened = await self._try(state, ref, what, form)
                if opened is not None:
                    return opened
            failed += 1
            pause = None if delta_from else next_pause(failed, self._draw(), self._schedule)
            if pause is None:
                raise self._exhausted(ref, what)
            await self._sleep(pause)
            await self._renew(generation)

    async def _try(self, state: SourceState, ref: SealedRef, what: str, form: str) -> Opened | None:
        renewed = False
        while True:
            generation = self.sources.generation
            try:
                opened = await self._ask(state, ref, what)
            except _HopelessError as error:
                raise error.reason from None
            except UnauthenticatedError as error:
                if renewed or not await self._renew(generation):
                    state.failed(error, self._clock(), self._draw())
                    return None
                renewed = True  # the token had expired; there is a new one now
            except EntrepotError as error:
                if not state.failed(error, self._clock(), self._draw()):
                    return None
                await self._sleep(QUICK_RETRY)
            else:
                state.succeeded(form, len(opened.sealed))
                return opened

    async def _ask(self, state: SourceState, ref: SealedRef, what: str) -> Opened:
        source = state.source
        token = self.sources.token(state)
        if not token:
            raise UnauthenticatedError(f"The site gave no token for {source.name}.")
        data = await self._transport.get(source, ObjectId(ref.object_id), ref.sealed_size, token)
        plain = await asyncio.to_thread(_open, data, ref, what, source.name)
        return Opened(data, plain, source.name)

    async def _renew(self, generation: int) -> bool:
        """Ask the management point anew, unless somebody has done so since; False when it does not answer."""
        async with self._renewing:
            if self.sources.generation != generation:
                return True
            try:
                reply = await self._relocate()
            except EntrepotError:
                return False  # the sources' own failures say more; the old reply still serves
            if (reply.content, reply.version) != (self.sources.reply.content, self.sources.reply.version):
                return False
            self.sources.renew(reply)
            return True

    def _exhausted(self, ref: SealedRef, what: str) -> EntrepotError:
        failures = self.sources.failures()
        reasons = [f"{failure.name} ({failure.tier}): {failure.reason}" for failure in failures[:8]]
        steps = [failure.next_step for failure in failures if failure.next_step]
        if not self.sources.given():
            reasons.append("The site offers no source now.")
            steps = [f"Not offered: {one.name}: {one.reason}" for one in self.sources.reply.withheld]
        return UnavailableError(
            f"No source delivers the {what} {ref.object_id.hex()[:16]}. " + " ".join(reasons),
            next_step=" ".join(dict.fromkeys(steps[:4])),
        )


@contextlib.contextmanager
def manifest_advice() -> Iterator[None]:
    """A manifest was verified before it is read: what is wrong with it then, no source can mend."""
    try:
        yield
    except IntegrityError as error:
        if not error.next_step:
            error.next_step = PUBLISHED_WRONGLY
        raise


class _HopelessError(Exception):
    """The object is the right one, but does not open as promised: no source could help. ``reason`` says why."""

    def __init__(self, reason: EntrepotError) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _open(data: bytes, ref: SealedRef, what: str, source: str) -> bytes:
    """Plain bytes of what a source sent.

    Raises:
        _HopelessError: no other source could help.
        IntegrityError: the source's bytes are not the object.
    """
    try:
        return open_sealed(data, ref, what)
    except UnsupportedError as error:  # the bytes are the object: it is opened only then
        raise _HopelessError(error) from None
    except IntegrityError as error:
        if isinstance(error, FormatError) or object_id_of(data) == ref.object_id:
            raise _HopelessError(IntegrityError(error.message, next_step=PUBLISHED_WRONGLY)) from None
        detail = "" if len(data) == ref.sealed_size else f" It sent {len(data)} of {ref.sealed_size} bytes."
        raise IntegrityError(
            f"{source} sent a damaged {what}: {ref.object_id.hex()[:16]} does not match its id.{detail}",
            next_step=f"Validate the content on {source}.",
        ) from None
