"""A library to publish into, and the way back: a plain restore that trusts nothing but the reading side."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.content.chunking import DomainKeys, domain_keys
from entrepot.content.ledger import Ledger
from entrepot.content.manifest import Entry, EntryKind, Part, Root
from entrepot.content.memory import MemoryLibrary
from entrepot.content.publish import Published, PublishOptions, publish
from entrepot.content.reading import open_root, parts
from entrepot.content.sealing import Generation, open_sealed
from entrepot.core.encoding import b64url, unb64url
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef

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
                assert hashlib.sha256(where.read_bytes()).digest() == entry.sha256


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
