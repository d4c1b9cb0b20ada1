"""The ledger in memory: for tests, and the plainest statement of its rules."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import msgspec

from entrepot.content.checking import Listed
from entrepot.content.ledger import SET, Announcement, KnownChunk, Ledger, NewChunk, State, Totals
from entrepot.content.sealing import Purpose
from entrepot.core.errors import NotFoundError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR
from entrepot.rules.verdicts import Verdict

_PAUSES: Final = 300


class _Row(msgspec.Struct):
    size: int
    purpose: int
    state: State
    changed: float


class _Session(msgspec.Struct):
    subject: str
    lease_until: float
    objects: set[ObjectId]


class MemoryLibrary:
    """A :class:`~entrepot.content.ledger.Library`, :class:`~entrepot.content.ledger.SweepLedger` and
    :class:`~entrepot.content.checking.CheckLedger` in memory."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = lambda: 0.0,
        pause: Callable[[float], None] = lambda _: None,
        lease_seconds: float = HOUR,
    ) -> None:
        self.clock = clock
        self.pause = pause
        self.lease_seconds = lease_seconds
        self.lock = threading.RLock()
        self.objects: dict[ObjectId, _Row] = {}
        self.index: dict[bytes, KnownChunk] = {}
        self.sets: dict[ObjectId, frozenset[ObjectId]] = {}
        self.sessions: dict[str, _Session] = {}
        self.checks: dict[ObjectId, tuple[float, Verdict]] = {}
        self._opened = 0

    def open_session(self, subject: str, *, owner: str = "") -> Ledger:
        """See :meth:`Library.open_session`. What is killed takes this library with it: an owner matters to nobody."""
        del owner
        with self.lock:
            self._opened += 1
            session = f"session-{self._opened}"
            self.sessions[session] = _Session(subject, self.clock() + self.lease_seconds, set())
        return MemoryLedger(self, session)

    def close_session(self, session: str) -> None:
        """See :meth:`Library.close_session`."""
        with self.lock:
            self.sessions.pop(session, None)

    def adopt(self, session: str, set_id: ObjectId) -> None:
        """See :meth:`Library.adopt`."""
        with self.lock:
            found = self.sessions.get(session)
            if found is None:
                if set_id in self.sets:
                    return
                raise UnavailableError("The publish session's lease has lapsed.")
            if set_id not in found.objects:
                raise NotFoundError(f"The object set {set_id.hex()[:16]} was not made in this session.")
            members = frozenset(each for each in found.objects if self.objects[each].purpose != SET)
            self.sets.setdefault(set_id, members)
            del self.sessions[session]

    def drop(self, set_id: ObjectId) -> None:
        """See :meth:`Library.drop`."""
        with self.lock:
            self.sets.pop(set_id, None)

    def needed(self) -> set[ObjectId]:
        """All objects that a set or a session needs."""
        with self.lock:
            held = (each.objects for each in self.sessions.values())
            return set().union(self.sets, *self.sets.values(), *held)

    def drop_lapsed(self, now: float) -> int:
        """See :meth:`SweepLedger.drop_lapsed`."""
        with self.lock:
            lapsed = [name for name, session in self.sessions.items() if session.lease_until < now]
            for name in lapsed:
                del self.sessions[name]
            return len(lapsed)

    def condemn(self, now: float, after: ObjectId | None, limit: int) -> tuple[int, ObjectId | None]:
        """See :meth:`SweepLedger.condemn`."""
        with self.lock:
            live = sorted(key for key, row in self.objects.items() if row.state == State.LIVE and key > (after or b""))
            window = live[:limit]
            idle = set(window) - self.needed()
            for object_id in idle:
                self._change(object_id, State.CONDEMNED, now)
            return len(idle), window[-1] if window else None

    def begin_deletion(self, condemned_before: float, limit: int) -> int:
        """See :meth:`SweepLedger.begin_deletion`."""
        with self.lock:
            needed = self.needed()
            due = [key for key, row in self.objects.items() if row.state == State.CONDEMNED]
            due = [key for key in due if self.objects[key].changed < condemned_before]
            doomed = set([key for key in due if key not in needed][:limit])
            for object_id in due:
                if object_id in needed:
                    self._change(object_id, State.LIVE, condemned_before)
            for object_id in doomed:
                self._change(object_id, State.DELETING, condemned_before)
            self.index = {key: known for key, known in self.index.items() if known.object_id not in doomed}
            return len(doomed)

    def finish_deletion(self, limit: int, delete: Callable[[Sequence[ObjectId]], None]) -> int:
        """See :meth:`SweepLedger.finish_deletion`."""
        with self.lock:
            ids = sorted(key for key, row in self.objects.items() if row.state == State.DELETING)[:limit]
            if ids:
                delete(ids)
            for object_id in ids:
                del self.objects[object_id]
                self.checks.pop(object_id, None)
            return len(ids)

    def unknown(self, found: Sequence[tuple[ObjectId, int]]) -> list[tuple[ObjectId, int]]:
        """See :meth:`SweepLedger.unknown`."""
        with self.lock:
            return [each for each in found if each[0] not in self.objects]

    def claim_strays(self, found: Sequence[tuple[ObjectId, int]], now: float) -> int:
        """See :meth:`SweepLedger.claim_strays`."""
        with self.lock:
            strays = self.unknown(found)
            for object_id, size in strays:
                self.objects[object_id] = _Row(size, SET, State.DELETING, now)
            return len(strays)

    def due(self, before: float, after: ObjectId | None, limit: int) -> list[Listed]:
        """See :meth:`CheckLedger.due`."""
        with self.lock:
            settled = sorted(each for each in self._settled() if each > (after or b""))
            due = [each for each in settled if self.checks.get(each, (-1.0, Verdict.GOOD))[0] < before]
            return [Listed(object_id=each, size=self.objects[each].size) for each in due[:limit]]

    def note(
        self, sound: Sequence[ObjectId], suspect: Sequence[ObjectId], now: float, look: Callable[[ObjectId], Verdict]
    ) -> dict[ObjectId, Verdict]:
        """See :meth:`CheckLedger.note`."""
        with self.lock:
            settled = self._settled()
            found = {each: look(each) for each in suspect if each in settled}
            good = {each: Verdict.GOOD for each in sound if each in settled}
            self.checks |= {each: (now, verdict) for each, verdict in (good | found).items()}
            return found

    def faulty(self, after: ObjectId | None, limit: int) -> list[Listed]:
        """See :meth:`CheckLedger.faulty`."""
        with self.lock:
            bad = sorted(
                each for each in self._settled() if each > (after or b"") and self._verdict(each) is not Verdict.GOOD
            )
            return [Listed(object_id=each, size=self.objects[each].size) for each in bad[:limit]]

    def _settled(self) -> set[ObjectId]:
        """What sets need: durably stored, whatever sessions are doing."""
        return set().union(self.sets, *self.sets.values())

    def _verdict(self, object_id: ObjectId) -> Verdict:
        return self.checks.get(object_id, (0.0, Verdict.GOOD))[1]

    def bad(self, object_id: ObjectId) -> bool:
        """Whether validation found an object missing or damaged."""
        return self._verdict(object_id) is not Verdict.GOOD

    def _change(self, object_id: ObjectId, state: State, now: float) -> None:
        self.objects[object_id].state, self.objects[object_id].changed = state, now

    def hold(self, session: _Session, object_id: ObjectId) -> None:
        """Lease an object, and revive it if condemned."""
        if self.objects[object_id].state == State.CONDEMNED:
            self._change(object_id, State.LIVE, self.clock())
        session.objects.add(object_id)


