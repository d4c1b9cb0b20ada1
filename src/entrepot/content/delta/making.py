"""Making a delta: runs in the background after publishing, in parallel, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from entrepot.content.delta.format import MAX_PACK, PART_TARGET, VERSION, DeltaPart, DeltaRoot, Patch, PlainRange
from entrepot.content.delta.patching import apply_patch, looks_hopeless, make_patch
from entrepot.content.delta.plaintext import OldFile, OldPlaintext
from entrepot.content.delta.references import Anchor, merge, window
from entrepot.content.manifest import EntryKind, Part, Root, decode_part
from entrepot.content.sealing import Generation, Purpose, Sealed, seal
from entrepot.core.encoding import pack
from entrepot.core.errors import CancelledError
from entrepot.core.sizes import MIB
from entrepot.protocol import SealedRef

_WORTH: Final = 0.6
"""A patch is kept only if it is at most this share of the chunk's object."""
_PACK_TARGET: Final = MIB
"""A pack closes when its patches, compressed one by one, reach this."""
_PACK_LEVEL: Final = 19
_ROUGH_LEVEL: Final = 3


class Version(msgspec.Struct, frozen=True):
    """One side of the pair: its manifest root, the root's reference, and how to open what it refers to."""

    root: Root
    ref: SealedRef
    read: Callable[[SealedRef], bytes]

    def parts(self) -> Iterator[Part]:
        """Its manifest parts in order."""
        return (decode_part(self.read(ref)) for ref in self.root.parts)


class Made(msgspec.Struct, frozen=True):
    """A finished delta.

    ``objects`` are all that it consists of, ``size`` their sealed bytes; ``saved`` is what a client need not fetch.
    """

    root: SealedRef
    objects: tuple[bytes, ...]
    patches: int
    size: int
    saved: int


class _Job(msgspec.Struct, frozen=True):
    ref: SealedRef
    ranges: tuple[PlainRange, ...]


class _Piece(msgspec.Struct, frozen=True):
    """A part of a chunk: which bytes of which new file it is."""

    path: str
    file_size: int
    start: int
    length: int


def make_delta(
    old: Version,
    new: Version,
    *,
    scratch: Path,
    generation: Generation,
    sign: Callable[[bytes], str],
    store: Callable[[Sealed], None],
    cancelled: Callable[[], bool] = lambda: False,
    workers: int = os.cpu_count() or 1,
) -> Made | None:
    """Make the delta from ``old`` to ``new``; None when no chunk gains from one.

    Args:
        scratch: an empty folder for temporary data; the caller removes it.
        sign: makes the signed root (JWS ``typ`` entrepot-delta) of its payload.
        store: keeps a sealed object; called in order, the root last.

    Raises:
        CancelledError: ``cancelled`` said so.
        EntrepotError: an object of either version cannot be read.
    """
    plaintext = OldPlaintext(old.parts(), old.read, scratch)
    try:
        writer = _Writer(generation, store)
        with ThreadPoolExecutor(workers, thread_name_prefix="delta") as pool:
            running: deque[Future[tuple[_Job, bytes, int] | None]] = deque()
            for job in _jobs(new, plaintext):
                if cancelled():
                    for future in running:
                        future.cancel()
                    raise CancelledError("Making the delta was cancelled.")
                running.append(pool.submit(_patch, job, new.read, plaintext))
                if len(running) > 2 * workers:
                    writer.add(running.popleft().result())
            while running:
                writer.add(running.popleft().result())
        return writer.finish(old, new, sign)
    finally:
        plaintext.close()


def _jobs(new: Version, old: OldPlaintext) -> Iterator[_Job]:
    """Chunks that the old version lacks, in order of first appearance in the new manifest, with their references."""
    for part in new.parts():
        pieces: dict[int, list[_Piece]] = {}
        for entry in part.entries:
            start = entry.offset
            for extent in entry.extents:
                pieces.setdefault(extent.chunk, []).append(_Piece(entry.path, entry.size, start, extent.length))
                start += extent.length
        lacking = [not old.has_chunk(ref.object_id) for ref in part.chunks]
        ranges = _Ranges(part, lacking, pieces, old)
        for index, ref in enumerate(part.chunks):
            if lacking[index] and old.first_time(ref.object_id):
                found = ranges.of(index)
                if found:
                    yield _Job(ref, found)


