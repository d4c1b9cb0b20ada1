"""Fuzzes the unpacking of foreign archives. ``python tests/fuzz/fuzz_archives.py -max_total_time=600``.

Each input must be unpacked or refused by name, and nothing may be written outside the folder. ``test_fuzz_archives.py``
runs it briefly.
"""

import io
import os
import shutil
import struct
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["entrepot.content.archives", "entrepot.content.archivestreams"]):
    from entrepot.content.archives import unpack
from entrepot.core.errors import RefusedError, StorageError

SUFFIXES = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".deb")
FILES = {"bin/tool": b"\x7fELF" + bytes(300), "share/a.txt": b"text " * 20, "empty": b""}
ROOM = 64 * 1024 * 1024
OUTER = Path(tempfile.mkdtemp())


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind, target in (("l", tarfile.SYMTYPE, "bin/tool"), ("h", tarfile.LNKTYPE, "bin/tool")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return out.getvalue()


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return out.getvalue()


def _deb(tar: bytes) -> bytes:
    return b"!<arch>\n" + b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (b"data.tar", 0, 0, 0, b"100644", len(tar)) + tar


GOOD = {".tar": _tar(), ".zip": _zip(), ".deb": _deb(_tar())}


def one_input(data: bytes) -> None:
    """The first byte chooses the kind; the rest is an archive, or changes of a good one."""
    if not data:
        return
    kind, body = data[0], data[1:]
    suffix = SUFFIXES[kind % len(SUFFIXES)]
    if kind & 0x80 and suffix in GOOD:
        body = _changed(GOOD[suffix], body)
    path = OUTER / f"input{suffix}"
    path.write_bytes(body)
    target = OUTER / "outer" / "target"
    target.mkdir(parents=True)
    try:
        unpack(path, target, room=lambda: ROOM)
    except (RefusedError, StorageError):
        pass
    finally:
        _check(target)
        shutil.rmtree(target.parent)
        path.unlink()


def _check(target: Path) -> None:
    assert [each.name for each in target.parent.iterdir()] == ["target"]
    assert len(list(OUTER.iterdir())) == 2  # the input, and the folder around the target
    root = os.path.realpath(target)
    for folder, _, names in os.walk(target):
        for name in names:
            found = Path(folder, name)
            assert not found.is_symlink() or os.path.realpath(found).startswith(root)


def _changed(good: bytes, changes: bytes) -> bytes:
    out = bytearray(good)
    for at in range(0, len(changes) - 2, 3):
        where = struct.unpack_from(">H", changes, at)[0]
        out[where % len(out)] = changes[at + 2]
    return bytes(out)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
