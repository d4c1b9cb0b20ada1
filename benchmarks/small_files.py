"""100,000 files of 1 to 20 KiB: publish them, then rebuild them from the library as a client does.

The bytes are slices of real software (``benchmarks/corpus.py``), the sizes random from a fixed seed. Keys: files, mib,
publish_seconds, publish_cpu_seconds, peak_rss_mib, fetch_seconds (every object read, verified, opened, every
file written and its hash checked), objects (chunks and manifest), requests (what a client without anything asks for:
each object once), objects_per_1000_files.
"""

import hashlib
import json
import random
import shutil
import sys
import time
from pathlib import Path

from benchmarks.corpus import ROOT, size_of, software_tree
from benchmarks.library import open_site
from benchmarks.measuring import fresh, report, run
from entrepot.content.reading import open_root, parts
from entrepot.content.sealing import open_sealed
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import KIB, MIB
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
    """Publish, rebuild, print what was seen."""
    opened = open_site(site)
    start, cpu = time.perf_counter(), time.process_time()
    published = opened.publish(source)
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    asked = 0

    def fetch(ref: SealedRef) -> bytes:
        nonlocal asked
        asked += 1
        return opened.shelf.read_whole(ObjectId(ref.object_id))

    start = time.perf_counter()
    root = open_root(
        fetch(published.root), published.root, lambda raw: take_apart(raw, typ=SignedType.MANIFEST).payload
    )
    target = site / "rebuilt"
    for part in parts(root, fetch):
        chunk, plain = -1, b""
        for entry in part.entries:
            path = target / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                for extent in entry.extents:
                    if extent.chunk != chunk:
                        chunk, ref = extent.chunk, part.chunks[extent.chunk]
                        plain = open_sealed(fetch(ref), ref)
                    piece = plain[extent.offset : extent.offset + extent.length]
                    file.write(piece)
            assert hashlib.sha256(piece).digest() == entry.sha256
    figures = {
        "publish_seconds": round(seconds, 1),
        "publish_cpu_seconds": round(used, 1),
        "fetch_seconds": round(time.perf_counter() - start, 1),
        "objects": published.objects,
        "requests": asked,
    }
    print(json.dumps(figures))


def main() -> None:
    """Measure and print."""
    if "--once" in sys.argv:
        publish_once(Path(sys.argv[-2]), Path(sys.argv[-1]))
        return
    source = small_files((ROOT / "small").resolve())
    site = fresh((ROOT / "small-site").resolve())
    done = run([sys.executable, "-m", "benchmarks.small_files", "--once", str(source), str(site)])
    figures = {"files": FILES, "mib": size_of(source) // MIB, **json.loads(done.output)}
    figures["peak_rss_mib"] = done.peak_rss_mib
    figures["objects_per_1000_files"] = round(figures["objects"] * 1000 / FILES, 1)
    report(figures, "100,000 files of 1 to 20 KiB")
    shutil.rmtree(site)


if __name__ == "__main__":
    main()
