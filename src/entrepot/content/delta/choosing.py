"""Which chunks of the new version may gain from a patch, and what each should be patched against."""

from collections.abc import Iterator
from typing import Final

import msgspec

from entrepot.content.delta.format import MAX_REFERENCE, PlainRange
from entrepot.content.delta.plaintext import OldFile, OldPlaintext
from entrepot.content.delta.references import Anchor, window
from entrepot.content.manifest import EntryKind, Part
from entrepot.core.sizes import MIB
from entrepot.protocol import SealedRef

_WHOLE: Final = 2 * MIB
"""An old file up to this size is a reference as a whole."""


class Job(msgspec.Struct, frozen=True):
    """A chunk that the old version lacks.

    Attributes:
        ranges: what its files' paths suggest, not merged yet.
        covered: its bytes that they are meant for.
        guesses: the middle of where its bytes may lie, where so much was inserted or deleted that this is too wide.
    """

    ref: SealedRef
    ranges: tuple[PlainRange, ...]
    covered: int
    guesses: tuple[PlainRange, ...] = ()


class _Piece(msgspec.Struct, frozen=True):
    """A part of a chunk: which bytes of which new file it is."""

    path: str
    file_size: int
    start: int
    length: int


def jobs(part: Part, old: OldPlaintext) -> Iterator[Job]:
    """Chunks of a part that the old version lacks and no part before had, in the order of the part."""
    pieces: dict[int, list[_Piece]] = {}
    for entry in part.entries:
        start = entry.offset
        for extent in entry.extents:
            pieces.setdefault(extent.chunk, []).append(_Piece(entry.path, entry.size, start, extent.length))
            start += extent.length
    lacking = [not old.has_chunk(ref.object_id) for ref in part.chunks]
    chooser = _Chooser(part, lacking, pieces, old)
    for index, ref in enumerate(part.chunks):
        if lacking[index] and old.first_time(ref.object_id):
            yield chooser.job(index)


class _Chooser:
    """References for the chunks of one manifest part."""

    def __init__(self, part: Part, lacking: list[bool], pieces: dict[int, list[_Piece]], old: OldPlaintext) -> None:
        self._part = part
        self._pieces = pieces
        self._old = old
        self._files: dict[str, OldFile | None] = {}
        self._anchors: dict[str, list[Anchor]] = {}
        for entry in part.entries:
            if entry.kind == EntryKind.FILE and len(entry.extents) > 1:
                self._anchor(entry.path, entry.size, lacking)

    def _file(self, path: str, size: int) -> OldFile | None:
        if path not in self._files:
            self._files[path] = self._old.find_file(path, size)
        return self._files[path]

    def _anchor(self, path: str, size: int, lacking: list[bool]) -> None:
        file = self._file(path, size)
        if file is None:
            return
        anchors = [Anchor(0, 0)]
        for index, pieces in self._pieces.items():
            for piece in pieces:
                if piece.path == path and not lacking[index]:
                    found = self._old.find_in(file, self._part.chunks[index].object_id)
                    if found is not None and found >= anchors[-1].old:
                        anchors += [
                            Anchor(piece.start, found),
                            Anchor(piece.start + piece.length, found + piece.length),
                        ]
        anchors.append(Anchor(size, file.size))
        self._anchors[path] = anchors

    def job(self, index: int) -> Job:
        """The work for the part's chunk number ``index``."""
        found, guesses = [], []
        covered = 0
        for piece in self._pieces.get(index, ()):
            region = self._region(piece)
            if region is not None and region.length >= MAX_REFERENCE:
                guesses.append(region)
            elif region is not None:
                found.append(region)
                covered += piece.length
        return Job(ref=self._part.chunks[index], ranges=tuple(found), covered=covered, guesses=tuple(guesses))

    def _region(self, piece: _Piece) -> PlainRange | None:
        file = self._file(piece.path, piece.file_size)
        if file is None:
            return None
        if piece.start == 0 and piece.length == piece.file_size and file.size <= _WHOLE:
            return PlainRange(file.position, file.size)
        anchors = self._anchors.get(piece.path) or [Anchor(0, 0), Anchor(piece.file_size, file.size)]
        before = max((a for a in anchors[:-1] if a.new <= piece.start), key=lambda a: a.new)
        after = min((a for a in anchors[1:] if a.new >= piece.start + piece.length), key=lambda a: a.new)
        offset, length = window(piece.start, piece.start + piece.length, before, after)
        length = min(length, file.size - offset)
        return PlainRange(file.position + offset, length) if length > 0 else None
