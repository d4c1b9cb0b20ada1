"""A rehearsal says exactly what publishing would do, and does nothing."""

import random
from pathlib import Path
from typing import Any

import pytest

from entrepot.content.publish import publish
from entrepot.content.rehearsal import RehearsedLedger, RehearsedShelf
from entrepot.core.sizes import MIB


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    noise = random.Random(4)
    (folder / "big").write_bytes(noise.randbytes(9 * MIB))
    for number in range(50):
        (folder / f"{number:02}").write_bytes(noise.randbytes(20_000))
    return folder


def rehearse(library: Any, source: Path, ledger: Any) -> Any:
    return publish(
        source,
        content="pkg-0011223344556677",
        number=1,
        shelf=RehearsedShelf(library.shelf.store),
        ledger=ledger,
        keys=library.keys,
        sign=lambda payload: f"test.{payload.hex()}",
    )


def test_it_is_exact_and_stores_nothing(library: Any, source: Path) -> None:
    session = library.ledgers.open_session("rehearsal")
    with RehearsedLedger(session) as ledger:
        said = rehearse(library, source, ledger)
        everything = ledger.everything()
    assert library.shelf.page() == []
    assert library.ledgers.sets == {}
    library.ledgers.close_session(session.session)
    done = library.publish(source)
    for name in ("files", "plain_size", "objects", "chunks", "stored_size", "new_objects"):
        assert getattr(said, name) == getattr(done, name), name
    sizes = sum(size for _, size in library.shelf.page())
    assert abs(everything + said.set_size - sizes) < 2000  # the signature is shorter here
    assert abs(said.new_bytes - done.new_bytes) < 2000


def test_after_a_change_only_that_is_new(library: Any, source: Path) -> None:
    first = library.publish(source)
    had = [object_id for object_id, _ in library.shelf.page()]
    (source / "07").write_bytes(b"changed")
    session = library.ledgers.open_session("rehearsal")
    with RehearsedLedger(session) as ledger:
        said = rehearse(library, source, ledger)
        lacking = ledger.lacking(had)
        assert ledger.lacking([]) == ledger.everything() > 9 * MIB
    library.ledgers.close_session(session.session)
    assert len(library.shelf.page()) == len(had)
    assert 0 < said.new_bytes < 2 * MIB < first.new_bytes
    assert 0 < lacking <= said.new_bytes
    assert said.new_objects < 6


def test_what_comes_again_much_later_counts_once(library: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is entered into the index, so a copy that comes when its first is forgotten is sealed anew."""
    for name in ("BATCH_BYTES", "GROUP_BYTES"):
        monkeypatch.setattr(f"entrepot.content.keeping.{name}", MIB)
    (source / "copy of big").write_bytes((source / "big").read_bytes())
    session = library.ledgers.open_session("rehearsal")
    with RehearsedLedger(session) as ledger:
        said = rehearse(library, source, ledger)
    library.ledgers.close_session(session.session)
    done = library.publish(source)
    assert said.new_objects == done.new_objects
    assert abs(said.new_bytes - done.new_bytes) < 2000
