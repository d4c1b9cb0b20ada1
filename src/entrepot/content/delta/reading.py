"""The reader's side: advance through a delta and a manifest together, rebuild chunks."""

from collections.abc import Iterable

from entrepot.content.delta.format import DeltaPart, DeltaRoot, Patch, decode_delta_part
from entrepot.content.delta.patching import apply_patch
from entrepot.core.errors import FormatError
from entrepot.protocol import SealedRef


class DeltaCursor:
    """Finds the patches for the chunks of one manifest part after the other.

    Before each :meth:`take`, fetch and :meth:`feed` parts while :attr:`wanted` names one::

        while (ref := cursor.wanted) is not None:
            cursor.feed(open_sealed(await fetch(ref), ref))
        patches = cursor.take(ref.object_id for ref in manifest_part.chunks)

    Memory: one delta part.
    """

    def __init__(self, root: DeltaRoot) -> None:
        self._root = root
        self._next_part = 0
        self._pending: list[Patch] = []

    @property
    def wanted(self) -> SealedRef | None:
        """The part to feed next, or None while there is one at hand (or no further one)."""
        if self._pending or self._next_part >= len(self._root.parts):
            return None
        return self._root.parts[self._next_part]

    def feed(self, data: bytes) -> None:
        """Take in the plain bytes of the part that :attr:`wanted` named.

        Raises:
            FormatError: damaged or out of bounds.
        """
        part: DeltaPart = decode_delta_part(data, self._root)
        if not part.patches:
            raise FormatError("A delta part is empty.")
        self._pending = list(reversed(part.patches))
        self._next_part += 1

    def take(self, chunks: Iterable[bytes]) -> dict[bytes, Patch]:
        """Patches for chunks of the next manifest part; call again after feeding while :attr:`wanted` names a part.

        Args:
            chunks: the object ids of the part's chunk table. The same part may be passed several times.

        Raises:
            FormatError: two patches make the same chunk.
        """
        ids = frozenset(chunks)
        found: dict[bytes, Patch] = {}
        while self._pending and self._pending[-1].chunk in ids:
            patch = self._pending.pop()
            if patch.chunk in found:
                raise FormatError("The delta makes a chunk twice.")
            found[patch.chunk] = patch
        return found


def rebuild_chunk(patch: Patch, pack: bytes, old: bytes, ref: SealedRef) -> bytes:
    """Make the plain bytes of a chunk.

    Args:
        pack: plain bytes of the patch's pack.
        old: plaintext of the patch's ranges, concatenated.
        ref: the chunk's reference in the new version's manifest.

    Raises:
        FormatError, IntegrityError: the patch does not give this chunk; fetch the full object instead.
    """
    piece = pack[patch.offset : patch.offset + patch.length]
    return apply_patch(old, piece, size=ref.plain_size, digest=ref.digest)
