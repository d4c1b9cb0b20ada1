"""Archives are foreign bytes: what they hold is published, what they try is refused, nothing leaves the folder."""

import gzip
import io
import os
import random
import shutil
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.content import archives
from entrepot.content.archives import is_archive
from entrepot.core.errors import CancelledError, EntrepotError, RefusedError, StorageError
from entrepot.core.sizes import GIB, KIB, MIB

FILES = {"bin/tool": b"\x7fELF" + bytes(3000), "share/doc/a.txt": b"text " * 500, "empty": b""}


def unpack(archive: Path, folder: Path, **more: Any) -> None:
    archives.unpack(archive, folder, **({"room": lambda: 100 * GIB} | more))


def tar_of(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, data in entries:
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def good_entries() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        (entry("./", tarfile.DIRTYPE), b""),
        *((entry(f"./{name}", mode=0o755 if name == "bin/tool" else 0o644), data) for name, data in FILES.items()),
        (entry("bin/other", tarfile.SYMTYPE, "tool"), b""),
        (entry("bin/same", tarfile.LNKTYPE, "bin/tool"), b""),
        (entry("void", tarfile.DIRTYPE, mode=0o755), b""),
        (entry("long/" + "n" * 200 + "/" + "m" * 90), b"pax"),
    ]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "outer" / "target"
    folder.mkdir(parents=True)
    return folder


def check(target: Path) -> None:
    for name, data in FILES.items():
        assert (target / name).read_bytes() == data
    assert (target / "bin/other").readlink() == Path("tool")
    assert (target / "bin/same").read_bytes() == FILES["bin/tool"]
    assert stat.S_IMODE((target / "bin/tool").stat().st_mode) == 0o755
    assert list((target / "void").iterdir()) == []
    assert (target / "long" / ("n" * 200) / ("m" * 90)).read_bytes() == b"pax"


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tar_archives(tmp_path: Path, target: Path, suffix: str, form: int) -> None:
    plain = tmp_path / "plain"
    with tarfile.open(plain, "w", format=form) as archive:
        for info, data in good_entries():
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path = tmp_path / f"app{suffix}"
    data = plain.read_bytes()
    if suffix == ".tar.zst":
        data = zstandard.compress(data[:5000]) + zstandard.compress(data[5000:])
    elif suffix != ".tar":
        kind = {"tar.gz": "gz", "tgz": "gz", "tar.bz2": "bz2", "tar.xz": "xz"}[suffix[1:]]
        module = __import__({"gz": "gzip", "bz2": "bz2", "xz": "lzma"}[kind])
        data = module.compress(data[:5000]) + module.compress(data[5000:])  # two streams, as parallel tools write them
    path.write_bytes(data)
    unpack(path, target)
    check(target)


