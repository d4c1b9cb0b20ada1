"""Making a delta: runs in the background after publishing, in parallel, in bounded memory."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import zstandard

from entrepot.content.delta.choosing import Job, jobs
from entrepot.content.delta.format import MAX_PACK, VERSION, DeltaRoot, PlainRange, encode_delta_root
from entrepot.content.delta.manifestparts import PartJob, Span, manifest_bytes, part_jobs, span
from entrepot.content.delta.packing import Made as Packed
from entrepot.content.delta.packing import Packer
from entrepot.content.delta.patching import apply_patch, looks_hopeless, make_patch
from entrepot.content.delta.plaintext import OldPlaintext
from entrepot.content.delta.references import merge
from entrepot.content.delta.similarity import Similarity
from entrepot.content.manifest import Part, Root, decode_part
from entrepot.content.scratch import scratch_errors
from entrepot.content.sealing import Generation, Sealed
from entrepot.core.errors import CancelledError
from entrepot.protocol import SealedRef

_WORTH: Final = 0.9
"""A patch is kept only if it is expected to be at most this share of the object that it replaces."""
_PACKED: Final = 0.87
"""What the pack's high level makes of a patch that the rough level has compressed."""
_ROUGH_LEVEL: Final = 3
_COMPRESSES: Final = 0.95
"""Bytes that shrink to less than this at the rough level shrink further at the pack's."""
_RUNS: Final = 256
"""A chunk of which compressing leaves less than one byte in so many is nearly all runs: there is nothing to save, and
comparing runs with runs takes many seconds."""
_MAX_WORKERS: Final = 4
"""Each may take about 150 MiB while it compares 8 MiB with 4."""

