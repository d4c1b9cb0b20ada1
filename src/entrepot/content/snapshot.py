"""Walks a source folder, or takes a single file, in path order: what a version will contain, refused by name where it
cannot.

Only one folder's names per level are in memory. Nothing is followed: a link is an item of its own, and must stay
inside. The source may change at any moment; whoever reads a file checks it against :class:`FileItem`
(``content/sources.py``), and a folder whose names changed while its items were read is refused here. So is one that a
link took the place of meanwhile, and gave back: whoever moves a folder leaves other times on it and on the one above.
"""

import contextlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.content.patterns import Excludes
from entrepot.core.errors import FormatError, NotFoundError, RefusedError
from entrepot.core.paths import case_key, check_path, is_plain, link_stays_inside, windows_problem

MAX_WARNINGS: Final = 100
_LONG: Final = 512  # characters: longer ones are measured in bytes and folders, too
_REPARSE_POINT: Final = 0x400


class FileItem(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A regular file. ``where`` is on this machine; ``identity`` is what must not change while it is read."""

    path: str
    where: bytes
    size: int
    mode: int
    identity: tuple[int, ...]


class FolderItem(msgspec.Struct, frozen=True, gc=False):
    """An empty folder."""

    path: str
    mode: int


class LinkItem(msgspec.Struct, frozen=True, gc=False):
    """A symbolic link that stays inside."""

    path: str
    target: str


Item = FileItem | FolderItem | LinkItem


def identity(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written, replaced or truncated."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Warnings:
    """Remarks about names that are stored, but not everywhere. The first hundred of each kind are kept.

    Attributes:
        count: names that Windows cannot store.
    """

    def __init__(self, *, for_windows: bool) -> None:
        self._for_windows = for_windows
        self._kept: list[str] = []
        self._forms = 0
        self.count = 0

    def name(self, text: str) -> None:
        """A name that Windows cannot store.

        Raises:
            RefusedError: the content is meant for Windows.
        """
        if self._for_windows:
            raise RefusedError(text, next_step="Rename it, exclude it, or publish without --for-windows.")
        self.count += 1
        if self.count <= MAX_WARNINGS:
            self._kept.append(text)

    def forms(self, text: str) -> None:
        """Two names that Windows keeps apart, and macOS does not: content that is meant for Windows has them, too."""
        self._forms += 1
        if self._forms <= MAX_WARNINGS:
            self._kept.append(text)

    def texts(self) -> tuple[str, ...]:
        """What was kept, and how many more there were."""
        more, forms = self.count - MAX_WARNINGS, self._forms - MAX_WARNINGS
        texts = list(self._kept)
        if more > 0:
            texts.append(f"There are {more} further names that Windows cannot store.")
        if forms > 0:
            texts.append(
                f"There are {forms} further pairs of names that are one name where Unicode form does not count."
            )
        return tuple(texts)


class _Level(msgspec.Struct):
    """A folder whose items are being given."""

    path: str  # ends with a slash, or is empty for the root
    where: str  # ends with the system's separator
    names: list[str]  # the next one at the end
    before: tuple[int, ...]  # of :func:`_folder_identity`


def walk(source: Path, excludes: Excludes, warnings: Warnings) -> Iterator[Item]:
    """All items of a source in path order.

    Raises:
        NotFoundError: the source does not exist.
        RefusedError: something in it cannot be published; the text names it.
    """
    try:
        found = source.stat()
    except OSError as error:
        raise NotFoundError(f"The source {str(source)!r} cannot be read: {error.strerror}.") from None
    if not stat.S_ISDIR(found.st_mode):
        _check_name(source.name, source.name, warnings)
        yield _file(source.name, os.path.realpath(source), found)  # a link to it may be named, as one to a folder may
        return
    yield from _below(os.path.realpath(source), excludes, warnings)


def _below(root: str, excludes: Excludes, warnings: Warnings) -> Iterator[Item]:
    levels = [_enter("", root, _looked_at_again(".", root), excludes, warnings)]
    while levels:
        level = levels[-1]
        if not level.names:
            _check_unchanged(level)
            levels.pop()
            continue
        name = level.names.pop()
        path, where = level.path + name, level.where + name
        try:
            found = _look_at(where)
        except OSError as error:
            raise unreadable(path, error) from None
        if stat.S_ISREG(found.st_mode):
            yield _file(path, where, found)
        elif not stat.S_ISDIR(found.st_mode) or _is_junction(found):
            yield _leaf(path, where, found, root)
        else:
            below = _enter(f"{path}/", where, _folder_identity(found), excludes, warnings)
            if below.names:
                levels.append(below)
            else:
                _check_unchanged(below)
                yield FolderItem(path, found.st_mode & 0o777)


def sizes(source: Path, excludes: Excludes) -> Iterator[int]:
    """The sizes of the files that a source has, in any order: a quick look that judges nothing, and passes over what it
    cannot read."""
    try:
        found = source.stat()
    except OSError:
        return
    if not stat.S_ISDIR(found.st_mode):
        yield found.st_size
        return
    folders = [("", os.path.realpath(source))]
    while folders:
        path, where = folders.pop()
        with contextlib.suppress(OSError), os.scandir(where) as entries:
            for entry in entries:
                if excludes and excludes.match(path + entry.name, folder=entry.is_dir(follow_symlinks=False)):
                    continue
                found = _look_at(entry.path)
                if stat.S_ISREG(found.st_mode):
                    yield found.st_size
                elif stat.S_ISDIR(found.st_mode) and not _is_junction(found):
                    folders.append((f"{path}{entry.name}/", entry.path))


def _look_at(where: str) -> os.stat_result:
    """What is there now; links are not followed. Not by a directory entry's ``stat``: that keeps the interpreter while
    it asks the system, and a file server that does not answer would hold up every thread of the process."""
    return os.lstat(where)


def _folder_identity(found: os.stat_result) -> tuple[int, ...]:
    """What changes when names come or go in a folder, or when another takes its place, even for a while: the time of
    its modification may be set back by whoever owns it, the last one (``ctime``) by nobody."""
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def _looked_at_again(path: str, where: str) -> tuple[int, ...]:
    try:
        return _folder_identity(os.stat(where))  # noqa: PTH116 - so many Path objects would double the walk
    except OSError as error:
        raise unreadable(path, error) from None


def _enter(path: str, where: str, before: tuple[int, ...], excludes: Excludes, warnings: Warnings) -> _Level:
    """Read a folder's names; ``path`` ends with a slash, or is empty for the root."""
    try:
        with os.scandir(where) as scanned:
            names = [
                entry.name
                for entry in scanned
                if not (excludes and excludes.match(path + entry.name, folder=entry.is_dir(follow_symlinks=False)))
            ]
    except OSError as error:
        raise unreadable(path or where, error) from None
    names.sort(reverse=True)  # by code point, which is the order of UTF-8 bytes, too
    foreign = False
    for name in reversed(names):
        if len(path) > _LONG or not is_plain(name):
            _check_name(path + name, name, warnings)
            foreign = foreign or not name.isascii()
    if len({hash(case_key(name)) for name in names}) < len(names):  # their hashes take less than the keys themselves
        _warn_of_collisions(path, names[::-1], warnings)
    if foreign and len({hash(_form_key(name)) for name in names}) < len(names):
        _warn_of_forms(path, names[::-1], warnings)
    return _Level(path, os.path.join(where, ""), names, before)  # noqa: PTH118 - as above


def _warn_of_collisions(path: str, names: list[str], warnings: Warnings) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(case_key(name), name)
        if other != name:
            warnings.name(f"{path + name!r} and {path + other!r} are one name where case does not count.")


def _form_key(name: str) -> str:
    """Two names with equal keys collide on macOS, where neither case nor Unicode form counts."""
    return case_key(unicodedata.normalize("NFC", name))


def _warn_of_forms(path: str, names: list[str], warnings: Warnings) -> None:
    """Names are shown with their code points, or nobody could tell them apart; what differs by case is warned of
    already."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_form_key(name), name)
        if case_key(other) != case_key(name):
            warnings.forms(
                f"{path + name!a} and {path + other!a} are one name where Unicode form does not count (macOS)."
            )


def _check_name(path: str, name: str, warnings: Warnings) -> None:
    _check_encoding(path)
    try:
        check_path(path)
    except FormatError:
        raise RefusedError(
            f"The path {path[:200]!r} is too long, or too deep, to be published.",
            next_step="Shorten the names on the way to it, or exclude it.",
        ) from None
    problem = windows_problem(name)
    if problem:
        warnings.name(f"Windows cannot store {path!r}: {problem}.")


def _check_encoding(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefusedError(f"The name {text!r} is not valid UTF-8.", next_step="Rename it, or exclude it.") from None


def _leaf(path: str, where: str, found: os.stat_result, root: str) -> Item:
    if stat.S_ISLNK(found.st_mode):
        return _link(path, where, root)
    raise RefusedError(f"{path!r} is {_kind(found.st_mode)}; only files, folders and links can be published.")


def _file(path: str, where: str, found: os.stat_result) -> FileItem:
    if not stat.S_ISREG(found.st_mode):
        raise RefusedError(f"{path!r} is {_kind(found.st_mode)}; only files, folders and links can be published.")
    return FileItem(path, os.fsencode(where), found.st_size, found.st_mode & 0o777, identity(found))


def _link(path: str, where: str, root: str) -> LinkItem:
    try:
        target = os.readlink(where)  # noqa: PTH115 - as above
        # Links may lead through other links: where this one ends in fact must be inside, too.
        end = os.path.realpath(where)
    except OSError as error:
        raise unreadable(path, error) from None
    target = target.replace(os.sep, "/")
    _check_encoding(f"{path} -> {target}")
    if not link_stays_inside(path, target) or not _is_within(root, end):
        raise RefusedError(
            f"The link {path!r} leads to {target!r}, out of the content (or may, by going up after a name).",
            next_step="Replace it, or exclude it.",
        )
    return LinkItem(path, target)


def _is_within(root: str, end: str) -> bool:
    try:
        return os.path.commonpath([root, end]) == root
    except ValueError:  # Windows: another drive
        return False


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISSOCK, "a socket"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISBLK, "a device"))
    named = [name for test, name in (*kinds, (stat.S_ISCHR, "a device")) if test(mode)]
    return named[0] if named else "of an unknown kind"


def _is_junction(found: os.stat_result) -> bool:
    """Windows: a mount point looks like a folder, but leads elsewhere."""
    attributes: int = getattr(found, "st_file_attributes", 0)
    return bool(attributes & _REPARSE_POINT)


def _check_unchanged(level: _Level) -> None:
    if _looked_at_again(level.path or level.where, level.where) != level.before:
        raise RefusedError(
            f"The folder {level.path or '.'!r} changed while it was being read.",
            next_step="Publish again when nothing writes to the source.",
        )


def unreadable(path: str, error: OSError) -> RefusedError:
    """The error that names what cannot be read, or is not there any more."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RefusedError(
            f"{path!r} disappeared while the source was being read.",
            next_step="Publish again when nothing writes to the source.",
        )
    return RefusedError(f"{path!r} cannot be read: {error.strerror}.", next_step="Check its disk and permissions.")