def test_a_zip(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "app.WHL"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | (0o755 if name == "bin/tool" else 0)) << 16
            archive.writestr(info, data)
        archive.mkdir("void")
        link = zipfile.ZipInfo("bin/other")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "tool")
    unpack(path, target)
    for name, data in FILES.items():
        assert (target / name).read_bytes() == data
    assert stat.S_IMODE((target / "bin/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "empty").stat().st_mode) == 0o644
    assert (target / "bin/other").readlink() == Path("tool")


@pytest.mark.parametrize("compression", ["none", "xz", "zstd", "gzip"])
def test_a_debian_package(tmp_path: Path, target: Path, compression: str) -> None:
    tool = shutil.which("dpkg-deb")
    assert tool, "dpkg-deb is part of every Debian"
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: app\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: an app\n"
    )
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/app").write_text("#!/bin/sh\n")
    (root / "usr/bin/link").symlink_to("app")
    package = tmp_path / "app.deb"
    command = [tool, "--root-owner-group", f"-Z{compression}", "-b", str(root), str(package)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    unpack(package, target)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if not p.is_dir()) == [
        "usr/bin/app",
        "usr/bin/link",
    ]


HOSTILE: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "unsafe path": [(entry("../escaped"), b"x")],
    "unsafe path '/": [(entry("/escaped"), b"x")],
    "unsafe path 'a/../../": [(entry("a/../../escaped"), b"x")],
    "unsafe path 'a\\\\": [(entry("a\\b"), b"x")],
    "leads outside": [(entry("link", tarfile.SYMTYPE, "../.."), b"")],
    "link 'link' to '/etc": [(entry("link", tarfile.SYMTYPE, "/etc"), b"")],
    "twice, or below": [(entry("a"), b"x"), (entry("a/b"), b"y")],
    "'a' twice": [(entry("a"), b"x"), (entry("a"), b"y")],
    "'l' twice": [(entry("l", tarfile.SYMTYPE, "a"), b""), (entry("l/below"), b"x")],
    "'d/e' twice, or below": [
        (entry("d", tarfile.SYMTYPE, "."), b""),
        (entry("d/e", tarfile.SYMTYPE, ".."), b""),
        (entry("e/x/escaped", tarfile.SYMTYPE, "z"), b""),
    ],
    "unsafe path '../../": [(entry("h", tarfile.LNKTYPE, "../../escaped"), b"")],
    "unsafe path 'd/d/": [(entry("/".join("d" * 1500)), b"x")],
    "no file before it": [(entry("h", tarfile.LNKTYPE, "later"), b""), (entry("later"), b"x")],
    "neither a file": [(entry("dev", tarfile.CHRTYPE), b"")],
    "which is neither": [(entry("pipe", tarfile.FIFOTYPE), b"")],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_tars_are_refused_and_write_nothing_outside(tmp_path: Path, target: Path, what: str) -> None:
    path = tar_of(tmp_path / "hostile.tar", HOSTILE[what])
    with pytest.raises(RefusedError, match=what):
        unpack(path, target)
    assert [p.name for p in target.parent.iterdir()] == ["target"]
    assert not any("escaped" in p.name for p in tmp_path.rglob("*"))


def test_a_name_that_is_not_utf8_is_called_so(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "latin.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(entry("caf\xe9"))
    with pytest.raises(RefusedError, match=r"a name that is not valid UTF-8: 'caf\\udce9'") as caught:
        unpack(path, target)
    assert "rename the file" in caught.value.next_step


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_a_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, target: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 4 * MIB)
    path = tmp_path / f"bomb{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes(64 * MIB))
    else:
        tar_of(path, [(entry("zeros"), bytes(64 * MIB))], "w:gz")
    with pytest.raises(RefusedError, match="unpacks to more than"):
        unpack(path, target)
    limit = max(4 * MIB, archives.MAX_RATIO * path.stat().st_size)
    assert sum(p.stat().st_size for p in target.rglob("*")) <= limit


def test_a_header_of_a_gigabyte_is_not_read(tmp_path: Path, target: Path) -> None:
    info = entry("././@PaxHeader", b"x")
    info.size = 1 << 30
    path = tmp_path / "header.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(8 * MIB)))
    with pytest.raises(RefusedError, match="header is too large"):
        unpack(path, target)


def test_a_zip_with_a_password_is_refused(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "secret.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x")
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the local header's flags, and the directory's
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="password"):
        unpack(path, target)


