"""The bounds of a reference to a sealed object. They are not in ``content/sealing.py``, so that whoever only lists
files does without the libraries that seal."""

from typing import Final

from entrepot.content.digests import is_digest
from entrepot.core.errors import FormatError
from entrepot.core.sizes import MIB
from entrepot.protocol import SealedRef

_TAG: Final = 16
OVERHEAD: Final = 1 + _TAG
"""Bytes that sealing adds to a payload: codec byte and GCM tag."""
MAX_PLAIN: Final = 16 * MIB
"""No sealed object opens to more than this; a larger claim is refused before anything is allocated."""


def check_ref(ref: SealedRef, what: str) -> SealedRef:
    """Check the bounds of a reference that came from elsewhere.

    Raises:
        FormatError: impossible sizes or lengths.
    """
    lengths = (len(ref.object_id), len(ref.key)) == (32, 32) and is_digest(ref.digest)
    sizes = 0 <= ref.plain_size <= MAX_PLAIN and OVERHEAD <= ref.sealed_size <= ref.plain_size + OVERHEAD
    if not (lengths and sizes):
        raise FormatError(f"The reference to a {what} is out of bounds.")
    return ref
