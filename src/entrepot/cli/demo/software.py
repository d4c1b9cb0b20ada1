"""Real software to distribute: two releases of a package from the registry, and what this environment has installed.

Without a registry the two releases are made of the environment's newest files: the second has rebuilt ones, as a
patch release has. What was downloaded is kept beside the demonstration's folder and used again.
"""

import contextlib
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec

PACKAGE = "numpy"
RELEASES = ("2.4.5", "2.4.6")
INSTALLED = ("sqlalchemy", "cryptography", "psycopg-binary", "hdiffpatch")
REBUILT = "toolkit"
REGISTRY_SECONDS = 25
SUITE = ("litestar", "rich", "typer", "aiohttp", "alembic", "granian")
REBUILT_EVERY = 12
EXCLUDES = ("__pycache__",)


class Software(msgspec.Struct, frozen=True, kw_only=True):
    """What the demonstration publishes. ``first`` and ``second`` are releases of one product, ``suite`` another
    content; ``origin`` says to people where they come from."""

    name: str
    first: Path
    second: Path
    first_release: str
    second_release: str
    suite: Path
    suite_name: str
    origin: str


def find_software(folder: Path, cache: Path) -> Software:
    """Lay out the sources below ``folder``; ``cache`` keeps downloads from one run to the next."""
    suite = folder / "suite"
    for package in SUITE:
        _copy_distribution(package, suite)
    releases = [cache / f"{PACKAGE}-{release}" for release in RELEASES]
    if all(_download(release, target, cache) for release, target in zip(RELEASES, releases, strict=True)):
        origin = f"{PACKAGE} {RELEASES[0]} and {RELEASES[1]}, as released"
        names = RELEASES
    else:
        releases, names = _rebuilt(folder), ("1", "2")
        origin = (
            f"the installed files of {', '.join(INSTALLED)}, and a rebuilt variant (no package registry was reached)"
        )
    return Software(
        name=PACKAGE if names == RELEASES else REBUILT,
        first=releases[0],
        second=releases[1],
        first_release=names[0],
        second_release=names[1],
        suite=suite,
        suite_name="Admin tools",
        origin=origin,
    )


def _download(release: str, target: Path, cache: Path) -> bool:
    """Fetch and unpack one wheel; tell whether it is there."""
    if target.is_dir():
        return True
    wheels = cache / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    arguments = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    arguments += ["--retries", "0", "--timeout", "8", "--dest", str(wheels), f"{PACKAGE}=={release}"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "pip", *arguments], check=False, capture_output=True, timeout=REGISTRY_SECONDS
        )
    wheel = next(wheels.glob(f"*-{release}-*.whl"), None)
    if wheel is None:
        return False
    unpacking = target.with_name(f"{target.name}.part")
    shutil.rmtree(unpacking, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacking)
    unpacking.rename(target)
    return True


def _rebuilt(folder: Path) -> list[Path]:
    """Installed packages, and a variant in which every twelfth file was changed as a patch release would."""
    first, second = folder / "release-1", folder / "release-2"
    for package in INSTALLED:
        _copy_distribution(package, first)
    shutil.copytree(first, second, symlinks=True)
    for number, path in enumerate(sorted(path for path in second.rglob("*") if path.is_file())):
        if number % REBUILT_EVERY == 0:
            data = path.read_bytes()
            middle = len(data) // 2
            path.write_bytes(data[:middle] + b"\n# rebuilt for release 2\n" + data[middle:])
    return [first, second]


def _copy_distribution(name: str, target: Path) -> None:
    """Copy the installed files of a distribution, without compiled bytecode and scripts outside it."""
    root = Path(importlib.metadata.distribution(name).locate_file("."))  # type: ignore[arg-type]  # a path here
    for file in importlib.metadata.files(name) or ():
        if "__pycache__" in file.parts or ".." in file.parts:
            continue
        source = root / file
        if source.is_file():
            copy = target / Path(*file.parts)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
