"""What a delta consists of, and the bounds that every reader checks first."""

from typing import Final

import msgspec

from entrepot.content.references import check_ref
from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import FormatError, UnsupportedError
from entrepot.core.sizes import KIB, MIB
from entrepot.protocol import SealedRef

VERSION: Final = 2
"""What is written; version 1 had digests by SHA-256 only, and is read, too."""
READABLE: Final = frozenset((1, VERSION))
MAX_RANGES: Final = 4
MAX_REFERENCE: Final = 8 * MIB
"""Plain bytes of m that one patch may refer to, in all its ranges together."""
MAX_PACK: Final = 8 * MIB
"""Plain bytes of a pack."""
PART_TARGET: Final = 512 * KIB
MAX_PART: Final = MIB


class PlainRange(msgspec.Struct, frozen=True, array_like=True):
    """``length`` bytes from ``position`` in the plaintext of the old version."""

    position: int
    length: int


class Patch(msgspec.Struct, frozen=True, array_like=True):
    """How to make one chunk of the new version.

    Attributes:
        chunk: object id of the full object that this patch replaces.
        pack: index into the root's packs.
        offset: of the patch in the pack's plain bytes.
        length: of the patch, bytes.
        ranges: the plaintext that the patch refers to, concatenated in this order; at most four.
    """

    chunk: bytes
    pack: int
    offset: int
    length: int
    ranges: tuple[PlainRange, ...]


class DeltaPart(msgspec.Struct, frozen=True, array_like=True):
    """Patches in the order in which their chunks first appear in the new version's manifest."""

    version: int
    patches: tuple[Patch, ...]


class DeltaRoot(msgspec.Struct, frozen=True, array_like=True):
    """Signed (JWS ``typ`` entrepot-delta), then sealed. The two manifests are named by their roots' object ids.

    ``patches`` counts those of chunks. ``manifest`` makes parts of the new manifest: there ``chunk`` is the part's
    object id, and the ranges are of the old manifest's plaintext, its parts one after the other.
    """

    version: int
    content: str
    old_number: int
    new_number: int
    old_root: bytes
    new_root: bytes
    patches: int
    parts: tuple[SealedRef, ...]
    packs: tuple[SealedRef, ...]
    manifest: tuple[Patch, ...] = ()


def encode_delta_root(root: DeltaRoot) -> bytes:
    """Canonical bytes of a delta's root. A field that came later is left out where it is empty."""
    fields = msgspec.structs.astuple(root)
    return pack(fields if root.manifest else fields[:-1])


def decode_delta_root(payload: bytes) -> DeltaRoot:
    """Read and check a delta's root (the payload of its signature).

    Raises:
        FormatError: foreign bytes, unknown version, out of bounds.
    """
    root = unpack(payload, DeltaRoot, "delta root")
    if root.version not in READABLE:
        raise UnsupportedError(
            f"The delta has version {root.version}; this version of Entrepôt reads version {VERSION}."
        )
    for ref in root.parts:
        if check_ref(ref, "delta part").plain_size > MAX_PART:
            raise FormatError("A delta part is too large.")
    for ref in root.packs:
        if check_ref(ref, "delta pack").plain_size > MAX_PACK:
            raise FormatError("A delta pack is too large.")
    for patch in root.manifest:
        _check_patch(patch, root)
    return root


def decode_delta_part(data: bytes, root: DeltaRoot) -> DeltaPart:
    """Read and check one part of a delta.

    Raises:
        FormatError: foreign bytes, unknown version, out of bounds.
    """
    part = unpack(data, DeltaPart, "delta part")
    if part.version not in READABLE:
        raise UnsupportedError(
            f"The delta part has version {part.version}; this version of Entrepôt reads version {VERSION}."
        )
    for patch in part.patches:
        _check_patch(patch, root)
    return part


def _check_patch(patch: Patch, root: DeltaRoot) -> None:
    if len(patch.chunk) != 32 or not 0 <= patch.pack < len(root.packs):
        raise FormatError("A patch of the delta names no chunk or no pack.")
    if patch.offset < 0 or patch.length <= 0 or patch.offset + patch.length > root.packs[patch.pack].plain_size:
        raise FormatError("A patch of the delta lies outside its pack.")
    ranges_sane = all(piece.position >= 0 and piece.length > 0 for piece in patch.ranges)
    if not ranges_sane or len(patch.ranges) > MAX_RANGES or old_size(patch) > MAX_REFERENCE:
        raise FormatError("A patch of the delta refers to impossible ranges.")


def old_size(patch: Patch) -> int:
    """Plain bytes that a patch refers to."""
    return sum(piece.length for piece in patch.ranges)
