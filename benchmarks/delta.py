"""Bytes that a client on version 1 fetches for version 2, over pairs of real releases.

The peer is ``zstd -3 --patch-from`` on the tars. Pairs: patch releases of wheels and of Debian packages, trees whose
paths carry the version number, one pair of compressed archives (the wheels themselves), one major upgrade. Of a Debian
package the two newest releases are taken that the machine's own package sources offer; where they offer one only, the
pair is left out. Fetched counts all: both roots, manifest parts or their patches, the delta, and full objects where no
patch helps.

Keys: pairs, patch_vs_patch_from (geometric mean over the patch releases; below 1 is smaller),
worst_tree_vs_patch_from, worst_vs_patch_from, worst_vs_full, mb_per_s_core (plain bytes of the chunks that the old
version lacks, per processor second), peak_rss_mib (of the process while it makes a delta, the worst pair).
"""

import json
import math
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

from benchmarks.corpus import ROOT, debian_releases, installed_debian, installed_wheel, wheel
from benchmarks.library import BenchmarkSite, open_site
from benchmarks.measuring import forget_peak, fresh, own_peak, report
from entrepot.content.delta.making import Version, make_delta
from entrepot.content.publish import Published
from entrepot.content.reading import open_root
from entrepot.content.sealing import Sealed, open_sealed
from entrepot.core.ids import ObjectId
from entrepot.protocol import SealedRef, SignedType
from entrepot.trust.signing import sign, take_apart


class Pair(msgspec.Struct, frozen=True):
    """Two releases. ``kind``: patch, major, numbered (paths carry the version) or archive."""

    name: str
    kind: str
    old: str
    new: str


PAIRS = (
    Pair("scipy", "patch", "scipy==1.17.0", "scipy==1.17.1"),
    Pair("numpy", "patch", "numpy==2.3.4", "numpy==2.3.5"),
    Pair("pandas", "patch", "pandas==2.3.2", "pandas==2.3.3"),
    Pair("django", "patch", "django==5.2.7", "django==5.2.8"),
    Pair("PySide6", "patch", "PySide6-Essentials==6.9.1", "PySide6-Essentials==6.9.2"),
    Pair("postgresql (Debian)", "patch", "deb:postgresql-15", ""),
    Pair("node (Debian)", "patch", "deb:libnode108", ""),
    Pair("kernel (Debian), numbered paths", "numbered", "deb:linux-image-6.1.0-*-cloud-amd64", ""),
    Pair("scipy, numbered paths", "numbered", "scipy==1.17.0", "scipy==1.17.1"),
    Pair("numpy, major upgrade", "major", "numpy==1.26.4", "numpy==2.3.5"),
    Pair("scipy, the wheels as files", "archive", "scipy==1.17.0", "scipy==1.17.1"),
)


class Figures(msgspec.Struct, frozen=True):
    """Bytes: what the client fetches, all of version 2, and what ``zstd --patch-from`` makes of it; MiB: the peak."""

    name: str
    kind: str
    fetched: int
    full: int
    patch_from: int
    plain: int
    cpu: float
    peak: float


def offered(pair: Pair) -> Pair | None:
    """The pair with its releases; None when the package sources do not offer two."""
    if not pair.old.startswith("deb:"):
        return pair
    releases = debian_releases(pair.old[4:])
    if len(releases) < 2:
        return None
    return msgspec.structs.replace(pair, old=f"deb:{releases[-2]}", new=f"deb:{releases[-1]}")


def source(pair: Pair, requirement: str, work: Path) -> Path:
    """The tree of one release, laid out as the pair's kind wants it."""
    if requirement.startswith("deb:"):
        return installed_debian(requirement[4:], ROOT / "debian" / requirement[4:].replace("=", "-"))
    if pair.kind == "archive":
        folder = work / requirement
        folder.mkdir(parents=True)
        shutil.copy(wheel(requirement), folder / f"{pair.name.split(',')[0]}.whl")
        return folder
    tree = installed_wheel(requirement, ROOT / "tree" / requirement.replace("==", "-"))
    if pair.kind != "numbered":
        return tree
    folder = work / requirement / "opt"
    folder.mkdir(parents=True)
    shutil.copytree(tree, folder / requirement.replace("==", "-"))
    return folder.parent