def test_a_zip_that_lists_too_much_is_refused_unread(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_DIRECTORY", 10 * KIB)
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(500):
            archive.writestr(f"{number:04}", b"")
    with pytest.raises(RefusedError, match="too many entries"):
        unpack(path, target)


def test_too_many_entries(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 10)
    path = tar_of(tmp_path / "many.tar", [(entry(str(number)), b"") for number in range(11)])
    with pytest.raises(RefusedError, match="more than 10 entries"):
        unpack(path, target)


def test_folders_that_are_only_implied_are_entries_too(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 100)
    deep = tar_of(tmp_path / "deep.tar", [(entry("/".join([str(n), *"abcdefghijklmnopq"])), b"") for n in range(10)])
    with pytest.raises(RefusedError, match="more than 100 entries"):
        unpack(deep, target)
    assert sum(1 for _ in target.rglob("*")) <= 100


@pytest.mark.parametrize("suffix", [".tar", ".zip", ".tar.gz"])
def test_without_room_nothing_is_written(tmp_path: Path, target: Path, suffix: str) -> None:
    path = tmp_path / f"app{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes(MIB))
        assert path.stat().st_size < 10 * KIB  # what counts is what its directory says
    else:
        tar_of(path, [(entry("noise"), random.Random(1).randbytes(MIB))], "w:gz" if suffix == ".tar.gz" else "w")
    with pytest.raises(StorageError, match=r"'app\S+' takes 1.0 MB more.*room for 1.0 MB|room for 500.0 kB"):
        unpack(path, target, room=lambda: 500_000)
    assert list(target.iterdir()) == []


def test_room_that_goes_while_unpacking_is_noticed(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ASK_BYTES", MIB)
    path = tar_of(tmp_path / "app.tar.gz", [(entry("zeros"), bytes(20 * MIB))], "w:gz")
    with pytest.raises(StorageError, match="has room for"):
        unpack(path, target, room=lambda: 4 * MIB - sum(p.stat().st_size for p in target.iterdir()))
    assert (target / "zeros").stat().st_size < 5 * MIB


def test_an_archive_that_changes_is_refused(tmp_path: Path, target: Path) -> None:
    path = tar_of(tmp_path / "app.tar", good_entries())

    def touch(_done: int, _total: int) -> None:
        os.utime(path, (1, 1))

    with pytest.raises(RefusedError, match="changed while it was being read"):
        unpack(path, target, progress=touch)


def test_progress_is_told_with_the_end_where_it_is_known(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "app.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(MIB))
        archive.writestr("b", bytes(MIB))
    seen: list[tuple[int, int]] = []
    unpack(path, target, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (2 * MIB, 2 * MIB)


def test_memory_that_a_zip_does_not_bound_is_refused(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "lzma.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"x")
    with pytest.raises(RefusedError, match=r"'a' in 'lzma\.zip' is packed with LZMA"):
        unpack(path, target)


def test_cancelling(tmp_path: Path, target: Path) -> None:
    path = tar_of(tmp_path / "app.tar", good_entries())
    with pytest.raises(CancelledError):
        unpack(path, target, cancelled=lambda: True)


@pytest.mark.parametrize("name", ["app.exe", "app.iso", "app"])
def test_what_is_no_archive(tmp_path: Path, target: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert not is_archive(Path(name))
    with pytest.raises(RefusedError, match="is no archive"):
        unpack(tmp_path / name, target)


def sample(folder: Path, suffix: str) -> bytes:
    path = folder / f"sample{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
    elif suffix == ".deb":
        inner = tar_of(folder / "inner.tar", good_entries()).read_bytes()
        head = b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (b"data.tar", 0, 0, 0, b"100644", len(inner))
        return b"!<arch>\n" + head + inner
    else:
        tar_of(path, good_entries(), {".tar": "w", ".tar.gz": "w:gz", ".tar.xz": "w:xz"}[suffix])
    return path.read_bytes()


@given(
    suffix=st.sampled_from([".tar", ".tar.gz", ".tar.xz", ".zip", ".deb"]),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    cut=st.floats(0, 1),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_damaged_archives_are_refused_or_stay_inside(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, flips: list[tuple[float, int]], cut: float
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(sample(folder, suffix))
    for where, value in flips:
        data[int(where * len(data))] = value
    path = folder / f"damaged{suffix}"
    path.write_bytes(data[: int(cut * len(data))] if cut > 0.5 else data)
    outer = folder / "outer"
    (outer / "target").mkdir(parents=True)
    try:
        unpack(path, outer / "target")
    except EntrepotError as error:
        assert isinstance(error, RefusedError)
    assert [p.name for p in outer.iterdir()] == ["target"]
    for found in (outer / "target").rglob("*"):
        if found.is_symlink():
            assert os.path.realpath(found).startswith(str((outer / "target").resolve()))
    shutil.rmtree(folder)


def test_random_bytes_are_no_archive(tmp_path: Path, target: Path) -> None:
    noise = random.Random(1)
    for suffix in (*archives.ZIPS, *archives.TARS, archives.DEB):
        path = tmp_path / f"noise{suffix}"
        path.write_bytes(noise.randbytes(5000))
        with pytest.raises(RefusedError):
            unpack(path, target)
        assert list(target.iterdir()) == []
