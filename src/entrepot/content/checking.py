"""Validation: reads every object again and compares it with its id, at a bounded pace, and goes on where it was.

What is looked at are objects that a set needs: those are stored durably, or something is wrong. (An object that is only
leased may be announced and not stored yet.) A verdict of *missing* or *damaged* is believed only when a second look,
with the object's row locked so that no sweep is deleting it meanwhile, says the same. The bytes of a damaged object are
of no use to anybody (they no longer open), so its file is removed then: whoever publishes the same bytes again stores
them anew, and nobody is sent them.
"""

import errno
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from entrepot.core.errors import CancelledError, IntegrityError, NotFoundError, StorageError
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import MIB
from entrepot.objects.hashing import ObjectHasher
from entrepot.objects.shelf import Shelf
from entrepot.rules.verdicts import Verdict

BATCH: Final = 500
BATCH_BYTES: Final = 16 * MIB


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An object that is to be there, and its sealed size."""

    object_id: ObjectId
    size: int


class CheckLedger(Protocol):
    """What validation and repair need of the ledger; each method is one transaction, and idempotent."""

    def due(self, before: float, after: ObjectId | None, limit: int) -> list[Listed]:
        """The next objects that a set needs and that nobody looked at since ``before``, ascending."""

    def note(
        self, sound: Sequence[ObjectId], suspect: Sequence[ObjectId], now: float, look: Callable[[ObjectId], Verdict]
    ) -> dict[ObjectId, Verdict]:
        """Write verdicts down.

        Args:
            look: called for each suspect that a set still needs, while no sweep can touch it.

        Returns:
            what the second look said of the suspects.
        """

    def faulty(self, after: ObjectId | None, limit: int) -> list[Listed]:
        """The next objects with a bad verdict, ascending."""


class Checked(msgspec.Struct, kw_only=True):
    """What a run looked at."""

    objects: int = 0
    size: int = 0
    missing: int = 0
    damaged: int = 0


def look(shelf: Shelf, object_id: ObjectId) -> Verdict:
    """Read an object and compare it with its id; memory: one piece.

    Raises:
        StorageError, UnavailableError: it cannot be read now, which says nothing about its bytes.
    """
    hasher = ObjectHasher()
    try:
        for piece in shelf.read(object_id):
            hasher.update(piece)
    except NotFoundError:
        return Verdict.MISSING
    except StorageError as error:
        if not _is_unreadable(error):
            raise
        return Verdict.DAMAGED
    except IntegrityError:
        return Verdict.DAMAGED
    return Verdict.GOOD if hasher.object_id() == object_id else Verdict.DAMAGED


def _is_unreadable(error: StorageError) -> bool:
    """Tell a sector that the disk has lost from refusals that pass: too many open files, no permission."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO


def look_and_remove(shelf: Shelf, object_id: ObjectId) -> Verdict:
    """The second look: a damaged file goes."""
    verdict = look(shelf, object_id)
    if verdict is Verdict.DAMAGED:
        shelf.delete(object_id)
        shelf.flush()
    return verdict


def validate(
    ledger: CheckLedger,
    shelf: Shelf,
    *,
    paced: Shelf,
    before: float,
    clock: Callable[[], float],
    progress: Callable[[Checked], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Checked:
    """Look at every object that nobody looked at since ``before``.

    Killed anywhere and run again with the same ``before``, it goes on after the last batch that was written down.

    Args:
        paced: the same objects, read no faster than allowed. The second look, which holds rows, waits for nothing.

    Raises:
        CancelledError: ``cancelled`` says so, or ``paced``; what was looked at is written down.
        UnavailableError, StorageError: by the ledger.
    """
    done = Checked()
    after: ObjectId | None = None
    while batch := ledger.due(before, after, BATCH):
        for part in _portions(batch):
            _check(part, ledger, shelf, done, paced=paced, clock=clock, cancelled=cancelled)
            progress(done)
        after = batch[-1].object_id
    return done


def _check(
    part: list[Listed],
    ledger: CheckLedger,
    shelf: Shelf,
    done: Checked,
    *,
    paced: Shelf,
    clock: Callable[[], float],
    cancelled: Callable[[], bool],
) -> None:
    sound: list[ObjectId] = []
    suspect: list[ObjectId] = []
    try:
        for each in part:
            if cancelled():
                raise CancelledError("The work was stopped.")
            (sound if look(paced, each.object_id) is Verdict.GOOD else suspect).append(each.object_id)
            done.objects += 1
            done.size += each.size
    finally:
        verdicts = ledger.note(sound, suspect, clock(), lambda object_id: look_and_remove(shelf, object_id))
        found = list(verdicts.values())
        done.missing += found.count(Verdict.MISSING)
        done.damaged += found.count(Verdict.DAMAGED)


def _portions(batch: list[Listed]) -> list[list[Listed]]:
    """Portions whose verdicts are written down together."""
    portions: list[list[Listed]] = [[]]
    size = 0
    for each in batch:
        if portions[-1] and size + each.size > BATCH_BYTES:
            portions.append([])
            size = 0
        portions[-1].append(each)
        size += each.size
    return portions


def recheck(ledger: CheckLedger, shelf: Shelf, *, now: float, limit: int = BATCH) -> int:
    """Look again at objects with a bad verdict: somebody may have stored them anew; how many are sound now."""
    mended = 0
    after: ObjectId | None = None
    left = limit
    while left > 0 and (page := ledger.faulty(after, min(left, BATCH))):
        sound = [each.object_id for each in page if look(shelf, each.object_id) is Verdict.GOOD]
        if sound:
            ledger.note(sound, [], now, lambda object_id: look(shelf, object_id))
        mended += len(sound)
        after = page[-1].object_id
        left -= len(page)
    return mended
