"""Unpacks an archive into a folder, so that what it holds is published, not itself (chunks of compressed bytes are
never equal again).

Archives are foreign bytes. Nothing is written outside the folder: every path is checked, links are made when all files
are there, hard links lead to files that were unpacked before. Names that occur twice, devices, and passwords are
refused, and so is an archive that unpacks to far more than it is (a *bomb*), or that changes while it is read. Memory
does not grow with what is unpacked; only a zip's own directory is held. The disk is never filled: what may be written
is asked for before and again and again while unpacking.
"""

import contextlib
import errno
import functools
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Final, cast

import msgspec

from entrepot.content.archivestreams import DAMAGES, open_deb, open_tar
from entrepot.content.snapshot import identity, unreadable
from entrepot.content.sources import changed
from entrepot.core.errors import CancelledError, FormatError, RefusedError, StorageError
from entrepot.core.paths import check_path, link_stays_inside
from entrepot.core.sizes import GIB, KIB, MIB, format_size
from entrepot.durable.files import storage_errors

ZIPS: Final = (".zip", ".whl", ".nupkg", ".jar")
TARS: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
DEB: Final = ".deb"
MAX_ENTRIES: Final = 1_000_000
MAX_LINKS: Final = 100_000
MAX_DIRECTORY: Final = 16 * MIB
"""Of a zip: its list of entries, which Python's reader holds in memory."""
ALWAYS_ALLOWED: Final = GIB
MAX_RATIO: Final = 200
ASK_BYTES: Final = 64 * MIB
"""After so many bytes it is asked again how much room is left."""
_PIECE: Final = 256 * KIB
_MAX_TARGET: Final = 4 * KIB
_END_RECORD: Final = b"PK\x05\x06"
_BY_HAND: Final = "Unpack it by hand and publish the folder, if you trust it."


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an archive. ``mode`` has the kind's bits, too; ``target`` is a link's, ``hard`` a hard link's."""

    path: str
    mode: int
    target: str = ""
    hard: bool = False
    open: Callable[[], IO[bytes]] | None = None


def is_archive(path: Path) -> bool:
    """Whether the name says that it is an archive which can be unpacked here."""
    return path.name.lower().endswith((*ZIPS, *TARS, DEB))


def check_archive(path: Path) -> None:
    """See that something can be unpacked, as far as its name and kind say.

    Raises:
        RefusedError: it is no archive.
    """
    if not is_archive(path) or not path.is_file():
        names = ", ".join((*ZIPS, *TARS, DEB))
        raise RefusedError(f"{path.name!r} is no archive.", next_step=f"Archives end with {names}.")


