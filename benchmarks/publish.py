"""Publish about 1 GiB of real software into a cold library, against restic, casync and ``tar | zstd -3 -T2``.

Every contender starts with nothing and is durable at the end (``sync`` is part of the time of those that do not do it
themselves). A site is a server, whose process runs already when it is told to publish: what is measured is from then
until all is durable, and what that process's start takes is told beside it. In turn, three rounds, medians; what a
round has written is removed at the end only, as ext4 gives the numbers of removed files out again with hesitation.
Keys: mib_per_s, vs_restic, vs_casync, vs_zstd (throughput ratios, above 1 is faster than the peer), the same with
``cpu_`` in processor seconds, which a busy machine disturbs less, start_seconds (not in the other figures),
size_vs_restic, size_vs_casync, peak_rss_mib.

At the end one file of 8 GiB, holes with islands of the same software, is published alone: ``large_peak_rss_mib``,
``large_mib_per_s``, and ``large_vs_hashing``, the processor seconds of OpenSSL's SHA-256 of that file as a share of
ours. ``--large`` measures that alone.
"""

import functools
import json
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.corpus import ROOT, large_file, size_of, software_tree
from benchmarks.measuring import Resident, Run, fresh, report, run

ROUNDS = 3


def ours(tree: Path, work: Path, starts: list[float]) -> tuple[Run, int]:
    """One publish by a site's process that runs already; how long its start took is added to ``starts``."""
    target = fresh(work / "entrepot")
    site = Resident([sys.executable, "-m", "benchmarks.publish", "--site", str(target)])
    done = site.order(str(tree))
    site.end()
    starts.append(site.start_seconds)
    return done, size_of(target / "library")


def serve(folder: Path) -> None:
    """A site with nothing in it: publish what standard input names, a line each."""
    from benchmarks.library import open_site
    from entrepot.content.spare import SPARE
    from entrepot.web.process import keep_freed_memory

    keep_freed_memory(one_heap=True)  # as the site's own process does, as well as the next
    SPARE.keep()
    site = open_site(folder)
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin, start=1):
        site.publish(Path(line.rstrip("\n")), number=number)
        print("done", flush=True)


def restic(tree: Path, work: Path) -> tuple[Run, int]:
    """``restic backup`` into a local repository, as it comes."""
    target = fresh(work / "restic")
    env = {"RESTIC_PASSWORD": "benchmark", "RESTIC_REPOSITORY": str(target), "RESTIC_CACHE_DIR": str(work / "cache")}
    shutil.rmtree(work / "cache", ignore_errors=True)
    run(["restic", "init", "--quiet"], env=env)
    done = run(["sh", "-c", "restic backup --quiet . && sync"], cwd=tree, env=env)
    return done, size_of(target)


def casync(tree: Path, work: Path) -> tuple[Run, int]:
    """``casync make`` into a local chunk store, as it comes."""
    target = fresh(work / "casync")
    target.mkdir()
    command = f"casync make --store={target}/store.castr {target}/tree.caidx {tree} >/dev/null && sync"
    return run(["sh", "-c", command]), size_of(target)


def tar_zstd(tree: Path, work: Path) -> tuple[Run, int]:
    """The physical limit: read, compress with two threads, write."""
    target = fresh(work / "tree.tar.zst")
    target.unlink(missing_ok=True)
    done = run(["sh", "-c", f"tar -C {tree} -cf - . | zstd -q -3 -T2 -o {target} && sync"])
    return done, target.stat().st_size


def large(tree: Path, work: Path) -> dict[str, float]:
    """One file of 8 GiB, against what merely hashing it takes."""
    file = large_file(tree, work / "large.img")
    done, _ = ours(file, work / "large", [])
    hashed = run(["openssl", "dgst", "-sha256", str(file)])
    return {
        "large_mib_per_s": round(file.stat().st_size / 2**20 / done.seconds, 1),
        "large_vs_hashing": round(hashed.cpu / done.cpu, 2),
        "large_peak_rss_mib": done.peak_rss_mib,
    }


def main() -> None:
    """Measure and print."""
    if "--site" in sys.argv:
        serve(Path(sys.argv[-1]))
        return
    tree = software_tree().resolve()
    work = fresh((ROOT / "work").resolve())
    if "--large" in sys.argv:
        report(large(tree, work), "One file of 8 GiB")
    else:
        report(*compare(tree, work))
    shutil.rmtree(work, ignore_errors=True)


def compare(tree: Path, work: Path) -> tuple[dict[str, float], str]:
    """All contenders in turn, then the large file: figures, and the details behind them."""
    size = size_of(tree)
    starts: list[float] = []
    contenders: dict[str, Callable[[Path, Path], tuple[Run, int]]] = {
        "entrepot": functools.partial(ours, starts=starts),
        "restic": restic,
        "casync": casync,
        "zstd": tar_zstd,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    sizes: dict[str, int] = {}
    peak = 0.0
    run(["sh", "-c", f"tar -C {tree} -cf - . | cat >/dev/null"])  # the same warm page cache for everyone
    for number in range(ROUNDS):
        for name, contender in contenders.items():
            done, sizes[name] = contender(tree, work / str(number))
            seconds[name].append(done.seconds)
            cpu[name].append(done.cpu)
            peak = max(peak, done.peak_rss_mib) if name == "entrepot" else peak
    median = {name: statistics.median(values) for name, values in seconds.items()}
    used = {name: statistics.median(values) for name, values in cpu.items()}
    figures = {
        "mib_per_s": round(size / 2**20 / median["entrepot"], 1),
        "vs_restic": round(median["restic"] / median["entrepot"], 2),
        "vs_casync": round(median["casync"] / median["entrepot"], 2),
        "vs_zstd": round(median["zstd"] / median["entrepot"], 2),
        "cpu_vs_restic": round(used["restic"] / used["entrepot"], 2),
        "cpu_vs_casync": round(used["casync"] / used["entrepot"], 2),
        "cpu_vs_zstd": round(used["zstd"] / used["entrepot"], 2),
        "start_seconds": round(statistics.median(starts), 2),
        "size_vs_restic": round(sizes["entrepot"] / sizes["restic"], 3),
        "size_vs_casync": round(sizes["entrepot"] / sizes["casync"], 3),
        "peak_rss_mib": peak,
        **large(tree, work),
    }
    return figures, json.dumps({"tree_mib": size // 2**20, "seconds": seconds, "cpu": cpu, "bytes": sizes}, indent=2)


if __name__ == "__main__":
    main()
