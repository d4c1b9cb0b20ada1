"""The sweep: deletes from the library what no version and no publisher needs, and never races them.

One run does one step for every object that is due (states: ``content/ledger.py``): what a killed sweep left in
*deleting* is finished first; what was condemned long enough ago, and is still not needed, is deleted; what is not
needed now is condemned. A file is deleted durably before its row goes, so no file is left without a row. Any step may
be repeated; runs may overlap, also of several processes.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from entrepot.content.ledger import SweepLedger
from entrepot.core.errors import CancelledError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR
from entrepot.objects.shelf import Shelf

BATCH: Final = 1000
DELETE_BATCH: Final = 100
GRACE_SECONDS: Final = HOUR
"""At least this long an object stays condemned, so that whoever publishes again soon finds it."""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did."""

    lapsed_sessions: int
    condemned: int
    deleted: int


def sweep(ledger: SweepLedger, shelf: Shelf, *, now: float, grace_seconds: float = GRACE_SECONDS) -> Swept:
    """Run once; memory and transactions are bounded by :data:`BATCH`.

    Raises:
        UnavailableError, StorageError: by the ledger or the store; the next run goes on where this one stopped.
    """
    lapsed = ledger.drop_lapsed(now)
    deleted = finish_deletions(ledger, shelf)
    while ledger.begin_deletion(now - grace_seconds, BATCH):
        deleted += finish_deletions(ledger, shelf)
    condemned = 0
    after: ObjectId | None = None
    while True:
        count, after = ledger.condemn(now, after, BATCH)
        condemned += count
        if after is None:
            return Swept(lapsed_sessions=lapsed, condemned=condemned, deleted=deleted)


def finish_deletions(ledger: SweepLedger, shelf: Shelf) -> int:
    """Delete the files of all objects in *deleting*, then their rows; returns how many."""

    def delete(ids: Sequence[ObjectId]) -> None:
        for object_id in ids:
            shelf.delete(object_id)
        shelf.flush()

    deleted = 0
    while count := ledger.finish_deletion(DELETE_BATCH, delete):
        deleted += count
    return deleted


def count_strays(
    ledger: SweepLedger, shelf: Shelf, *, cancelled: Callable[[], bool] = lambda: False
) -> tuple[int, int]:
    """How many files :func:`sweep_strays` would delete now, and their bytes; changes nothing.

    Raises:
        UnavailableError, StorageError: by the ledger or the store.
        CancelledError: ``cancelled`` says so.
    """
    count = size = 0
    after: ObjectId | None = None
    while page := shelf.page(after, BATCH):
        if cancelled():
            raise CancelledError("The work was stopped.")
        strays = ledger.unknown(page)
        count += len(strays)
        size += sum(each for _, each in strays)
        after = page[-1][0]
    return count, size


def sweep_strays(
    ledger: SweepLedger, shelf: Shelf, *, now: float, cancelled: Callable[[], bool] = lambda: False
) -> int:
    """Look through all files, and delete those that have no row; returns how many.

    There are hardly any unless the database was restored from a backup, or somebody copied files there: a file is
    written after its row, and deleted before it (power loss can undo a row that a file had in the same second). Listing
    comes first, so what is stored meanwhile has its row by then.

    Raises:
        UnavailableError, StorageError: by the ledger or the store; run it again.
        CancelledError: ``cancelled`` says so.
    """
    deleted = 0
    after: ObjectId | None = None
    while page := shelf.page(after, BATCH):
        if cancelled():
            raise CancelledError("The work was stopped.")
        if ledger.claim_strays(page, now):
            deleted += finish_deletions(ledger, shelf)
        after = page[-1][0]
    return deleted
