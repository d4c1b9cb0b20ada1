"""Comparing two versions: once worked out, a comparison is kept in a scratch file and read page by page.

Versions never change, so a comparison does not either. It is worked out in bounded memory by merging the two manifests
into a small database; a removed and an added file of equal bytes become one that moved. The files are a cache: the
oldest go, and what a killed server left half done is made anew.
"""

import asyncio
import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.content.comparing import Differing, Kind, can_move, differences, entries
from entrepot.content.digests import is_former
from entrepot.content.manifest import Entry, Part
from entrepot.content.reading import open_root, parts
from entrepot.core.errors import BadInputError, StorageError
from entrepot.core.ids import ObjectId
from entrepot.core.paths import path_key
from entrepot.database import contents, librarystats
from entrepot.database.contents import Version
from entrepot.database.engine import Database
from entrepot.durable.files import storage_errors
from entrepot.objects.shelf import Shelf
from entrepot.protocol.libraryapi import Change, Comparison, Difference
from entrepot.site.keys.sitekeys import SiteKeys, root_name

KEPT: Final = 32
_BATCH: Final = 1000
_TABLES: Final = """
CREATE TABLE found (place INTEGER PRIMARY KEY, change TEXT, path TEXT, old_path TEXT, old_size INTEGER,
                    new_size INTEGER, digest BLOB);
CREATE TABLE total (same INTEGER, unlike INTEGER);
"""
_FORM: Final = 2
"""Of what is kept, in a file's name: one of another form is not read, and goes when it is among the oldest."""
_UNLIKE: Final = (
    "The digests of versions {old} and {new} are of different kinds (SHA-256, BLAKE3): every file that both have "
    "counts as changed, even if it has the same bytes, and none as moved."
)
_MOVES: Final = """
CREATE INDEX gone ON found (digest, place) WHERE change = 'removed' AND digest IS NOT NULL;
CREATE TEMP TABLE pair AS
SELECT came.place AS came, left.place AS left FROM
 (SELECT place, digest, row_number() OVER (PARTITION BY digest ORDER BY place) AS turn FROM found
  WHERE change = 'added' AND digest IS NOT NULL) AS came
 JOIN (SELECT place, digest, row_number() OVER (PARTITION BY digest ORDER BY place) AS turn FROM found
  WHERE change = 'removed' AND digest IS NOT NULL) AS left
 ON came.digest = left.digest AND came.turn = left.turn;
UPDATE found SET change = 'moved',
 old_path = (SELECT other.path FROM pair JOIN found AS other ON other.place = pair.left WHERE pair.came = found.place),
 old_size = new_size
 WHERE place IN (SELECT came FROM pair);
DELETE FROM found WHERE place IN (SELECT left FROM pair);
DROP INDEX gone;
CREATE INDEX by_path ON found (path);
"""


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """Totals, and a page of differences. ``unlike``: the versions' digests are of different kinds."""

    totals: dict[Change, int]
    same: int
    unlike: bool
    differences: tuple[Difference, ...]
    more: bool


