"""A library to publish into, and the way back: a plain restore that trusts nothing but the reading side."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.content.checking import CheckLedger
from entrepot.content.chunking import DomainKeys, domain_keys
from entrepot.content.digests import digest_of
from entrepot.content.ledger import Ledger, SweepLedger
from entrepot.content.ledger import Library as LibraryPort
from entrepot.content.manifest import Entry, EntryKind, Part, Root
from entrepot.content.memory import MemoryLibrary
from entrepot.content.publish import Published, PublishOptions, publish
from entrepot.content.reading import open_root, parts
from entrepot.content.sealing import Generation, open_sealed
from entrepot.core.encoding import b64url, unb64url
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.database.engine import Database
from entrepot.database.library import SqlLibrary
from entrepot.database.librarychecks import SqlCheckLedger
from entrepot.database.librarysweep import SqlSweepLedger
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef

from ..databases import embedded_copy

GENERATION = Generation(1, Secret(b"c" * 32))


def sign(payload: bytes) -> str:
    """Stands for the site's key: header and signature are fixed, so that tests see the payload."""
    return f"test.{b64url(payload)}.{b64url(hashlib.sha256(payload).digest())}"


def verify(document: bytes) -> bytes:
    _, payload, signature = document.decode().split(".")
    data = unb64url(payload)
    assert hashlib.sha256(data).digest() == unb64url(signature)
    return data


class Library:
    """A shelf, a ledger and keys; publishes and restores."""

    def __init__(self, shelf: Shelf | None = None, keys: DomainKeys | None = None) -> None:
        self.shelf = shelf or Shelf(MemoryStore())
        self.ledgers = MemoryLibrary()
        self.keys = keys or domain_keys(Secret(b"d" * 32), GENERATION)

    def publish(
        self,
        source: Path,
        number: int = 1,
        *,
        excludes: tuple[str, ...] = (),
        for_windows: bool = False,
        ledger: Ledger | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Published:
        session = ledger or self.ledgers.open_session("test")
        published = publish(
            source,
            content="pkg-0011223344556677",
            number=number,
            shelf=self.shelf,
            ledger=session,
            keys=self.keys,
            sign=sign,
            options=PublishOptions(excludes=excludes, for_windows=for_windows),
            cancelled=cancelled,
        )
        self.ledgers.adopt(session.session, published.set_id)
        return published

    def fetch(self, ref: SealedRef) -> bytes:
        return self.shelf.read_whole(ObjectId(ref.object_id))

    def root(self, published: Published) -> Root:
        return open_root(self.fetch(published.root), published.root, verify)

    def parts(self, published: Published, *, for_windows: bool = False) -> Iterator[Part]:
        return parts(self.root(published), self.fetch, for_windows=for_windows)

    def entries(self, published: Published) -> list[Entry]:
        return [entry for part in self.parts(published) for entry in part.entries]

    def restore(self, published: Published, target: Path) -> None:
        """Rebuild the tree below ``target``."""
        target.mkdir()
        for part in self.parts(published):
            for entry in part.entries:
                self._restore_entry(entry, part, target / entry.path)

    def _restore_entry(self, entry: Entry, part: Part, where: Path) -> None:
        where.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == EntryKind.FOLDER:
            where.mkdir()
        elif entry.kind == EntryKind.LINK:
            where.symlink_to(entry.target)
        else:
            with where.open("ab" if entry.offset else "xb") as file:
                for extent in entry.extents:
                    ref = part.chunks[extent.chunk]
                    plain = open_sealed(self.fetch(ref), ref, "chunk")
                    file.write(plain[extent.offset : extent.offset + extent.length])
                size = file.tell()
            where.chmod(entry.mode)
            if size == entry.size:
                assert digest_of(where.read_bytes()) == entry.digest


def tree(root: Path) -> dict[str, tuple[str, int, bytes]]:
    """Everything below a folder: path → kind, permission bits, bytes or target."""
    found: dict[str, tuple[str, int, bytes]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            mode = path.lstat().st_mode & 0o777
            if path.is_symlink():
                found[str(path.relative_to(root))] = ("link", 0, str(path.readlink()).encode())
            elif path.is_dir():
                found[str(path.relative_to(root))] = ("folder", 0, b"")
            else:
                found[str(path.relative_to(root))] = ("file", mode, path.read_bytes())
    return found


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture(scope="session")
def make_library() -> type[Library]:
    return Library


@pytest.fixture(scope="session")
def tree_of() -> Callable[[Path], dict[str, tuple[str, int, bytes]]]:
    return tree


class Ledgers:
    """A ledger of either kind, with a clock and a pause that the test moves.

    Attributes:
        library: sessions and sets.
        sweeping: what the sweep needs.
        checking: what validation needs.
        now: seconds since 1970.
        pausing: called when a publisher waits for a deletion to end.
    """

    def __init__(self, database: Database | None) -> None:
        self.now = 1_000_000.0
        self.pauses = 0
        self.pausing: Callable[[], None] = lambda: None
        self.library: LibraryPort
        self.sweeping: SweepLedger
        self.checking: CheckLedger
        if database is None:
            memory = MemoryLibrary(clock=lambda: self.now, pause=self._pause)
            self.library, self.sweeping, self.checking = memory, memory, memory
        else:
            numbers = itertools.count(1)
            self.library = SqlLibrary(
                database, clock=lambda: self.now, new_id=lambda: f"session-{next(numbers)}", pause=self._pause
            )
            self.sweeping = SqlSweepLedger(database)
            self.checking = SqlCheckLedger(database)

    def _pause(self, seconds: float) -> None:
        self.pauses += 1
        self.pausing()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledgers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledgers]:
    """Every adapter of the ledger."""
    if request.param == "memory":
        yield Ledgers(None)
    elif request.param == "postgres":
        yield Ledgers(request.getfixturevalue("postgres_database"))
    else:
        database = embedded_copy(request.getfixturevalue("sqlite_template"), tmp_path / "test.db")
        yield Ledgers(database)
        database.close()


@pytest.fixture(scope="session")
def make_sqlite_ledgers(sqlite_template: Path) -> Callable[[Path], tuple[Ledgers, Database]]:
    def make(folder: Path) -> tuple[Ledgers, Database]:
        database = embedded_copy(sqlite_template, folder / "test.db")
        return Ledgers(database), database

    return make


@pytest.fixture(scope="session")
def make_memory_ledgers() -> Callable[[], Ledgers]:
    return lambda: Ledgers(None)


@pytest.fixture(scope="session")
def make_ledgers_of() -> Callable[[Database], Ledgers]:
    return Ledgers
