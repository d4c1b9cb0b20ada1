"""The machine of ``test_sweep_stateful.py`` in SQL, with a distribution point: contents are removed while their objects
are on the way to it or lie there, and no sweep takes what a transfer still reads or what only the point's set names."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, multiple, rule, run_state_machine_as_test

from entrepot.content.sweep import sweep
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR
from entrepot.database import contents, pointsets, retention
from entrepot.database.contents import Version
from entrepot.database.engine import Database
from entrepot.database.objectsets import adopt_set
from entrepot.database.pointsets import PointSet
from entrepot.database.tables.points import point as point_table
from entrepot.objects.hashing import object_id_of

from ..rows import content_row
from .test_sweep_stateful import CHUNKS, MAKERS, Publisher, SweepMachine

POINT = "pt-1"


class Transfer:
    """One run of sending a set: it reads the objects in order, and the set object at last."""

    def __init__(self, set_id: ObjectId) -> None:
        self.set_id = set_id
        self.after = b""
        self.read: set[bytes] = set()


class TransferMachine(SweepMachine):
    """Each adopted set is the only version of a content. ``wanted``: those whose content is there still; ``on_point``:
    those that the point gets, has or loses. A set that is neither stays known until unused sets are dropped."""

    transfers = Bundle("transfers")

    def __init__(self, folder: Path, make: Callable[[Path], tuple[Any, Database]]) -> None:
        self.folder, self.make_in = folder, make
        super().__init__()
        self.wanted: set[bytes] = set()
        self.on_point: set[bytes] = set()
        with self.database.transaction() as connection:
            text = dict.fromkeys(("url", "certificates", "message"), "")
            flags = dict.fromkeys(("fallback", "internet_facing"), False)
            names = {"id": POINT, "name": "dp", "name_key": "dp", "kind": "standard", "site": "PS1", "state": "active"}
            keys = {"public_key": b"", "csr": b"", "certificate_expires": 0, "created": 0}
            connection.execute(point_table.insert().values(text | flags | names | keys))

    def make(self) -> Any:  # type: ignore[override]  # a method here, to reach the folder
        ledgers, self.database = self.make_in(self.folder)
        return ledgers

    def adopt(self, session: str, set_id: ObjectId) -> None:
        """As a publish ends: the set and its version in one transaction."""
        with self.database.transaction() as connection:
            adopt_set(connection, session, set_id, self.ledgers.now)
            contents.add_content(connection, content_row(_content(set_id), set_id.hex()[:16]))
            contents.add_version(connection, _version(set_id))
        self.wanted.add(set_id)

    @initialize(chunks=CHUNKS, maker=MAKERS, sent=st.booleans(), target=transfers)
    def publish_and_send(self, chunks: frozenset[int], maker: int, sent: bool) -> Any:
        """There is a version at the start, mostly on its way already: that steps are not spent on getting there."""
        publisher = self.open(chunks, maker)
        for _ in range(len(Publisher.STEPS) + 1):
            self.publish_step(publisher)
        return self._begin(object_id_of(publisher.set_data)) if sent else multiple()

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """The content is removed, whatever the point does."""
        if self.wanted:
            set_id = data.draw(st.sampled_from(sorted(self.wanted)))
            self._remove_content(set_id)

    @rule(target=transfers, data=st.data())
    def begin_transfer(self, data: st.DataObject) -> Any:
        if not self.wanted:
            return multiple()
        return self._begin(ObjectId(data.draw(st.sampled_from(sorted(self.wanted)))))

    def _begin(self, set_id: ObjectId) -> Transfer:
        with self.database.transaction() as connection:
            pointsets.begin_set(connection, _sending(set_id))
        self.on_point.add(set_id)
        return Transfer(set_id)

    @rule(transfer=transfers)
    def read_object(self, transfer: Transfer) -> None:
        """What the transfer reads next is there, with the bytes that it should have."""
        if transfer.set_id not in self.on_point:
            return  # the point loses the set: whoever sends it has stopped
        with self.database.reading() as connection:
            page = pointsets.objects_of(connection, transfer.set_id, after=transfer.after, limit=1)
        object_id = page[0].object_id if page else transfer.set_id
        if object_id not in self.broken:
            assert object_id_of(self.shelf.read_whole(object_id)) == object_id
        transfer.read.add(object_id)
        if page:
            transfer.after = object_id
            return
        assert transfer.read == self.adopted[transfer.set_id], "a transfer ended without an object of its set"
        with self.database.transaction() as connection:
            pointsets.hold_set(connection, POINT, transfer.set_id, now=self.ledgers.now)

    @rule(transfer=consumes(transfers))
    def end_transfer(self, transfer: Transfer) -> None:
        """It goes through, unless the point loses the set."""
        while transfer.set_id in self.on_point and transfer.set_id not in transfer.read:
            self.read_object(transfer)

    @rule(transfer=consumes(transfers))
    def kill_transfer(self, transfer: Transfer) -> None:
        """Nobody hears of it again; what has come of the set stays on the point."""

    @rule(data=st.data())
    def point_loses_a_set(self, data: st.DataObject) -> None:
        if self.on_point:
            self._lose(data.draw(st.sampled_from(sorted(self.on_point))))

    @rule()
    def drop_unused_sets(self) -> None:
        with self.database.transaction() as connection:
            retention.drop_unused_sets(connection)
        used = self.wanted | self.on_point
        self.adopted = {set_id: needs for set_id, needs in self.adopted.items() if set_id in used}

    @rule()
    def sweeps_for_hours(self) -> None:
        """Long enough that whatever nothing keeps is gone, while transfers take their time."""
        for _ in range(2):
            self.drop_unused_sets()
            self.ledgers.now += 3 * HOUR
            sweep(self.ledgers.sweeping, self.shelf, now=self.ledgers.now)

    def _lose(self, set_id: bytes) -> None:
        with self.database.transaction() as connection:
            pointsets.begin_removal(connection, POINT, set_id, now=self.ledgers.now)
            pointsets.forget_set(connection, POINT, set_id)
        self.on_point.remove(set_id)

    def _remove_content(self, set_id: bytes) -> None:
        with self.database.transaction() as connection:
            contents.remove_content(connection, _content(set_id))
        self.wanted.remove(set_id)

    def teardown(self) -> None:
        """Sweeps for hours spare what the point has, and nothing is left once it has nothing."""
        try:
            for set_id in sorted(self.wanted):
                self._remove_content(set_id)
            self.sweeps_for_hours()
            self.every_set_is_whole()
            for set_id in sorted(self.on_point):
                self.end_transfer(Transfer(ObjectId(set_id)))
                self._lose(set_id)
            self.drop_unused_sets()
            assert self.adopted == {}
            super().teardown()
        finally:
            self.database.close()
            shutil.rmtree(self.folder)


def _content(set_id: bytes) -> str:
    return f"pkg-{set_id.hex()[:16]}"


def _version(set_id: bytes) -> Version:
    sizes = ("set_size", "files", "folders", "links", "plain_size", "chunks", "stored_size")
    zeros = dict.fromkeys((*sizes, "new_objects", "new_bytes", "objects", "created"), 0)
    return Version(content=_content(set_id), number=1, set_id=set_id, root=b"r", warnings=(), **zeros)


def _sending(set_id: bytes) -> PointSet:
    zeros = dict.fromkeys(("from_version", "size", "changed", "retired"), 0)
    return PointSet(point=POINT, set_id=set_id, content=_content(set_id), version=1, state=pointsets.SENDING, **zeros)


def test_in_sqlite(make_sqlite_ledgers: Callable[[Path], tuple[Any, Database]]) -> None:
    run_state_machine_as_test(
        lambda: TransferMachine(Path(tempfile.mkdtemp(prefix="sweep")), make_sqlite_ledgers),
        settings=settings(max_examples=12, stateful_step_count=25, deadline=None),
    )