class Comparisons:
    """Compares versions of contents.

    Args:
        scratch: folder for what is worked out; made when needed.
    """

    def __init__(self, database: Database, *, shelf: Shelf, keys: SiteKeys, scratch: Path) -> None:
        self._database = database
        self._shelf = shelf
        self._keys = keys
        self._scratch = scratch
        self._working = asyncio.Lock()

    async def compare(self, name_or_id: str, old: int, new: int, *, after: str, limit: int) -> Comparison:
        """Totals, and the page of differences that follows the path ``after``.

        Raises:
            NotFoundError: no such content or version.
            BadInputError: the two are the same.
            IntegrityError: an object of a manifest is damaged: repair the library.
        """
        if old == new:
            raise BadInputError("A version does not differ from itself.", next_step="Name two versions.")
        older, newer = await self._database.read(_pair, name_or_id, old, new)
        fetch, delta_saves = await self._database.read(librarystats.update_bytes, older, newer)
        file = self._scratch / f"{older.content}-{_name(older)}-{_name(newer)}.{_FORM}.db"
        async with (
            self._working
        ):  # one at a time: they are the same work for all who ask, and none goes while it is read
            page = await asyncio.to_thread(self._read, older, newer, file, after, limit)
        with_delta = fetch if delta_saves is None else fetch - delta_saves
        return Comparison(
            content=older.content,
            old=old,
            new=new,
            added=page.totals.get(Change.ADDED, 0),
            changed=page.totals.get(Change.CHANGED, 0),
            removed=page.totals.get(Change.REMOVED, 0),
            moved=page.totals.get(Change.MOVED, 0),
            same=page.same,
            fetch_bytes=fetch,
            delta_bytes=with_delta,
            has_delta=delta_saves is not None,
            differences=page.differences,
            more=page.more,
            remark=_UNLIKE.format(old=old, new=new) if page.unlike else "",
        )

    def _read(self, older: Version, newer: Version, file: Path, after: str, limit: int) -> _Page:
        if not file.exists():
            self._work_out(older, newer, file)
        with storage_errors(str(file)):
            os.utime(file)  # what was not asked for the longest goes first
        return _page(file, after, limit)

    def _work_out(self, older: Version, newer: Version, file: Path) -> None:
        with storage_errors(str(self._scratch)):
            self._scratch.mkdir(parents=True, exist_ok=True)
            self._forget_oldest()
            descriptor, made = tempfile.mkstemp(dir=self._scratch, suffix=".part")
            os.close(descriptor)
        try:
            with _opened(Path(made), "rw") as kept:
                kept.executescript(_TABLES)
                self._fill(kept, older, newer)
                kept.executescript(_MOVES)
                kept.commit()
            Path(made).replace(file)
        except BaseException:
            Path(made).unlink(missing_ok=True)
            raise

    def _fill(self, kept: sqlite3.Connection, older: Version, newer: Version) -> None:
        same = 0
        rows: list[tuple[object, ...]] = []
        before, after = set[bool](), set[bool]()
        for each in differences(entries(self._parts(older)), entries(self._parts(newer))):
            before |= _kind(each.old)
            after |= _kind(each.new)
            if each.kind is Kind.SAME:
                same += 1
                continue
            rows.append(_row(each))
            if len(rows) >= _BATCH:
                _insert(kept, rows)
        _insert(kept, rows)
        unlike = bool(before and after) and before.isdisjoint(after)
        kept.execute("INSERT INTO total VALUES (?, ?)", (same, unlike))

    def _parts(self, version: Version) -> Iterator[Part]:
        ref = self._keys.open_ref(root_name(version.content, version.number), version.root)
        root = open_root(self._shelf.read_whole(ObjectId(ref.object_id)), ref, self._keys.verify_manifest)
        return parts(root, lambda wanted: self._shelf.read_whole(ObjectId(wanted.object_id)))

    def _forget_oldest(self) -> None:
        """Make room; also for files that a killed server left half done."""
        found = sorted(self._scratch.glob("*.db"), key=lambda path: path.stat().st_mtime)
        for path in [*found[: max(0, len(found) - KEPT + 1)], *self._scratch.glob("*.part")]:
            with contextlib.suppress(OSError):  # on Windows somebody may be reading it
                path.unlink()


def _name(version: Version) -> str:
    return f"{version.number}.{version.sealing}"


def _pair(connection: Connection, name_or_id: str, old: int, new: int) -> tuple[Version, Version]:
    content = contents.get_content(connection, name_or_id).id
    return contents.get_version(connection, content, old), contents.get_version(connection, content, new)


def _kind(entry: Entry | None) -> set[bool]:
    """Of the digest of a file: whether it is a former one."""
    return {is_former(entry.digest)} if entry is not None and entry.digest else set()


def _row(each: Differing) -> tuple[object, ...]:
    only = each.old if each.new is None else each.new if each.old is None else None
    digest = only.digest if only is not None and can_move(only) else None
    old_size = each.old.size if each.old is not None else 0
    new_size = each.new.size if each.new is not None else 0
    return (each.kind.value, each.path, "", old_size, new_size, digest)


def _insert(kept: sqlite3.Connection, rows: list[tuple[object, ...]]) -> None:
    statement = "INSERT INTO found (change, path, old_path, old_size, new_size, digest) VALUES (?, ?, ?, ?, ?, ?)"
    kept.executemany(statement, rows)
    rows.clear()


@contextlib.contextmanager
def _opened(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A file that exists: a reader must never leave an empty one behind."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True)) as kept:
            kept.execute("PRAGMA journal_mode=OFF")
            kept.execute("PRAGMA synchronous=OFF")
            yield kept
    except sqlite3.OperationalError as error:
        raise StorageError("The comparison cannot be kept.", next_step="Check the site's disk.") from error


def _page(file: Path, after: str, limit: int) -> _Page:
    """Totals and a page; paths stand in path order, in which they were put in."""
    with storage_errors(str(file)), _opened(file, "ro") as kept:
        counted = kept.execute("SELECT change, count(*) FROM found GROUP BY change").fetchall()
        same, unlike = kept.execute("SELECT same, unlike FROM total").fetchone()
        place = _place(kept, after)
        query = "SELECT change, path, old_path, old_size, new_size FROM found WHERE place > ? ORDER BY place LIMIT ?"
        rows = kept.execute(query, (place, limit + 1)).fetchall()
    found = tuple(
        Difference(change=Change(change), path=path, old_path=old_path, old_size=old_size, new_size=new_size)
        for change, path, old_path, old_size, new_size in rows[:limit]
    )
    totals = {Change(change): number for change, number in counted}
    return _Page(totals=totals, same=same, unlike=bool(unlike), differences=found, more=len(rows) > limit)


def _place(kept: sqlite3.Connection, after: str) -> int:
    """Where a path stands; a path that is no difference stands where it would."""
    if not after:
        return 0
    row = kept.execute("SELECT place FROM found WHERE path = ?", (after,)).fetchone()
    if row is not None:
        return int(row[0])
    wanted = path_key(after)
    place = 0
    for number, path in kept.execute("SELECT place, path FROM found ORDER BY place"):
        if path_key(path) > wanted:
            break
        place = int(number)
    return place
