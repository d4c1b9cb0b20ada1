"""Making a delta never holds a whole large file, nor all that changed, however many compare at the same time."""

import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.core.sizes import GIB, MIB

LIMIT = 300 * MIB
WORKERS = 2

VERSIONS = """
import hashlib, random, sys
from pathlib import Path
from entrepot.content.digests import digest_of
from entrepot.content.delta.making import Version, make_delta
from entrepot.content.manifest import Entry, EntryKind, Extent, Part, Root, encode_part
from entrepot.content.sealing import Generation
from entrepot.core.secret import Secret
from entrepot.protocol import SealedRef

parts = {}

def listed(part):
    data = encode_part(part)
    object_id = hashlib.sha256(data).digest()
    parts[object_id] = data
    return SealedRef(object_id, len(data) + 17, len(data), bytes(32), digest_of(data))

def chunk(name):
    # Its id holds its name; its bytes are made again whenever they are asked for.
    data = plain(name)
    object_id = repr(name).encode().ljust(32, b".")
    return SealedRef(object_id, len(data) + 17, len(data), bytes(32), digest_of(data))

def read(wanted):
    found = parts.get(wanted.object_id)
    return plain(eval(wanted.object_id.rstrip(b"."))) if found is None else found

def version(number, made):
    size = sum(ref.plain_size for part in made for ref in part.chunks)
    root = Root(1, "pkg-1", number, 1, size, 1, 0, True, tuple(map(listed, made)))
    return Version(root, SealedRef(b"root %d" % number, 100, 100, bytes(32), bytes(32)), read)
"""

ONE_FILE = """
CHUNK, COUNT = 4 << 20, 512

def plain(name):
    number, changed = name
    data = random.Random(number).randbytes(CHUNK - 16 * changed)
    return b"".join(data[at : at + 500_000] + b"!" for at in range(0, len(data), 500_000)) if changed else data

def file_of(names):
    chunks = tuple(map(chunk, names))
    extents = tuple(Extent(n, 0, ref.plain_size) for n, ref in enumerate(chunks))
    size = sum(ref.plain_size for ref in chunks)
    return [Part(1, chunks, (Entry(EntryKind.FILE, "disk.img", 0o644, size, bytes(32), 0, extents),))]

old = version(1, file_of([(n, 0) for n in range(COUNT)]))
shifted = [(n, 0) for n in range(1000, 1004)] + [(n, int(n % 64 == 9)) for n in range(COUNT)]
new = version(2, file_of(shifted))
"""

MANY_FILES = """
def plain(name):
    number, release, size = name
    akin = release if number % 100 else 0  # one in a hundred grew from the file of the release before
    return random.Random(number * 10 + akin).randbytes(size) + b"%d" % release

def files_of(release):
    for first in range(0, BIG + SMALL, 2000):
        names = [(n, release, 300_000 if n < BIG else 2000) for n in range(first, min(first + 2000, BIG + SMALL))]
        chunks = tuple(map(chunk, names))
        yield Part(1, chunks, tuple(
            Entry(EntryKind.FILE, f"{number:06}", 0o644, ref.plain_size, bytes(32), 0, (Extent(n, 0, ref.plain_size),))
            for n, ((number, _, _), ref) in enumerate(zip(names, chunks))
        ))

BIG, SMALL = map(int, sys.argv[3:])
old, new = version(1, list(files_of(1))), version(2, list(files_of(2)))
"""

MAKE = """
kept = []
made = make_delta(old, new, scratch=Path(sys.argv[1]), generation=Generation(1, Secret(b"s" * 32)),
    sign=lambda payload: payload.hex(), store=lambda sealed: kept.append(len(sealed.data)), workers=int(sys.argv[2]))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(old.root.plain_size, made.patches, made.size, int(peak) * 1024)
"""

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc"),
]


def made(versions: str, scratch: Path, *counts: int) -> list[int]:
    """Make a delta in a process of its own: plain size, patches, bytes of the delta, peak memory."""
    command = [sys.executable, "-c", VERSIONS + versions + MAKE, str(scratch), str(WORKERS), *map(str, counts)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return list(map(int, done.stdout.split()))


def test_a_file_of_2_gib_whose_content_shifts(tmp_path: Path) -> None:
    size, patches, delta, peak = made(ONE_FILE, tmp_path)
    assert (size, patches) == (2 * GIB, 8)
    assert delta < MIB
    assert peak <= LIMIT


def test_a_release_of_which_every_chunk_is_new(tmp_path: Path) -> None:
    """All old chunks are gone, so all of them are looked through, and all new ones are compared with what is found."""
    size, patches, _, peak = made(MANY_FILES, tmp_path, 900, 2000)
    assert patches == 29
    assert size > 256 * MIB
    assert peak <= 200 * MIB
