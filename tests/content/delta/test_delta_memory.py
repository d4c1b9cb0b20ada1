"""Making a delta never holds a whole large file, however large it is and however many compare at the same time."""

import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.core.sizes import GIB, MIB

LIMIT = 300 * MIB
WORKERS = 2

MAKE = """
import hashlib, random, sys
from pathlib import Path
from entrepot.content.delta.making import Version, make_delta
from entrepot.content.manifest import Entry, EntryKind, Extent, Part, Root, encode_part
from entrepot.content.sealing import Generation
from entrepot.core.secret import Secret
from entrepot.protocol import SealedRef

CHUNK, COUNT = 4 << 20, 512
parts = {}

def plain(name):
    number, changed = name
    data = random.Random(number).randbytes(CHUNK - 16 * changed)
    return b"".join(data[at : at + 500_000] + b"!" for at in range(0, len(data), 500_000)) if changed else data

def ref(data_or_name):
    if isinstance(data_or_name, bytes):
        digest, size = hashlib.sha256(data_or_name).digest(), len(data_or_name)
        parts[digest] = data_or_name
        return SealedRef(digest, size + 17, size, bytes(32), digest)
    object_id = repr(data_or_name).encode().ljust(32, b".")
    changed = data_or_name[1]
    data = plain(data_or_name) if changed else None
    size = len(data) if changed else CHUNK
    digest = hashlib.sha256(data).digest() if changed else bytes(32)
    parts[object_id] = data_or_name
    return SealedRef(object_id, size + 17, size, bytes(32), digest)

def read(wanted):
    found = parts[wanted.object_id]
    return found if isinstance(found, bytes) else plain(found)

def version(number, names):
    chunks = tuple(map(ref, names))
    extents = tuple(Extent(n, 0, chunk.plain_size) for n, chunk in enumerate(chunks))
    size = sum(chunk.plain_size for chunk in chunks)
    entry = Entry(EntryKind.FILE, "disk.img", 0o644, size, bytes(32), 0, extents)
    listed = ref(encode_part(Part(1, chunks, (entry,))))
    return Version(Root(1, "pkg-1", number, 1, size, len(chunks), 0, True, (listed,)), ref(b"root %d" % number), read)

old = version(1, [(n, 0) for n in range(COUNT)])
shifted = [(n, 0) for n in range(1000, 1004)] + [(n, int(n % 64 == 9)) for n in range(COUNT)]
new = version(2, shifted)
kept = []
made = make_delta(old, new, scratch=Path(sys.argv[1]), generation=Generation(1, Secret(b"s" * 32)),
    sign=lambda payload: payload.hex(), store=lambda sealed: kept.append(len(sealed.data)), workers=int(sys.argv[2]))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(old.root.plain_size, made.patches, made.size, int(peak) * 1024)
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_file_of_2_gib_whose_content_shifts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(tmp_path), str(WORKERS)], stdout=subprocess.PIPE, check=True, text=True
    )
    size, patches, delta, peak = map(int, done.stdout.split())
    assert (size, patches) == (2 * GIB, 8)
    assert delta < MIB
    assert peak <= LIMIT