def unpack(
    archive: Path,
    folder: Path,
    *,
    room: Callable[[], int],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Unpack an archive into an empty folder. On an error the folder may hold a part of it: the caller removes it.

    Args:
        room: how many bytes may be written to the folder's disk now.
        progress: told the bytes written, and all there will be (0: the archive does not say).

    Raises:
        RefusedError: no archive, damaged, changing, or it holds what is not to be unpacked; the text names it.
        StorageError: there is not enough room for it.
        CancelledError: ``cancelled`` said so.
    """
    check_archive(archive)
    name = archive.name.lower()
    members = _zip_members if name.endswith(ZIPS) else _tar_members
    try:
        before = archive.stat()
        unpacking = _Unpacking(archive, folder, before.st_size, room, progress, cancelled)
        with contextlib.closing(members(archive)) as found:
            for member in found:
                unpacking.take(member)
        unpacking.finish()
        if identity(archive.stat()) != identity(before):
            raise changed(archive.name)
    except DAMAGES as error:
        raise RefusedError(
            f"The archive {archive.name!r} is damaged: {str(error) or type(error).__name__}.", next_step="Get it again."
        ) from error
    except OSError as error:  # what concerns the folder is a StorageError by now
        raise unreadable(archive.name, error) from error


class _Unpacking:
    """Writes members below a folder."""

    def __init__(
        self,
        archive: Path,
        folder: Path,
        size: int,
        room: Callable[[], int],
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._name = archive.name
        self._folder = folder
        self._left = self._limit = max(ALWAYS_ALLOWED, MAX_RATIO * size)
        self._room = room
        self._progress = progress
        self._cancelled = cancelled
        self._entries = self._written = self._total = 0
        self._links: list[tuple[str, str]] = []
        plain = archive.name.lower().endswith((".tar", *ZIPS))
        self._total = _told_size(archive, size) if plain else 0
        self._ask_for(self._total or size)

    def _ask_for(self, size: int) -> None:
        """See that there is room for so many bytes more."""
        free = self._room()
        if size > free:
            raise StorageError(
                f"Unpacking {self._name!r} takes {format_size(size)} more, and the site's disk has room for "
                f"{format_size(max(0, free))}.",
                next_step="Free space on it, or unpack the archive elsewhere and publish the folder.",
            )

    def take(self, member: Member) -> None:
        """Write a member; remember a link for the end."""
        self._count(1)
        path = self._checked(member.path)
        if not path:
            return  # the root itself
        where = self._folder.joinpath(*path.split("/"))
        kind = stat.S_IFMT(member.mode)
        with storage_errors(path), self._clashes(path):
            if kind == stat.S_IFDIR:
                self._make_folder(where)
            elif kind == stat.S_IFLNK:
                self._remember_link(path, member.target)
            elif kind == stat.S_IFREG:
                self._make_folder(where.parent)
                if member.hard:
                    self._link_hard(path, where, member.target)
                else:
                    self._write(where, member)
            else:
                raise self._refused(f"holds {path!r}, which is neither a file nor a folder nor a link")

    def finish(self) -> None:
        """Make the links: no file is written any more, so none can be written through them; nor is a link."""
        for path, target in self._links:
            with storage_errors(path), self._clashes(path):
                folder = self._folder
                *above, name = path.split("/")
                for each in above:
                    folder /= each
                    if folder.is_symlink():
                        raise NotADirectoryError(errno.ENOTDIR, "a link", path)
                    folder.mkdir(exist_ok=True)
                (folder / name).symlink_to(target)

    def _count(self, more: int) -> None:
        """Folders that are only implied count, too: one name may imply two thousand."""
        if self._cancelled():
            raise CancelledError("Publishing was cancelled.")
        self._entries += more
        if self._entries > MAX_ENTRIES:
            raise self._refused(f"has more than {MAX_ENTRIES} entries")

    def _make_folder(self, where: Path) -> None:
        missing = 0
        above = where
        while not above.exists():
            missing += 1
            above = above.parent
        self._count(missing)
        where.mkdir(parents=True, exist_ok=True)

    def _checked(self, path: str) -> str:
        plain = path.removeprefix("./").rstrip("/")
        if plain in ("", "."):
            return ""
        try:
            plain.encode()
        except UnicodeEncodeError:
            raise RefusedError(
                f"The archive {self._name!r} holds a name that is not valid UTF-8: {path[:200]!r}.",
                next_step="Unpack it by hand, rename the file, and publish the folder.",
            ) from None
        try:
            if "\\" in plain or plain.startswith("/"):
                raise FormatError("not a path of ours")
            return check_path(plain)
        except FormatError:
            raise self._refused(f"holds the unsafe path {path[:200]!r}") from None

    def _remember_link(self, path: str, target: str) -> None:
        if len(self._links) >= MAX_LINKS:
            raise self._refused(f"holds more than {MAX_LINKS} links")
        if not link_stays_inside(path, target):
            raise self._refused(f"holds the link {path!r} to {target[:200]!r}, which leads outside")
        self._links.append((path, target))

    def _link_hard(self, path: str, where: Path, target: str) -> None:
        source = self._folder.joinpath(*self._checked(target).split("/"))
        try:
            regular = stat.S_ISREG(source.lstat().st_mode)
        except OSError:
            regular = False
        if not regular:
            raise self._refused(f"holds the hard link {path!r} to {target[:200]!r}, which is no file before it")
        os.link(source, where)

    def _write(self, where: Path, member: Member) -> None:
        assert member.open is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        mode = (member.mode & 0o777) | 0o600
        with member.open() as data, os.fdopen(os.open(where, flags, mode), "wb") as file:
            while piece := data.read(_PIECE):
                self._left -= len(piece)
                if self._left < 0:
                    raise self._refused(f"unpacks to more than {format_size(self._limit)}, far more than its size")
                if self._written // ASK_BYTES != (self._written + len(piece)) // ASK_BYTES:
                    self._ask_for(ASK_BYTES)
                self._written += len(piece)
                self._progress(self._written, self._total)
                if self._cancelled():
                    raise CancelledError("Publishing was cancelled.")
                file.write(piece)
        where.chmod(mode)  # whatever the umask says

    @contextlib.contextmanager
    def _clashes(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise self._refused(f"holds {path!r} twice, or below something that is no folder") from None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise self._refused(f"holds {path[:200]!r}, a path too long for this disk") from None
            raise

    def _refused(self, what: str) -> RefusedError:
        return RefusedError(f"The archive {self._name!r} {what}.", next_step=_BY_HAND)


def _zip_members(path: Path) -> Generator[Member, None, None]:
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise RefusedError(f"{info.filename[:200]!r} in {path.name!r} needs a password.", next_step=_BY_HAND)
            if info.compress_type == zipfile.ZIP_LZMA:
                raise RefusedError(
                    f"{info.filename[:200]!r} in {path.name!r} is packed with LZMA, whose memory a zip does not bound.",
                    next_step=_BY_HAND,
                )
            mode = info.external_attr >> 16
            if info.is_dir():
                mode = stat.S_IFDIR | 0o755
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                mode = stat.S_IFREG | (mode & 0o777 or 0o644)
            target = ""
            if stat.S_ISLNK(mode):
                with archive.open(info) as data:
                    target = data.read(_MAX_TARGET).decode(errors="surrogateescape")
            yield Member(path=info.filename, mode=mode, target=target, open=functools.partial(archive.open, info))


def _told_size(path: Path, size: int) -> int:
    """What a zip's directory says that its files have, or a tar's own size; neither is believed later."""
    if path.name.lower().endswith(".tar"):
        return size
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        return sum(info.file_size for info in archive.infolist())


def _check_directory(path: Path) -> None:
    """Refuse a zip whose directory would not fit in memory, before anyone reads it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 22 - 65_536 - 76))
        tail = file.read()
    at = tail.rfind(_END_RECORD)
    if at < 0:
        raise zipfile.BadZipFile("it has no directory")
    claim = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail.rfind(b"PK\x06\x07", 0, at)
    if locator >= 0:  # zip64: the real size is in another record
        with path.open("rb") as file:
            file.seek(min(size, int.from_bytes(tail[locator + 8 : locator + 16], "little")))
            claim = int.from_bytes(file.read(56)[40:48], "little")
    if claim > MAX_DIRECTORY:
        raise RefusedError(f"The archive {path.name!r} lists too many entries.", next_step=_BY_HAND)


def _tar_members(path: Path) -> Generator[Member, None, None]:
    opened = open_deb(path) if path.name.lower().endswith(DEB) else open_tar(path)
    with opened as stream, _Tar.open(fileobj=cast("IO[bytes]", stream), mode="r:", errorlevel=2) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # or every name stays in memory
            yield _tar_member(archive, info)


class _Tar(tarfile.TarFile):
    """Says what the standard library's type leaves out."""

    members: list[tarfile.TarInfo]


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    mode = info.mode & 0o777
    if info.isdir():
        return Member(path=info.name, mode=stat.S_IFDIR | mode)
    if info.issym():
        return Member(path=info.name, mode=stat.S_IFLNK | mode, target=info.linkname)
    if info.islnk():
        return Member(path=info.name, mode=stat.S_IFREG | mode, target=info.linkname, hard=True)
    if not info.isreg():
        return Member(path=info.name, mode=stat.S_IFIFO | mode)

    def open_data() -> IO[bytes]:
        data = archive.extractfile(info)
        assert data is not None
        return data

    return Member(path=info.name, mode=stat.S_IFREG | mode, open=open_data)