Work = TypeVar("Work", Job, PartJob)


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

    ``objects`` are all that it consists of, ``size`` their sealed bytes; ``saved`` is what a client need not fetch
    thanks to it, ``fetched`` what one that has the old version fetches in all.
    """

    root: SealedRef
    objects: tuple[bytes, ...]
    patches: int
    size: int
    saved: int
    fetched: int


def make_delta(
    old: Version,
    new: Version,
    *,
    scratch: Path,
    generation: Generation,
    sign: Callable[[bytes], str],
    store: Callable[[Sealed], None],
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    workers: int = min(os.cpu_count() or 1, _MAX_WORKERS),
) -> Made | None:
    """Make the delta from ``old`` to ``new``; None when a client would save nothing by it.

    Args:
        scratch: an empty folder for temporary data; the caller removes it.
        sign: makes the signed root (JWS ``typ`` entrepot-delta) of its payload.
        store: keeps a sealed object; called in order, the root last.
        progress: told how many plain bytes that the old version lacks are behind, and how many there are.

    Raises:
        CancelledError: ``cancelled`` said so.
        StorageError: the disk of ``scratch`` has no room.
        EntrepotError: an object of either version cannot be read.
    """
    spans: list[Span] = []
    with (
        scratch_errors(str(scratch)),
        contextlib.closing(OldPlaintext(_noting_spans(old, spans), old.read, scratch)) as plaintext,
    ):
        lacking = sum(plaintext.want(part.chunks) for part in new.parts())
        with (
            contextlib.closing(Similarity(plaintext, scratch, cancelled)) as similarity,
            ThreadPoolExecutor(workers, thread_name_prefix="delta") as pool,
        ):
            packer = Packer(generation, store, pool)
            maker = _Maker(old, new, plaintext, similarity, cancelled)
            return maker.make(pool, packer, spans, workers, sign, lambda done: progress(done, lacking))


def _noting_spans(version: Version, spans: list[Span]) -> Iterator[Part]:
    for part in version.parts():
        spans.append(span(part))
        yield part


class _Maker:
    """See :func:`make_delta`."""

    def __init__(
        self,
        old: Version,
        new: Version,
        plaintext: OldPlaintext,
        similarity: Similarity,
        cancelled: Callable[[], bool],
    ) -> None:
        self._old = old
        self._new = new
        self._plaintext = plaintext
        self._similarity = similarity
        self._cancelled = cancelled
        self._lacking = new.ref.sealed_size

    def make(
        self,
        pool: Executor,
        packer: Packer,
        spans: list[Span],
        workers: int,
        sign: Callable[[bytes], str],
        progress: Callable[[int], None],
    ) -> Made | None:
        parts = part_jobs(self._old.root.parts, spans, self._new.root.parts, self._new.read)
        for _, made in self._in_order(pool, self._counted(parts), self._patch_part, workers):
            if made is not None:
                packer.add_part(made)
        done = 0
        for job, made in self._in_order(pool, self._counted(self._jobs()), self._patch_chunk, workers):
            done += job.ref.plain_size
            progress(done)
            if made is not None:
                packer.add_chunk(made)
        packer.close()
        return self._finish(packer, sign)

    def _jobs(self) -> Iterator[Job]:
        for part in self._new.parts():
            yield from jobs(part, self._plaintext)

    def _counted(self, work: Iterator[Work]) -> Iterator[Work]:
        for item in work:
            self._lacking += item.ref.sealed_size
            yield item

    def _in_order(
        self, pool: Executor, work: Iterator[Work], patch: Callable[[Work], Packed | None], workers: int
    ) -> Iterator[tuple[Work, Packed | None]]:
        """Results in the order of the work; twice as much of it is under way as there are workers."""
        running: deque[tuple[Work, Future[Packed | None]]] = deque()
        try:
            for item in work:
                if self._cancelled():
                    raise CancelledError("Making the delta was cancelled.")
                running.append((item, pool.submit(patch, item)))
                if len(running) > 2 * workers:
                    done, future = running.popleft()
                    yield done, future.result()
            while running:
                done, future = running.popleft()
                yield done, future.result()
        finally:
            for _, future in running:
                future.cancel()

    def _patch_part(self, job: PartJob) -> Packed | None:
        old = manifest_bytes(self._old.root.parts, job.ranges, self._old_part)
        assert old is not None  # it was read a moment ago
        return _patch(job.ref, job.ranges, old, self._new.read(job.ref))

    def _old_part(self, number: int) -> bytes:
        return self._old.read(self._old.root.parts[number])

    def _patch_chunk(self, job: Job) -> Packed | None:
        if job.ref.sealed_size * _RUNS < job.ref.plain_size:
            return None
        new = self._new.read(job.ref)
        for ranges in self._suggested(job, new):
            old = b"".join(self._plaintext.read(piece.position, piece.length) for piece in ranges)
            if not looks_hopeless(old, new):
                return _patch(job.ref, ranges, old, new)
        return None

    def _suggested(self, job: Job, new: bytes) -> Iterator[tuple[PlainRange, ...]]:
        """What to compare a chunk with: by paths if these suggest most of it, else or in vain by content, else a guess.

        The next is asked for where the one before has nothing in common with the chunk.
        """
        known = 2 * job.covered >= len(new)
        if known:
            yield merge(job.ranges)
        alike = self._similarity.find(new)
        yield merge(alike if known else (*job.ranges, *alike))
        yield merge(job.guesses)

    def _finish(self, packer: Packer, sign: Callable[[bytes], str]) -> Made | None:
        """Sign and store the root."""
        if not packer.packs:
            return None
        root = DeltaRoot(
            version=VERSION,
            content=self._new.root.content,
            old_number=self._old.root.number,
            new_number=self._new.root.number,
            old_root=self._old.ref.object_id,
            new_root=self._new.ref.object_id,
            patches=packer.count,
            parts=tuple(packer.parts),
            packs=tuple(packer.packs),
            manifest=tuple(packer.manifest),
        )
        sealed = packer.seal_root(sign(encode_delta_root(root)).encode())
        refs = (*packer.packs, *packer.parts, sealed.ref)
        size = sum(ref.sealed_size for ref in refs)
        if size >= packer.replaced:
            return None  # what was stored already is unreferenced: the sweep takes it
        packer.store(sealed)
        saved = packer.replaced - size
        return Made(
            root=sealed.ref,
            objects=tuple(sorted({ref.object_id for ref in refs})),
            patches=packer.count,
            size=size,
            saved=saved,
            fetched=self._lacking - saved,
        )


def _patch(ref: SealedRef, ranges: tuple[PlainRange, ...], old: bytes, new: bytes) -> Packed | None:
    """The patch; None when it is not worth it."""
    data = make_patch(old, new)
    cost = seal_cost(data)
    if cost > _WORTH * ref.sealed_size or len(data) > MAX_PACK // 2:
        return None
    apply_patch(old, data, size=ref.plain_size, digest=ref.digest)  # never publish one that fails
    return Packed(ref=ref, ranges=ranges, data=data, cost=cost)


def seal_cost(data: bytes) -> int:
    """Roughly the bytes that ``data`` adds to a sealed pack."""
    rough = len(zstandard.ZstdCompressor(level=_ROUGH_LEVEL).compress(data))
    return int(_PACKED * rough) if rough < _COMPRESSES * len(data) else min(rough, len(data))