class MemoryLedger:
    """One session; made by :meth:`MemoryLibrary.open_session`."""

    def __init__(self, library: MemoryLibrary, session: str) -> None:
        self._library = library
        self._session = session

    @property
    def session(self) -> str:
        """See :attr:`Ledger.session`."""
        return self._session

    def known(self, index_hashes: Sequence[bytes]) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.known`."""
        library = self._library
        with library.lock:
            session = self._renewed()
            found = {key: library.index[key] for key in index_hashes if key in library.index}
            for chunk in found.values():
                library.hold(session, chunk.object_id)
            return found

    def announce(self, objects: Sequence[Announcement], *, durable: bool = True) -> None:
        """See :meth:`Ledger.announce`."""
        del durable  # nothing is
        for _ in range(_PAUSES):
            objects = self._announce(objects)
            if not objects:
                return
            self._library.pause(0.1)
        raise UnavailableError(f"{len(objects)} objects are being deleted from the library.")

    def _announce(self, objects: Sequence[Announcement]) -> list[Announcement]:
        """Lease what is not being deleted; the rest."""
        library = self._library
        left = []
        with library.lock:
            session = self._renewed()
            for each in objects:
                fresh = _Row(each.sealed_size, each.purpose, State.LIVE, library.clock())
                if library.objects.setdefault(each.object_id, fresh).state == State.DELETING:
                    left.append(each)
                else:
                    library.hold(session, each.object_id)
        return left

    def add(
        self, chunks: Sequence[NewChunk], *, lost: Collection[bytes] = (), named: bool = False
    ) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.add`."""
        library = self._library
        winners = {}
        with library.lock:
            session = self._renewed()
            for each in chunks:
                mine = KnownChunk(
                    object_id=each.object_id,
                    sealed_size=each.sealed_size,
                    payload_hash=each.payload_hash,
                    generation=each.generation,
                    purpose=library.objects[each.object_id].purpose,
                )
                before = library.index.get(each.index_hash)
                gone = before is not None and (each.index_hash in lost or library.bad(before.object_id))
                if before is not None and gone and before.object_id != each.object_id:
                    del library.index[each.index_hash]
                    if not named:
                        session.objects.discard(before.object_id)
                winner = library.index.setdefault(each.index_hash, mine)
                if winner.object_id != each.object_id and not named:
                    winners[each.index_hash] = winner
                    library.hold(session, winner.object_id)
                    session.objects.discard(each.object_id)
        return winners

    def held(self) -> Iterator[ObjectId]:
        """See :meth:`Ledger.held`."""
        library = self._library
        with library.lock:
            mine = sorted(each for each in self._renewed().objects if library.objects[each].purpose != SET)
        return iter(mine)

    def totals(self, purpose: Purpose) -> Totals:
        """See :meth:`Ledger.totals`."""
        library = self._library
        with library.lock:
            mine = [library.objects[each] for each in self._renewed().objects]
        sizes = [row.size for row in mine if row.purpose == purpose]
        return Totals(objects=len(sizes), size=sum(sizes))

    def renew(self) -> None:
        """See :meth:`Ledger.renew`."""
        with self._library.lock:
            self._renewed()

    def sync(self) -> None:
        """See :meth:`Ledger.sync`."""
        self.renew()

    def _renewed(self) -> _Session:
        session = self._library.sessions.get(self._session)
        if session is None:
            raise UnavailableError("The publish session's lease has lapsed.", next_step="Publish again: it resumes.")
        session.lease_until = self._library.clock() + self._library.lease_seconds
        return session
