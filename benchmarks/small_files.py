"""100,000 files of 1 to 20 KiB: publish them, then rebuild them from the library.

The bytes are slices of real software (``benchmarks/corpus.py``), the sizes random from a fixed seed. Keys: files, mib,
publish_seconds, publish_cpu_seconds, peak_rss_mib (of publishing), fetch_seconds, fetch_cpu_seconds (every object read,
verified, opened, every file written and its hash checked; a client has a network, tokens, a journal, permissions and
flushes besides), stored_mib, objects (chunks and manifest), requests (what a client without anything asks for: each
object once), objects_per_1000_files. The limits, in the same run:
publish_vs_zstd and publish_cpu_vs_zstd against ``tar | zstd -3 -T2`` of the same files, fetch_vs_untar against
``zstd -d | tar -x``, which checks nothing (whole processes with ``sync``; above 1 is faster than the limit).
"""

import hashlib
import json
import os
import random
import shutil
import sys
from pathlib import Path

from benchmarks.corpus import ROOT, size_of, software_tree
from benchmarks.library import open_site
from benchmarks.measuring import fresh, report, run
from entrepot.content.reading import open_root, parts
from entrepot.content.sealing import open_sealed
from entrepot.core.encoding import pack, unpack
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import KIB, MIB
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef, SignedType
from entrepot.trust.signing import take_apart

FILES = 100_000
PER_FOLDER = 200


def small_files(folder: Path) -> Path:
    """Write the tree once."""
    if folder.exists():
        return folder
    noise = random.Random(20)
    bytes_of = sorted(path for path in software_tree().rglob("*") if path.is_file() and path.stat().st_size > MIB)
    data = b"".join(path.read_bytes()[: 4 * MIB] for path in bytes_of[:60])
    partial = fresh(folder.with_name(folder.name + ".partial"))
    for number in range(FILES):
        where = partial / f"{number // PER_FOLDER:03}"
        if number % PER_FOLDER == 0:
            where.mkdir(parents=True)
        size = noise.randint(KIB, 20 * KIB)
        at = noise.randrange(len(data) - size)
        (where / f"file {number:06}.bin").write_bytes(data[at : at + size])
    partial.rename(folder)
    return folder


def publish_once(source: Path, site: Path) -> None:
    """Publish, print what was seen; what a client fetches begins with the manifest's root, which is left behind."""
    opened = open_site(site)
    published = opened.publish(source)
    (site / "root").write_bytes(pack(published.root))
    print(json.dumps({"objects": published.objects, "stored_mib": published.stored_size // MIB}))


def fetch_once(site: Path, target: Path) -> None:
    """Rebuild all files from the library: every byte of an object and of a file is checked."""
    shelf = Shelf(FolderStore(site / "library"))
    asked = 0

    def fetch(ref: SealedRef) -> bytes:
        nonlocal asked
        asked += 1
        return shelf.read_whole(ObjectId(ref.object_id))

    first = unpack((site / "root").read_bytes(), SealedRef, "root")
    root = open_root(fetch(first), first, lambda raw: take_apart(raw, typ=SignedType.MANIFEST).payload)
    folder = target
    for part in parts(root, fetch):
        chunk, plain = -1, b""
        for entry in part.entries:
            path = target / entry.path
            if path.parent != folder:
                folder = path.parent
                folder.mkdir(parents=True)
            [extent] = entry.extents  # of small files
            if extent.chunk != chunk:
                chunk, ref = extent.chunk, part.chunks[extent.chunk]
                plain = open_sealed(fetch(ref), ref)
            piece = plain[extent.offset : extent.offset + extent.length]
            assert hashlib.sha256(piece).digest() == entry.sha256
            path.write_bytes(piece)
    print(json.dumps({"requests": asked}))


def main() -> None:
    """Measure and print."""
    if "--publish" in sys.argv:
        publish_once(Path(sys.argv[-2]), Path(sys.argv[-1]))
        return
    if "--fetch" in sys.argv:
        fetch_once(Path(sys.argv[-2]), Path(sys.argv[-1]))
        os.sync()
        return
    source = small_files((ROOT / "small").resolve())
    work = fresh((ROOT / "small-work").resolve())
    work.mkdir()
    tar = work / "tree.tar.zst"
    us = [sys.executable, "-m", "benchmarks.small_files"]
    packed = run(["sh", "-c", f"tar -C {source} -cf - . | zstd -q -3 -T2 -o {tar} && sync"])
    done = run([*us, "--publish", str(source), str(work / "site")])
    unpacked = run(["sh", "-c", f"mkdir {work}/plain && zstd -dcq {tar} | tar -C {work}/plain -xf - && sync"])
    fetched = run([*us, "--fetch", str(work / "site"), str(work / "rebuilt")])
    assert size_of(work / "rebuilt") == size_of(source)
    figures = {"files": FILES, "mib": size_of(source) // MIB, **json.loads(done.output), **json.loads(fetched.output)}
    figures |= {
        "publish_seconds": round(done.seconds, 1),
        "publish_cpu_seconds": round(done.cpu, 1),
        "publish_vs_zstd": round(packed.seconds / done.seconds, 2),
        "publish_cpu_vs_zstd": round(packed.cpu / done.cpu, 2),
        "fetch_seconds": round(fetched.seconds, 1),
        "fetch_cpu_seconds": round(fetched.cpu, 1),
        "fetch_vs_untar": round(unpacked.seconds / fetched.seconds, 2),
        "peak_rss_mib": done.peak_rss_mib,
        "objects_per_1000_files": round(figures["objects"] * 1000 / FILES, 1),
    }
    report(figures, "100,000 files of 1 to 20 KiB")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
