"""The ledger: which sealed objects the library holds, and who still needs them (architecture 2.2, 4.1).

An object is *live*, *condemned* (nobody needs it: a later sweep may delete it), *deleting*, or gone. A **session**,
one attempt to publish, holds leases on every object it met, until its result is adopted as an object set or the lease
lapses:

========= ============================== ===========================================
from      by                             to
========= ============================== ===========================================
(none)    ``announce``                   live, leased
live      sweep: in no set, not leased   condemned
condemned ``known``, ``announce``        live, leased (revived under its row lock)
condemned sweep, after a grace period    deleting; its index entry goes
deleting  ``announce``                   waits until it is gone, then as (none)
deleting  sweep: the file is deleted     gone
========= ============================== ===========================================

The order of a publisher's steps makes this safe against SIGKILL and power loss anywhere: *announce* (a row exists) →
store → *sync* (the row survives) → flush (the file exists) → *add* (others may find it by content). So every file has a
row (but see :func:`~entrepot.content.sweep.sweep_strays`), and every index entry has its file.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from entrepot.content.sealing import Purpose
from entrepot.core.ids import ObjectId

SET: Final = 0
"""The purpose of an object set in the ledger; sealed objects have their :class:`Purpose`."""
MAX_BATCH: Final = 4096


class State(StrEnum):
    """Where an object stands; *gone* is having no row."""

    LIVE = "live"
    CONDEMNED = "condemned"
    DELETING = "deleting"


class KnownChunk(msgspec.Struct, frozen=True, kw_only=True):
    """What the index says about a plaintext that was sealed before: a chunk, a manifest part, a root (``purpose``)."""

    object_id: ObjectId
    sealed_size: int
    payload_hash: bytes
    generation: int
    purpose: int


class NewChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed object that is durably stored, to be found by ``index_hash`` from now on."""

    index_hash: bytes
    object_id: ObjectId
    sealed_size: int
    payload_hash: bytes
    generation: int


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """An object about to be stored. ``purpose``: a :class:`Purpose`, or :data:`SET`; ``plain_size``: what it opens to,
    for statistics (0: not known)."""

    object_id: ObjectId
    sealed_size: int
    purpose: int
    plain_size: int = 0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Distinct objects and their sealed bytes."""

    objects: int
    size: int


class Ledger(Protocol):
    """One session's view. Used by one thread at a time; any number of sessions run at once, in several processes.

    Every call keeps at least nine tenths of the session's lease ahead. Batches have at most :data:`MAX_BATCH` members.
    Errors of all methods: ``UnavailableError`` (retryable: the lease has lapsed, an object stays in deletion, the
    database does not answer), ``StorageError``.
    """

    @property
    def session(self) -> str:
        """The session's id, for :meth:`Library.adopt`."""

    def known(self, index_hashes: Sequence[bytes]) -> dict[bytes, KnownChunk]:
        """Those that are sealed and stored already; they are revived if condemned, and leased."""

    def announce(self, objects: Sequence[Announcement], *, durable: bool = True) -> None:
        """Lease objects that are about to be stored. Idempotent; waits while one of them is being deleted.

        Args:
            durable: whether that survives power loss from now on; else from :meth:`sync` on. Who says no stores with
                ``durable=False``, and calls ``sync`` before the shelf's ``flush``: a file that has a name has a row.
        """

    def sync(self) -> None:
        """All that was announced survives power loss from now on."""

    def add(
        self, chunks: Sequence[NewChunk], *, lost: Collection[bytes] = (), named: bool = False
    ) -> dict[bytes, KnownChunk]:
        """Enter announced and durably stored objects into the index. Power loss may take an entry back: then others
        do not find the object by its content, and seal it again.

        Args:
            lost: index hashes whose objects, as :meth:`known` gave them, are not there or not whole: these chunks take
                their places, and the session needs them no more.
            named: a manifest names these objects already: no lease changes, even where another session was first.

        Returns:
            those that another session entered first, as another object: use that one. It is leased instead. None of
            those that are named.
        """

    def held(self) -> Iterator[ObjectId]:
        """All leased objects except object sets, ascending, in bounded memory."""

    def totals(self, purpose: Purpose) -> Totals:
        """Leased objects of one purpose."""

    def renew(self) -> None:
        """Renew the lease, where nothing else is to be said for long."""


class Library(Protocol):
    """Sessions, and what becomes of them. The sets of a library are its content versions and deltas."""

    def open_session(self, subject: str, *, owner: str = "") -> Ledger:
        """Begin an attempt.

        Args:
            subject: says for whom, to people.
            owner: the work that this is an attempt of: when that has ended, attempts that were killed hold nothing any
                more. Without one, only their leases end them.
        """

    def close_session(self, session: str) -> None:
        """Give up an attempt: its leases end. Harmless when it is unknown."""

    def adopt(self, session: str, set_id: ObjectId) -> None:
        """The attempt succeeded: what the session holds is from now on needed by this set, and the session ends.

        Adopting a set again changes nothing.

        Raises:
            UnavailableError: the session's lease has lapsed; publish again.
        """

    def drop(self, set_id: ObjectId) -> None:
        """Nobody needs the set any more. Harmless when it is unknown."""


class SweepLedger(Protocol):
    """What the sweep needs of the ledger. All methods are idempotent, each is one transaction.

    Times are seconds since 1970.
    """

    def drop_lapsed(self, now: float) -> int:
        """Forget sessions whose lease, or whose owner's work, has ended; returns how many."""

    def condemn(self, now: float, after: ObjectId | None, limit: int) -> tuple[int, ObjectId | None]:
        """Examine the next ``limit`` live objects after an id; condemn those that no set and no session needs.

        Returns:
            how many were condemned, and the last one examined (None at the end).
        """

    def begin_deletion(self, condemned_before: float, limit: int) -> int:
        """Move up to ``limit`` objects condemned before then, and still not needed, to *deleting*; returns how many."""

    def finish_deletion(self, limit: int, delete: Callable[[Sequence[ObjectId]], None]) -> int:
        """Let ``delete`` remove the files of up to ``limit`` objects in *deleting*, durably, then remove their rows.

        The rows stay locked in between, so that no slower sweep deletes a file that a publisher has stored again. When
        ``delete`` raises, or the process is killed, the rows stay in *deleting*.

        Returns:
            how many are gone; 0 when none is left that no other sweep is busy with.
        """

    def unknown(self, found: Sequence[tuple[ObjectId, int]]) -> list[tuple[ObjectId, int]]:
        """Those files that have no row; changes nothing.

        Args:
            found: ids of files and their sizes, listed before this call.
        """

    def claim_strays(self, found: Sequence[tuple[ObjectId, int]], now: float) -> int:
        """Move files that have no row, such as after the database was restored from a backup, to *deleting*.

        Args:
            found: ids of files and their sizes, listed before this call.

        Returns:
            how many have no row.
        """
