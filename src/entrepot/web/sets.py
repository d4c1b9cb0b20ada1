"""Object sets as points and gateways use them: loaded from the shelf, verified, kept in bounded memory.

A set's id is the hash of its bytes, so what was loaded once is right for ever; whether the holder *still* has it is
asked again every ``RECHECK_SECONDS``, because removing a content removes its set. That a set is missing is remembered
for ``MISSING_SECONDS`` only: it may be on its way. No request waits for the store longer than ``PATIENCE``: what it
asked for goes on being loaded, and is there for the next one.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import structlog

from entrepot.content.objectset import ObjectSet
from entrepot.core.errors import IntegrityError, LimitedError, NotFoundError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import MIB
from entrepot.core.times import Clock
from entrepot.objects.shelf import Shelf

RECHECK_SECONDS: Final = 30.0
MISSING_SECONDS: Final = 2.0
PATIENCE: Final = 6.0
"""Seconds: as long as a gateway may be without news of its control document (``docs/adr/0020``)."""
MEMORY: Final = 128 * MIB
MAX_MISSING: Final = 10_000
MAX_ANSWERS: Final = 20_000
"""Whether a set names an object: so many answers are remembered, 4.5 MB at most."""
_log = structlog.get_logger("entrepot.web")


class _Kept:
    __slots__ = ("checked", "content", "size")

    def __init__(self, content: ObjectSet, size: int, checked: float) -> None:
        self.content = content
        self.size = size
        self.checked = checked


class SetLibrary:
    """The sets of one shelf. Use it in one event loop.

    Args:
        memory: bytes of sets kept, least recently used go first; one set may be larger and is then kept alone.
        clock: seconds, never going back.
        patience: seconds that a request waits for the store.
    """

    def __init__(
        self, shelf: Shelf, *, memory: int = MEMORY, clock: Clock = time.monotonic, patience: float = PATIENCE
    ) -> None:
        self._shelf = shelf
        self._memory = memory
        self._clock = clock
        self._patience = patience
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._used = 0
        self._missing: OrderedDict[bytes, float] = OrderedDict()
        self._answers: dict[tuple[bytes, ObjectId], bool] = {}
        self._loading: dict[bytes, asyncio.Task[ObjectSet | None]] = {}

    @property
    def used(self) -> int:
        """Bytes of sets in memory."""
        return self._used

    async def first_holding(self, set_ids: Sequence[bytes], object_id: ObjectId) -> bytes | None:
        """The first of these sets that names the object; None when none does.

        A set names itself, too: a token for a set gives access to the set object.

        Raises:
            EntrepotError: as :meth:`get`.
        """
        now = self._clock()
        for set_id in set_ids:
            found = self._fresh(set_id, now)
            if found is None:
                found = await self.get(set_id)
            if found is not None and (set_id == object_id or object_id in found):
                return set_id
        return None

    def first_holding_at_once(self, set_ids: Sequence[bytes], object_id: ObjectId) -> bytes | None:
        """As :meth:`first_holding`; None also where the store would have to be asked."""
        now = self._clock()
        for set_id in set_ids:
            found = self._fresh(set_id, now)
            if found is None:
                return None
            if self._names(set_id, found, object_id):
                return set_id
        return None

    def _names(self, set_id: bytes, found: ObjectSet, object_id: ObjectId) -> bool:
        """Asked at every request. The answer stays right for ever: the set's id stands for its bytes."""
        known = self._answers.get((set_id, object_id))
        if known is None:
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            known = self._answers[set_id, object_id] = set_id == object_id or object_id in found
        return known

    async def get(self, set_id: bytes) -> ObjectSet | None:
        """The set, or None when the holder does not have it (or has it damaged, which is logged).

        Raises:
            UnavailableError: the store has not answered in time.
            EntrepotError: what the store says.
        """
        now = self._clock()
        if (fresh := self._fresh(set_id, now)) is not None:
            return fresh
        if now < self._missing.get(set_id, 0.0):
            return None
        task = self._loading.get(set_id)
        if task is None:
            task = self._loading[set_id] = asyncio.create_task(self._load(set_id, self._kept.get(set_id)))
            task.add_done_callback(lambda done: self._loaded(set_id, done))
        # A request that is cancelled, or waits no longer, does not take the set from the others.
        done, _ = await asyncio.wait([task], timeout=self._patience)
        if not done:
            raise UnavailableError(
                f"The store has not answered for {self._patience:g} seconds.", next_step="Try again in a moment."
            )
        return task.result()

    def _loaded(self, set_id: bytes, task: "asyncio.Task[ObjectSet | None]") -> None:
        self._loading.pop(set_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("object_set_not_loaded", set=set_id.hex(), problem=str(error))

    def _fresh(self, set_id: bytes, now: float) -> ObjectSet | None:
        kept = self._kept.get(set_id)
        if kept is None or now - kept.checked >= RECHECK_SECONDS:
            return None
        self._kept.move_to_end(set_id)
        return kept.content

    def forget(self, set_id: bytes) -> None:
        """The holder has just got or lost this set."""
        self._missing.pop(set_id, None)
        kept = self._kept.pop(set_id, None)
        if kept is not None:
            self._used -= kept.size

    async def _load(self, set_id: bytes, kept: _Kept | None) -> ObjectSet | None:
        if kept is not None:
            [here] = await asyncio.to_thread(self._shelf.has, [ObjectId(set_id)])
            if here:
                kept.checked = self._clock()
                return kept.content
            self.forget(set_id)
        try:
            data = await asyncio.to_thread(self._shelf.read_whole, ObjectId(set_id))
            loaded = ObjectSet(data)
        except NotFoundError:
            self._note_missing(set_id)
            return None
        except (IntegrityError, LimitedError) as error:
            _log.error("object_set_not_usable", set=set_id.hex(), problem=str(error))
            self._note_missing(set_id)
            return None
        self._keep(set_id, _Kept(loaded, len(data), self._clock()))
        return loaded

    def _keep(self, set_id: bytes, kept: _Kept) -> None:
        self.forget(set_id)
        self._kept[set_id] = kept
        self._used += kept.size
        while self._used > self._memory and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._used -= gone.size

    def _note_missing(self, set_id: bytes) -> None:
        self._missing[set_id] = self._clock() + MISSING_SECONDS
        self._missing.move_to_end(set_id)
        if len(self._missing) > MAX_MISSING:
            self._missing.popitem(last=False)
