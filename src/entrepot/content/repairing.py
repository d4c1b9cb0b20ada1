"""Repair from the source: an object is made again, byte for byte, if the source still has the same bytes.

A manifest says which ranges of which files a chunk consists of. They are read, put together and compared with the
chunk's digest; then they are sealed as they were. The reference has the key; what may differ is how the compressor was
asked, so the ways that publishing knows are tried. Nothing but the very object that is missing ever comes out.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.content.compressing import Earlier, Effort, Way, compress
from entrepot.content.digests import matches
from entrepot.content.manifest import Part
from entrepot.content.references import OVERHEAD
from entrepot.content.sealing import Codec
from entrepot.core.ids import ObjectId
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import SealedRef

_EFFORTS: Final = (Effort.TEXT, Effort.PROGRAM)
WAYS: Final[tuple[Way, ...]] = (*_EFFORTS, *Earlier, 3, 1, 2, 4, 5, 6, 7, 8, 9, 12, 15, 19)
"""How a payload may have been compressed, by this version or an earlier one; a sample is never sealed."""
_NONCE: Final = bytes(12)

Piece = tuple[int, int, str, int]
"""(offset in the chunk, length, path, offset in the file)."""


def rebuilt(parts: Iterable[Part], wanted: Collection[ObjectId], source: Path) -> Iterator[tuple[ObjectId, bytes]]:
    """Make chunks again from the source folder (or the single file) of a version, in one reading of its manifest.

    Memory: the places of the chunks of one part, and of those that go on in the next.

    Args:
        parts: of the version's manifest.
        wanted: what the source does not give is left out.
    """
    left = set(wanted)
    pieces: dict[ObjectId, list[Piece]] = {}
    for part in parts:
        refs = {ObjectId(ref.object_id): ref for ref in part.chunks if ref.object_id in left}
        for object_id, piece in _places(part, refs):
            pieces.setdefault(object_id, []).append(piece)
        for object_id, ref in refs.items():
            found = sorted(pieces.get(object_id, ()))
            if not _is_whole(ref, found):
                continue  # it goes on in the next part
            del pieces[object_id]
            data = _again(ref, found, source)
            if data is not None:
                left.discard(object_id)
                yield object_id, data


def _places(part: Part, refs: Mapping[ObjectId, SealedRef]) -> Iterator[tuple[ObjectId, Piece]]:
    """Where bytes of these chunks are in the files of a part."""
    numbers = {number: ObjectId(ref.object_id) for number, ref in enumerate(part.chunks) if ref.object_id in refs}
    for entry in part.entries if numbers else ():
        at = entry.offset
        for extent in entry.extents:
            if extent.chunk in numbers:
                yield numbers[extent.chunk], (extent.offset, extent.length, entry.path, at)
            at += extent.length


def _is_whole(ref: SealedRef, pieces: list[Piece]) -> bool:
    """Whether pieces in order are all of a chunk."""
    end = 0
    for offset, length, _, _ in pieces:
        if offset > end:
            return False
        end = max(end, offset + length)
    return end == ref.plain_size


def _again(ref: SealedRef, pieces: list[Piece], source: Path) -> bytes | None:
    plain = _plain(ref, pieces, source)
    if plain is None or not matches(ref.digest, plain):
        return None
    return sealed_as(plain, ref)


def _plain(ref: SealedRef, pieces: list[Piece], source: Path) -> bytes | None:
    """The chunk's bytes as the source has them now; None where they are not all there."""
    gathered = bytearray()
    for offset, length, path, at in pieces:
        if offset > len(gathered):
            return None
        skip = len(gathered) - offset
        if skip >= length:
            continue
        found = _read(source, path, at + skip, length - skip)
        if len(found) != length - skip:
            return None
        gathered += found
    return bytes(gathered) if len(gathered) == ref.plain_size else None


def _read(source: Path, path: str, at: int, length: int) -> bytes:
    file = source / path if source.is_dir() else source
    try:
        with file.open("rb") as opened:
            opened.seek(at)
            return opened.read(length)
    except OSError:
        return b""


def sealed_as(plain: bytes, ref: SealedRef) -> bytes | None:
    """Seal a plaintext so that it becomes the object of a reference; None when no way of compressing gives that."""
    for payload in _payloads(plain):
        if len(payload) + OVERHEAD - 1 != ref.sealed_size:
            continue
        data = AESGCM(ref.key).encrypt(_NONCE, payload, None)
        if object_id_of(data) == ref.object_id:
            return data
    return None


def _payloads(plain: bytes) -> Iterator[bytes]:
    yield bytes([Codec.RAW]) + plain
    for how in WAYS:
        yield bytes([Codec.ZSTD]) + compress(plain, how)