def measure(pair: Pair, work: Path) -> Figures:
    """One pair."""
    old_tree, new_tree = source(pair, pair.old, work / "old"), source(pair, pair.new, work / "new")
    site = open_site(work / "site")
    old = site.publish(old_tree, number=1)
    new = site.publish(new_tree, number=2)
    before, after = version(site, old), version(site, new)
    held = {ref.object_id for part in before.parts() for ref in part.chunks}
    chunks = {ref.object_id: ref for part in after.parts() for ref in part.chunks}
    lacking = [ref for ref in chunks.values() if ref.object_id not in held]
    forget_peak()
    start = cpu_seconds()
    with tempfile.TemporaryDirectory() as scratch:
        made = make_delta(
            before,
            after,
            scratch=Path(scratch),
            generation=site.keys.generation,
            sign=lambda payload: sign(payload, typ=SignedType.DELTA, key=site.key),
            store=lambda sealed: keep(site, sealed),
        )
    cpu, peak = cpu_seconds() - start, own_peak()
    known = {ref.object_id for ref in before.root.parts}
    manifest = sum(ref.sealed_size for ref in (after.ref, *after.root.parts) if ref.object_id not in known)
    full = sum(ref.sealed_size for ref in chunks.values()) + manifest
    fetched = made.fetched if made else sum(ref.sealed_size for ref in lacking) + manifest
    return Figures(
        name=pair.name,
        kind=pair.kind,
        fetched=fetched,
        full=full,
        patch_from=patch_from(old_tree, new_tree, work),
        plain=sum(ref.plain_size for ref in lacking),
        cpu=cpu,
        peak=peak,
    )


def keep(site: BenchmarkSite, sealed: Sealed) -> None:
    """Store an object of the delta."""
    site.shelf.put_sealed(ObjectId(sealed.ref.object_id), sealed.data)


def version(site: BenchmarkSite, published: Published) -> Version:
    """A published version, ready for making deltas."""

    def read(ref: SealedRef) -> bytes:
        return open_sealed(site.shelf.read_whole(ObjectId(ref.object_id)), ref)

    data = site.shelf.read_whole(ObjectId(published.root.object_id))
    root = open_root(data, published.root, lambda raw: take_apart(raw, typ=SignedType.MANIFEST).payload)
    return Version(root=root, ref=published.root, read=read)


def patch_from(old: Path, new: Path, work: Path) -> int:
    """Size of ``zstd -3 --patch-from`` between the two trees as sorted tars."""
    tars = []
    for name, tree in (("old.tar", old), ("new.tar", new)):
        tars.append(work / name)
        options = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]
        subprocess.run(["tar", *options, "-C", str(tree), "-cf", str(tars[-1]), "."], check=True)
    out = work / "patch.zst"
    subprocess.run(
        ["zstd", "-q", "-f", "-3", "--long=31", f"--patch-from={tars[0]}", str(tars[1]), "-o", str(out)], check=True
    )
    return out.stat().st_size


def cpu_seconds() -> float:
    """User and system time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    done = []
    for pair in filter(None, map(offered, PAIRS)):
        work = fresh((ROOT / "delta-work").resolve())
        done.append(measure(pair, work))
        shutil.rmtree(work)
    ratios = {item.name: item.fetched / item.patch_from for item in done}
    patches = [ratios[item.name] for item in done if item.kind == "patch"]
    figures = {
        "pairs": len(done),
        "patch_vs_patch_from": round(math.exp(sum(map(math.log, patches)) / len(patches)), 3),
        "worst_tree_vs_patch_from": round(max(ratios[item.name] for item in done if item.kind != "archive"), 3),
        "worst_vs_patch_from": round(max(ratios.values()), 3),
        "worst_vs_full": round(max(item.fetched / item.full for item in done), 3),
        "mb_per_s_core": round(sum(item.plain for item in done) / sum(item.cpu for item in done) / 1e6, 1),
        "peak_rss_mib": max(item.peak for item in done),
    }
    lines = [
        f"{item.name:32} fetched {item.fetched / 1e6:8.2f} MB, all {item.full / 1e6:8.2f} MB, "
        f"patch-from {item.patch_from / 1e6:8.2f} MB, ratio {ratios[item.name]:.2f}, "
        f"{item.plain / item.cpu / 1e6:.1f} MB/s a core, "
        f"{item.peak:.0f} MiB"
        for item in done
    ]
    report(figures, "\n".join([*lines, json.dumps({"cpus": os.cpu_count()})]))


if __name__ == "__main__":
    main()
