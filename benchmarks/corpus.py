"""Real software to measure on: released wheels and Debian packages, unpacked below ``build/benchmarks``."""

import fnmatch
import functools
import itertools
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from entrepot.core.sizes import GIB, MIB

ROOT = Path("build/benchmarks")
LARGE = 8 * GIB
STEP = 64 * MIB
ISLAND = 16 * MIB

TREE = (
    "scipy==1.17.0",
    "scipy==1.17.1",
    "pandas==2.3.2",
    "pandas==2.3.3",
    "scikit-learn==1.7.2",
    "pyarrow==21.0.0",
    "matplotlib==3.10.7",
    "numpy==2.3.4",
    "numpy==2.3.5",
    "sympy==1.14.0",
    "babel==2.17.0",
    "django==5.2.7",
    "django==5.2.8",
    "botocore==1.40.60",
    "plotly==6.3.1",
    "polars==1.34.0",
    "llvmlite==0.45.1",
    "PySide6-Essentials==6.9.2",
)
"""About 1 GiB of installed files, two releases of some packages among them."""


def wheel(requirement: str) -> Path:
    """Download a wheel once; the path of the file."""
    folder = ROOT / "wheels" / requirement.replace("==", "-")
    found = sorted(folder.glob("*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                *("--python-version", "3.11", "--only-binary=:all:", "-d", str(folder), requirement),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        found = sorted(folder.glob("*.whl"))
    return found[0]


def installed_wheel(requirement: str, target: Path) -> Path:
    """Unpack a wheel as pip would lay it out."""
    if not target.exists():
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with zipfile.ZipFile(wheel(requirement)) as archive:
            archive.extractall(partial)
        partial.rename(target)
    return target


def debian_releases(pattern: str) -> list[str]:
    """``name=version`` of what the machine's package sources offer, oldest first; ``pattern`` may hold one ``*``."""
    names = subprocess.run(["apt-cache", "pkgnames"], check=True, capture_output=True, text=True).stdout.split()
    found = []
    for name in sorted(fnmatch.filter(names, pattern)):
        listed = subprocess.run(["apt-cache", "madison", name], check=True, capture_output=True, text=True).stdout
        found += [f"{name}={line.split('|')[1].strip()}" for line in listed.splitlines() if "Packages" in line]

    def older(one: str, other: str) -> int:
        command = ["dpkg", "--compare-versions", one.partition("=")[2], "lt", other.partition("=")[2]]
        return -1 if subprocess.run(command, check=False).returncode == 0 else 1

    return sorted(dict.fromkeys(found), key=functools.cmp_to_key(older))


def debian_package(name: str) -> Path:
    """Download a Debian package once (any version of it that the registry has); the path of the file."""
    folder = ROOT / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    plain = name.replace("=", "_")
    found = sorted(folder.glob(f"{plain}_*.deb"))
    if not found:
        subprocess.run(["apt-get", "download", "-qq", name], cwd=folder, check=True)
        found = sorted(folder.glob(f"{plain}_*.deb"))
    return found[0]


def installed_debian(name: str, target: Path) -> Path:
    """Unpack a Debian package's files."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(debian_package(name)), str(target)], check=True)
    return target


def software_tree() -> Path:
    """The tree of about 1 GiB, apart from what other benchmarks unpack."""
    tree = ROOT / "software"
    tree.mkdir(parents=True, exist_ok=True)
    for requirement in TREE:
        installed_wheel(requirement, tree / requirement.replace("==", "-"))
    return tree


def large_file(tree: Path, target: Path) -> Path:
    """A file of 8 GiB: holes, and every 64 MiB an island of real software, the larger files of ``tree`` in turn."""
    target.parent.mkdir(parents=True, exist_ok=True)
    islands = (path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file() and path.stat().st_size > MIB)
    with target.open("wb") as file:
        file.truncate(LARGE)
        for at, data in zip(range(0, LARGE, STEP), itertools.cycle(islands), strict=False):
            file.seek(at)
            file.write(data[:ISLAND])
    return target


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
