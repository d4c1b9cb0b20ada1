"""One binary patch: made and applied by HDiffPatch (``HDIFF13``, uncompressed: the pack compresses).

The library's output size comes from the patch itself, so the header is read and bounded first; wrong output without
an error is possible, so the digest of the result is the judge.
"""

from typing import Final

import hdiffpatch

from entrepot.content.digests import matches
from entrepot.core.errors import FormatError, IntegrityError

_MAGIC: Final = b"HDIFF13&\x00"
_SAMPLES: Final = 48
_SAMPLE_BYTES: Final = 16


def make_patch(old: bytes, new: bytes) -> bytes:
    """A patch that turns ``old`` into ``new``. Memory: about twelve times ``old`` and ``new`` together."""
    return bytes(
        hdiffpatch.diff(old, new, compression=hdiffpatch.COMPRESSION_NONE, validate=False, big_cache_match=True)
    )


def apply_patch(old: bytes, patch: bytes, *, size: int, digest: bytes) -> bytes:
    """Apply a patch whose result is known beforehand.

    Args:
        size: of the result, bytes.
        digest: of the result.

    Raises:
        FormatError: not a patch, or its header promises other sizes.
        IntegrityError: the patch does not apply, or gives other bytes.
    """
    check_header(patch, old_size=len(old), new_size=size)
    try:
        new = bytes(hdiffpatch.apply(old, patch))
    except (hdiffpatch.HDiffPatchError, ValueError, MemoryError):
        raise IntegrityError("A delta patch does not apply.") from None
    if len(new) != size or not matches(digest, new):
        raise IntegrityError("A delta patch gave other bytes than the manifest promises.")
    return new


def check_header(patch: bytes, *, old_size: int, new_size: int) -> None:
    """Bound everything that the library would allocate.

    The header is: magic, then eleven variable-length integers: new size, old size, number of covers, and for each of
    four sections (covers, RLE control, RLE code, new data) its size and its compressed size, which is 0 here.

    Raises:
        FormatError: anything unexpected.
    """
    if not patch.startswith(_MAGIC):
        raise FormatError("A delta patch has an unknown format.")
    at = len(_MAGIC)
    fields = []
    for _ in range(11):
        value, at = _varint(patch, at)
        fields.append(value)
    stored = (fields[3], fields[5], fields[7], fields[9])
    packed = (fields[4], fields[6], fields[8], fields[10])
    fits = fields[2] <= len(patch) and sum(stored) <= len(patch) - at
    if fields[0] != new_size or fields[1] != old_size or any(packed) or not fits:
        raise FormatError("A delta patch has a header that does not match the delta index.")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Big-endian groups of seven bits, the high bit set on all but the last."""
    value = 0
    for step in range(10):
        if at + step >= len(data):
            break
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    raise FormatError("A delta patch has a damaged header.")


def looks_hopeless(old: bytes, new: bytes) -> bool:
    """Tell, from samples, whether ``new`` has next to nothing in common with ``old``: a patch would waste time."""
    if len(new) < _SAMPLES * _SAMPLE_BYTES:
        return False
    stride = (len(new) - _SAMPLE_BYTES) // (_SAMPLES - 1)
    samples = {new[index * stride : index * stride + _SAMPLE_BYTES] for index in range(_SAMPLES)}
    # A run of one byte is found in anything: it says nothing.
    telling = [sample for sample in samples if len(set(sample)) > 3]
    return bool(telling) and not any(sample in old for sample in telling)