class _Ranges:
    """References for the chunks of one manifest part."""

    def __init__(self, part: Part, lacking: list[bool], pieces: dict[int, list[_Piece]], old: OldPlaintext) -> None:
        self._pieces = pieces
        self._old = old
        self._files: dict[str, OldFile | None] = {}
        self._anchors: dict[str, list[Anchor]] = {}
        for entry in part.entries:
            if entry.kind == EntryKind.FILE and len(entry.extents) > 1:
                self._anchor(entry.path, entry.size, part, lacking)

    def _file(self, path: str, size: int) -> OldFile | None:
        if path not in self._files:
            self._files[path] = self._old.find_file(path, size)
        return self._files[path]

    def _anchor(self, path: str, size: int, part: Part, lacking: list[bool]) -> None:
        file = self._file(path, size)
        if file is None:
            return
        anchors = [Anchor(0, 0)]
        for index, pieces in self._pieces.items():
            for piece in pieces:
                if piece.path == path and not lacking[index]:
                    found = self._old.find_in(file, part.chunks[index].object_id)
                    if found is not None and found >= anchors[-1].old:
                        anchors += [
                            Anchor(piece.start, found),
                            Anchor(piece.start + piece.length, found + piece.length),
                        ]
        anchors.append(Anchor(size, file.size))
        self._anchors[path] = anchors

    def of(self, index: int) -> tuple[PlainRange, ...]:
        """References for the part's chunk number ``index``."""
        found = []
        for piece in self._pieces.get(index, ()):
            file = self._file(piece.path, piece.file_size)
            if file is None:
                continue
            if piece.start == 0 and piece.length == piece.file_size and file.size <= 2 * MIB:
                found.append(PlainRange(file.position, file.size))
                continue
            anchors = self._anchors.get(piece.path) or [Anchor(0, 0), Anchor(piece.file_size, file.size)]
            before = max((a for a in anchors[:-1] if a.new <= piece.start), key=lambda a: a.new)
            after = min((a for a in anchors[1:] if a.new >= piece.start + piece.length), key=lambda a: a.new)
            offset, length = window(piece.start, piece.start + piece.length, before, after)
            length = min(length, file.size - offset)
            if length > 0:
                found.append(PlainRange(file.position + offset, length))
        return merge(found)


def _patch(job: _Job, read: Callable[[SealedRef], bytes], old: OldPlaintext) -> tuple[_Job, bytes, int] | None:
    """The patch and roughly what it costs sealed; None when it is not worth it."""
    new = read(job.ref)
    reference = b"".join(old.read(piece.position, piece.length) for piece in job.ranges)
    if looks_hopeless(reference, new):
        return None
    patch = make_patch(reference, new)
    cost = seal_cost(patch)
    if cost > _WORTH * job.ref.sealed_size or len(patch) > MAX_PACK // 2:
        return None
    apply_patch(reference, patch, size=job.ref.plain_size, sha256=job.ref.sha256)  # never publish one that fails
    return job, patch, cost


def seal_cost(data: bytes) -> int:
    """Roughly the bytes that ``data`` adds to a sealed pack."""
    return min(len(data), len(zstandard.ZstdCompressor(level=_ROUGH_LEVEL).compress(data)))


class _Writer:
    """Collects patches into packs and parts, seals and stores them."""

    def __init__(self, generation: Generation, store: Callable[[Sealed], None]) -> None:
        self._generation = generation
        self._store = store
        self._pack = bytearray()
        self._pack_cost = 0
        self._patches: list[Patch] = []
        self._part_bytes = 0
        self._packs: list[SealedRef] = []
        self._parts: list[SealedRef] = []
        self._count = 0
        self._replaced = 0

    def add(self, made: tuple[_Job, bytes, int] | None) -> None:
        """Take the next patch, in manifest order."""
        if made is None:
            return
        job, patch, cost = made
        if self._pack and (self._pack_cost + cost > _PACK_TARGET or len(self._pack) + len(patch) > MAX_PACK):
            self._close_pack()
        entry = Patch(job.ref.object_id, len(self._packs), len(self._pack), len(patch), job.ranges)
        self._pack += patch
        self._pack_cost += cost
        self._patches.append(entry)
        self._part_bytes += len(pack(entry))
        self._count += 1
        self._replaced += job.ref.sealed_size
        if self._part_bytes >= PART_TARGET:
            self._close_part()

    def _close_pack(self) -> None:
        self._packs.append(self._seal(bytes(self._pack), Purpose.DELTA_PACK))
        self._pack = bytearray()
        self._pack_cost = 0

    def _close_part(self) -> None:
        part = DeltaPart(version=VERSION, patches=tuple(self._patches))
        self._parts.append(self._seal(pack(part), Purpose.DELTA_PART))
        self._patches, self._part_bytes = [], 0

    def _seal(self, plain: bytes, purpose: Purpose) -> SealedRef:
        sealed = seal(plain, purpose=purpose, generation=self._generation, level=_PACK_LEVEL)
        self._store(sealed)
        return sealed.ref

    def finish(self, old: Version, new: Version, sign: Callable[[bytes], str]) -> Made | None:
        """Close everything, sign and store the root."""
        if self._pack:
            self._close_pack()
        if self._patches:
            self._close_part()
        if not self._count:
            return None
        root = DeltaRoot(
            version=VERSION,
            content=new.root.content,
            old_number=old.root.number,
            new_number=new.root.number,
            old_root=old.ref.object_id,
            new_root=new.ref.object_id,
            patches=self._count,
            parts=tuple(self._parts),
            packs=tuple(self._packs),
        )
        sealed = seal(sign(pack(root)).encode(), purpose=Purpose.DELTA_ROOT, generation=self._generation)
        refs = (*self._packs, *self._parts, sealed.ref)
        size = sum(ref.sealed_size for ref in refs)
        if size >= self._replaced:
            return None  # what was stored already is unreferenced: the sweep takes it
        self._store(sealed)
        objects = tuple(sorted({ref.object_id for ref in refs}))
        return Made(root=sealed.ref, objects=objects, patches=self._count, size=size, saved=self._replaced - size)
