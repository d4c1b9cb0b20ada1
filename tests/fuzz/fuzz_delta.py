"""Fuzzes what a client reads of a delta: root, part, patch. ``python tests/fuzz/fuzz_delta.py -max_total_time=600``.

Each input must give a named error or, for a patch, exactly the promised bytes. ``test_fuzz_delta.py`` runs it briefly.
"""

import hashlib
import random
import sys

import atheris

with atheris.instrument_imports(include=["entrepot.content.delta"]):
    from entrepot.content.delta.format import DeltaRoot, decode_delta_part, decode_delta_root
    from entrepot.content.delta.patching import apply_patch, make_patch
from entrepot.core.errors import FormatError, IntegrityError
from entrepot.protocol import SealedRef

NOISE = random.Random(3)
OLD = NOISE.randbytes(4000)
NEW = OLD[:1500] + b"inserted" + OLD[1600:]
SHA = hashlib.sha256(NEW).digest()
PATCH = make_patch(OLD, NEW)
REF = SealedRef(bytes(32), 5017, 5000, bytes(32), bytes(32))
ROOT = DeltaRoot(1, "pkg-1", 1, 2, bytes(32), bytes(32), 1, (REF,), (REF,))


def one_input(data: bytes) -> None:
    """The first byte chooses the parser; a patch is fuzzed as changes of a good one, too."""
    if not data:
        return
    kind, body = data[0] % 4, data[1:]
    try:
        if kind == 0:
            decode_delta_root(body)
        elif kind == 1:
            decode_delta_part(body, ROOT)
        else:
            patch = body if kind == 2 else _changed(body)
            if apply_patch(OLD, patch, size=len(NEW), sha256=SHA) != NEW:
                raise AssertionError("a patch gave other bytes than were promised")
    except (FormatError, IntegrityError):
        pass


def _changed(changes: bytes) -> bytes:
    patch = bytearray(PATCH)
    for at in range(0, len(changes) - 2, 3):
        patch[int.from_bytes(changes[at : at + 2], "big") % len(patch)] = changes[at + 2]
    return bytes(patch)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
