"""Looking at what is there: whether two trees are equal, and whether a store tells anything.

The search reads every byte of a store as a thief would who knows what to look for: samples of the source files, their
names, and the keys of their objects.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import zstandard

from entrepot.core.encoding import b64url

SAMPLE_BYTES = 48
SAMPLES_PER_FILE = 4
MOST_NEEDLES = 100
LEAST_FILE = 512
LEAST_NAME = 9
OBJECTS = "objects"
NOISE = 0.98


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How a fetched tree compares with its source."""

    files: int
    bytes: int
    differing: tuple[str, ...]


def compare_trees(source: Path, fetched: Path, *, excludes: tuple[str, ...] = ()) -> Difference:
    """Compare names, kinds, executable bits and every byte."""
    left, right = dict(_describe(source)), dict(_describe(fetched))
    for name in [name for name in left if any(part in excludes for part in name.split("/"))]:
        del left[name]
    differing = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    files = [entry for entry in left.values() if entry[0] == "file"]
    return Difference(files=len(files), bytes=sum(entry[2] for entry in files), differing=tuple(differing))


def _describe(root: Path) -> Iterator[tuple[str, tuple[str, str, int, bool]]]:
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        for name in [*names, *(name for name in folders if (here / name).is_symlink())]:
            path = here / name
            relative = path.relative_to(root).as_posix()
            if path.is_symlink():
                yield relative, ("link", str(path.readlink()), 0, False)
            else:
                status = path.stat()
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                yield relative, ("file", digest, status.st_size, bool(status.st_mode & 0o100))
        if not names and not folders:
            yield here.relative_to(root).as_posix(), ("folder", "", 0, False)


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What a search of a store found. ``found`` names what was recognised and where."""

    objects: int
    bytes: int
    samples: int
    names: int
    keys: int
    found: tuple[str, ...]


class Needles(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for: pieces of plain files, file names, keys."""

    samples: tuple[bytes, ...]
    names: tuple[bytes, ...]
    keys: tuple[bytes, ...]


def needles_of(sources: Iterable[Path], keys: Iterable[bytes]) -> Needles:
    """Samples and names of files below the sources, spread evenly; every key raw and as text."""
    samples: list[bytes] = []
    names: set[bytes] = set()
    for source in sources:
        for path in sorted(source.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            if len(path.name) >= LEAST_NAME:
                names.add(path.name.encode("utf-8", "surrogateescape"))
            samples += _samples(path)
    chosen = [form for key in _spread(list(set(keys)), MOST_NEEDLES) for form in _forms(key)]
    return Needles(
        samples=tuple(_spread(samples, MOST_NEEDLES)),
        names=tuple(_spread(sorted(names), MOST_NEEDLES)),
        keys=tuple(chosen),
    )


def _forms(key: bytes) -> tuple[bytes, ...]:
    """A key as it might be written down: raw, hexadecimal, base64url; texts as they are."""
    return (key,) if key.isascii() else (key, key.hex().encode(), b64url(key).encode())


def _spread(values: list[bytes], most: int) -> list[bytes]:
    return values[:: max(1, -(-len(values) // most))]


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    if size < LEAST_FILE:
        return
    with path.open("rb") as file:
        for number in range(SAMPLES_PER_FILE):
            file.seek((size - SAMPLE_BYTES) * number // SAMPLES_PER_FILE)
            sample = file.read(SAMPLE_BYTES)
            if len(set(sample)) > 12:  # runs of zeros and rulers prove nothing
                yield sample


def search_store(root: Path, needles: Needles) -> Search:
    """Look for every needle in every file below ``root``, and in the names of files and folders.

    Objects (not the small signed documents beside them) must look like noise, too: what can be compressed is not
    encrypted.
    """
    objects = total = 0
    found: list[str] = []
    compressor = zstandard.ZstdCompressor(level=1)
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        name = path.name.encode("utf-8", "surrogateescape")
        found += [f"the name of {relative}" for needle in needles.names if needle in name]
        if not path.is_file():
            continue
        data = path.read_bytes()
        objects, total = objects + 1, total + len(data)
        for kind, values in (("plaintext", needles.samples), ("a file name", needles.names), ("a key", needles.keys)):
            found += [f"{kind} in {relative}" for value in values if value in data]
        if relative.parts[0] == OBJECTS and len(compressor.compress(data)) < len(data) * NOISE:
            found.append(f"compressible bytes in {relative}")
    return Search(
        objects=objects,
        bytes=total,
        samples=len(needles.samples),
        names=len(needles.names),
        keys=len(needles.keys),
        found=tuple(found),
    )
