"""Publishing: from a source folder or file to sealed objects, a manifest and an object set in the library.

Objects come first, then the caller's one database transaction, which adopts the set (``Library.adopt``). A publish that
is killed leaves nothing but leased objects; the next attempt finds them in the index and does not store them again.

Memory does not depend on the source: a few batches of chunks, one folder's names per level, one manifest part, the
references of one file (about 300 bytes per MiB of it).
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from entrepot.content.ahead import Hashed
from entrepot.content.apart import gathered
from entrepot.content.chunking import BigChunk, BigEnd, Cut, DomainKeys, cut
from entrepot.content.collecting import keep_set
from entrepot.content.gathering import Asked, Findings
from entrepot.content.grouping import Piece
from entrepot.content.indexing import Tools, tools
from entrepot.content.keeping import Keeper, Kept, Note
from entrepot.content.ledger import Ledger
from entrepot.content.manifest import MAX_ROOT, VERSION, Entry, Root
from entrepot.content.sealing import Purpose
from entrepot.content.spare import SPARE
from entrepot.content.surprises import Surprises, surprises_of_big
from entrepot.content.writing import Counts, ManifestWriter
from entrepot.core.encoding import pack
from entrepot.core.errors import CancelledError, RefusedError
from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef

WORKERS: Final = (os.cpu_count() or 1) + 1
"""One more than there are cores: one of them often waits for the disk."""


ChunkNote = tuple[Entry, ...] | Entry | None
"""What waits for a chunk's reference: a group's entries, a big file's entry at its end, or nothing in its middle."""


class PublishOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to publish.

    Attributes:
        excludes: what to leave out (``content/patterns.py``).
        for_windows: Windows must be able to store every name.
        once: the bytes of small files that occur more than once are kept once (``content/repeats.py``).
    """

    excludes: tuple[str, ...] = ()
    for_windows: bool = False
    once: bool = True


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a publish is: what is stored, all but the very last durably, and listed by now, and the bytes that were
    ``read``, which are ahead of it. The end is not known before it comes."""

    read: int
    files: int
    plain_size: int
    new_objects: int
    new_bytes: int


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The result. Sizes in bytes.

    Attributes:
        root: opens the manifest: whoever has it has the content.
        set_id: object id of the object set, of ``set_size`` bytes, that names ``objects`` objects.
        folders: all below the root.
        repeated: plain bytes of small files that lay in the version already.
        chunks: distinct ones, sealed ``stored_size`` together.
        new_objects: what this publish added to the library, ``new_bytes`` together; the set and manifest included.
    """

    root: SealedRef
    set_id: ObjectId
    set_size: int
    objects: int
    files: int
    folders: int
    links: int
    plain_size: int
    repeated: int
    chunks: int
    stored_size: int
    new_objects: int
    new_bytes: int
    warnings: tuple[str, ...]


def publish(
    source: Path,
    *,
    content: str,
    number: int,
    shelf: Shelf,
    ledger: Ledger,
    keys: DomainKeys,
    sign: Callable[[bytes], str],
    options: PublishOptions = PublishOptions(),  # noqa: B008 - frozen
    progress: Callable[[Progress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    workers: int = WORKERS,
) -> Published:
    """Publish one version.

    Args:
        ledger: an open session, which this call alone uses. On success the caller adopts ``Published.set_id``, in one
            transaction with whatever else makes the version known; on failure it closes the session, or lets it lapse.
        sign: makes the signed root (JWS ``typ`` entrepot-manifest) of its payload.
        progress: called now and then from this thread.

    Raises:
        RefusedError: something in the source cannot be published, or it changed; the text names it.
        NotFoundError: there is no such source.
        CancelledError: ``cancelled`` said so.
        EntrepotError: by the ledger or the store.
    """
    try:
        with tools(shelf, ledger, keys, workers=workers, name="publish") as given:
            return _Run(given, progress, cancelled).publish(source, content, number, sign, options)
    finally:
        SPARE.replenish_soon()


class _Run:
    """One publish: wires cutter → chunk keeper → manifest writer → part keeper → root."""

    def __init__(self, given: Tools, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> None:
        self._tools = given
        self._progress = progress
        self._cancelled = cancelled
        self._kept = Kept()
        self._read = 0
        self._findings = Findings((), windows_safe=True)
        self._surprises = Surprises()
        self._keepers: list[Keeper[Any]] = []
        self._parts: list[SealedRef] = []
        self._part_keeper: Keeper[None] = self._keeper(Purpose.MANIFEST_PART, self._take_part)
        self._writer = ManifestWriter(given.keys, lambda data: self._part_keeper.put(data, None))

    def publish(
        self, source: Path, content: str, number: int, sign: Callable[[bytes], str], options: PublishOptions
    ) -> Published:
        """Do it."""
        asked = Asked(
            source=os.fsencode(source),
            excludes=options.excludes,
            for_windows=options.for_windows,
            once=options.once,
            grouping_key=self._tools.keys.grouping_key.reveal(),
        )
        with gathered(asked, self._tools.pool, self._cancelled) as pieces:
            self._keep_chunks(cut(self._noted(pieces), self._tools.keys, self._tools.pool))
        self._writer.finish()
        self._part_keeper.give()
        counts = self._writer.counts
        if not counts.entries:
            why = "The exclude patterns leave nothing of the source." if options.excludes else "The source is empty."
            raise RefusedError(why, next_step="Check the path.")
        totals = self._tools.ledger.totals(Purpose.CHUNK)
        root = Root(
            version=VERSION,
            content=content,
            number=number,
            files=counts.files,
            plain_size=counts.plain_size,
            chunks=totals.objects,
            stored_size=totals.size,
            windows_safe=self._findings.windows_safe,
            parts=tuple(self._parts),
        )
        remarks = (*self._surprises.texts(), *self._findings.remarks)
        return self._finish(self._keep_root(root, sign), root, counts, remarks)

    def _noted(self, pieces: Iterator[Piece | Findings]) -> Iterator[Piece]:
        """Keep the findings, pass the pieces on."""
        for piece in pieces:
            if isinstance(piece, Findings):
                self._findings = piece
            else:
                yield piece

    def _keep_chunks(self, pieces: Iterator[Cut]) -> None:
        keeper: Keeper[ChunkNote] = self._keeper(Purpose.CHUNK, self._take_chunk)
        for piece in pieces:
            if self._cancelled():
                raise CancelledError("Publishing was cancelled.")
            match piece:
                case Hashed(group, digest, surprises):
                    self._surprises.add(surprises)
                    self._read += sum(entry.size for entry in group.entries)
                    keeper.put(group.plain or None, group.entries, digest=digest, weight=1 + len(group.entries))
                case BigChunk(plain, digest):
                    self._read += len(plain)
                    keeper.put(plain, None, digest=digest)
                case BigEnd(entry):
                    self._surprises.add(surprises_of_big(entry.path))
                    keeper.put(None, entry)
            self._report()
        keeper.give()
        self._report()

    def _take_chunk(self, ref: SealedRef | None, note: ChunkNote) -> None:
        if isinstance(note, Entry):
            self._writer.big_end(note)
        elif note is not None:
            self._writer.group(ref, note)
        else:
            assert ref is not None
            self._writer.big_chunk(ref)

    def _take_part(self, ref: SealedRef | None, _note: None) -> None:
        assert ref is not None
        self._parts.append(ref)

    def _report(self) -> None:
        counts = self._writer.counts
        self._progress(
            Progress(
                read=self._read,
                files=counts.files,
                plain_size=counts.plain_size,
                new_objects=self._kept.objects,
                new_bytes=self._kept.size,
            )
        )

    def _keep_root(self, root: Root, sign: Callable[[bytes], str]) -> SealedRef:
        document = sign(pack(root)).encode()
        if len(document) > MAX_ROOT:
            raise RefusedError("The content has more files than one manifest can list.", next_step="Split it.")
        refs: list[SealedRef | None] = []
        keeper: Keeper[None] = self._keeper(Purpose.MANIFEST_ROOT, lambda ref, _: refs.append(ref))
        keeper.put(document, None)
        keeper.give()
        assert refs[0] is not None
        return refs[0]

    def _finish(self, ref: SealedRef, root: Root, counts: Counts, warnings: tuple[str, ...]) -> Published:
        kept = keep_set(self._tools.shelf, self._tools.ledger)  # and everything else is durable, by one flush
        for keeper in self._keepers:
            keeper.finish()
        return Published(
            root=ref,
            set_id=kept.set_id,
            set_size=kept.size,
            objects=kept.objects,
            files=counts.files,
            folders=counts.folders,
            links=counts.links,
            plain_size=counts.plain_size,
            repeated=counts.repeated,
            chunks=root.chunks,
            stored_size=root.stored_size,
            new_objects=self._kept.objects + kept.new,
            new_bytes=self._kept.size + kept.size * kept.new,
            warnings=warnings,
        )

    def _keeper(self, purpose: Purpose, deliver: Callable[[SealedRef | None, Note], None]) -> Keeper[Note]:
        keeper = Keeper(purpose, tools=self._tools, deliver=deliver, kept=self._kept)
        self._keepers.append(keeper)
        return keeper
