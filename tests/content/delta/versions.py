"""Builds small content versions in memory: path → bytes, cut in plain ways, sealed for real."""

from collections.abc import Callable, Iterator

from entrepot.content.delta.making import Version
from entrepot.content.digests import digest_of
from entrepot.content.manifest import VERSION, Entry, EntryKind, Extent, Part, Root, encode_part
from entrepot.content.sealing import Generation, Purpose, Sealed, open_sealed, seal
from entrepot.core.paths import path_key
from entrepot.core.secret import Secret
from entrepot.protocol import SealedRef

GENERATION = Generation(number=1, secret=Secret(b"s" * 32))
BIG = 256 * 1024


class Shelf:
    """Sealed objects by id."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}

    def store(self, sealed: Sealed) -> None:
        self.objects[sealed.ref.object_id] = sealed.data

    def read(self, ref: SealedRef) -> bytes:
        return open_sealed(self.objects[ref.object_id], ref)

    def seal(self, plain: bytes, purpose: Purpose) -> SealedRef:
        sealed = seal(plain, purpose=purpose, generation=GENERATION)
        self.store(sealed)
        return sealed.ref


def cut_fixed(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), BIG):
        yield data[at : at + BIG]


def build_version(
    shelf: Shelf,
    number: int,
    files: dict[str, bytes],
    *,
    files_per_part: int = 50,
    cut: Callable[[bytes], Iterator[bytes]] = cut_fixed,
) -> Version:
    """Small files share one chunk for each part; big ones are cut."""

    ordered = sorted(files.items(), key=lambda item: path_key(item[0]))
    parts = []
    total = 0
    for at in range(0, len(ordered), files_per_part):
        chunks: list[SealedRef] = []
        entries = []
        batch = ordered[at : at + files_per_part]
        shared = b"".join(data for _, data in batch if len(data) < BIG)
        if shared:
            chunks.append(shelf.seal(shared, Purpose.CHUNK))
        offset = 0
        for path, data in batch:
            total += len(data)
            extents: list[Extent] = []
            if 0 < len(data) < BIG:
                extents.append(Extent(0, offset, len(data)))
                offset += len(data)
            elif data:
                for piece in cut(data):
                    extents.append(Extent(len(chunks), 0, len(piece)))
                    chunks.append(shelf.seal(piece, Purpose.CHUNK))
            digest = digest_of(data)
            entries.append(
                Entry(EntryKind.FILE, path, mode=0o644, size=len(data), digest=digest, extents=tuple(extents))
            )
        part = Part(VERSION, tuple(chunks), tuple(entries))
        parts.append(shelf.seal(encode_part(part), Purpose.MANIFEST_PART))
    root = Root(VERSION, "pkg-1", number, len(files), total, 0, 0, True, tuple(parts))
    return Version(root=root, ref=shelf.seal(f"root {number}".encode(), Purpose.MANIFEST_ROOT), read=shelf.read)
