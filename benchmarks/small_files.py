"""100,000 files of 1 to 20 KiB: publish them, then fetch them on a device.

The bytes are slices of real software (``benchmarks/corpus.py``), the sizes random from a fixed seed. Published into a
library of its own, which is what is measured; then once more by a site, which brings them to a point, from which a
device without anything fetches them (``benchmarks/rollout.py``: all of them real processes). Keys: files, mib,
publish_seconds, publish_cpu_seconds, peak_rss_mib (of publishing), stored_mib, objects (chunks and manifest),
objects_per_1000_files; fetch_seconds, fetch_cpu_seconds and fetch_peak_rss_mib of the command ``entrepot client fetch``
(location, token, TLS, every object verified and opened, every file written, hashed and flushed, the tree put in place),
requests and fetched_mib (all that it asked points for). The limits, in the same run: publish_vs_zstd and
publish_cpu_vs_zstd against ``tar | zstd -3 -T2`` of the same files, fetch_vs_untar and fetch_cpu_vs_untar against
``zstd -d | tar -x``, which has no network and checks nothing (whole processes with ``sync``; above 1 is faster than
the limit).
"""

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.corpus import ROOT, size_of, software_tree
from benchmarks.library import open_site
from benchmarks.measuring import Run, fresh, report, run
from benchmarks.rollout import rolled_out
from entrepot.core.sizes import KIB, MIB

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
    """Publish, print what was seen."""
    published = open_site(site).publish(source)
    print(json.dumps({"objects": published.objects, "stored_mib": published.stored_size // MIB}))


def fetch(source: Path, folder: Path) -> tuple[Run, dict[str, Any]]:
    """Publish, distribute and fetch with real processes; the device's command, and what it says of itself."""
    folder.mkdir()
    with rolled_out(folder) as rollout:
        rollout.distribute(source, "Small")
        fetched = rollout.fetch("Small")
    said = json.loads(fetched.output)
    assert (said["files"], size_of(Path(said["folder"]))) == (FILES, size_of(source))
    return fetched, said


def main() -> None:
    """Measure and print."""
    if "--publish" in sys.argv:
        publish_once(Path(sys.argv[-2]), Path(sys.argv[-1]))
        return
    source = small_files((ROOT / "small").resolve())
    work = fresh((ROOT / "small-work").resolve())
    work.mkdir()
    tar = work / "tree.tar.zst"
    us = [sys.executable, "-m", "benchmarks.small_files"]
    packed = run(["sh", "-c", f"tar -C {source} -cf - . | zstd -q -3 -T2 -o {tar} && sync"])
    done = run([*us, "--publish", str(source), str(work / "site")])
    unpacked = run(["sh", "-c", f"mkdir {work}/plain && zstd -dcq {tar} | tar -C {work}/plain -xf - && sync"])
    fetched, said = fetch(source, work / "rollout")
    figures = {"files": FILES, "mib": size_of(source) // MIB, **json.loads(done.output)}
    figures |= {
        "publish_seconds": round(done.seconds, 1),
        "publish_cpu_seconds": round(done.cpu, 1),
        "publish_vs_zstd": round(packed.seconds / done.seconds, 2),
        "publish_cpu_vs_zstd": round(packed.cpu / done.cpu, 2),
        "peak_rss_mib": done.peak_rss_mib,
        "objects_per_1000_files": round(figures["objects"] * 1000 / FILES, 1),
        "fetch_seconds": round(fetched.seconds, 1),
        "fetch_cpu_seconds": round(fetched.cpu, 1),
        "fetch_vs_untar": round(unpacked.seconds / fetched.seconds, 2),
        "fetch_cpu_vs_untar": round(unpacked.cpu / fetched.cpu, 2),
        "fetch_peak_rss_mib": fetched.peak_rss_mib,
        "requests": sum(used["requests"] for used in said["used"] if used["point"]),
        "fetched_mib": sum(used["bytes"] for used in said["used"] if used["point"]) // MIB,
    }
    report(figures, "100,000 files of 1 to 20 KiB")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
