"""Warnings about what was hardly meant to be published."""

import os
from pathlib import Path
from typing import Any

import pytest

from entrepot.content import apart
from entrepot.content.surprises import MAX_NAMED, leap
from entrepot.core.sizes import GIB, MIB

PEM = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\n"


def test_a_secret_beside_files_that_lie_elsewhere_is_named(library: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("1 one", "2 one", "3 other", "4 one", "5 secret", "6 one", "7 last"):
        source.mkdir(exist_ok=True)
        (source / name).write_bytes(PEM if "secret" in name else name[2:].encode() * 1000)
    (warning,) = library.publish(source).warnings
    assert "'5 secret'" in warning


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (".env", b"A=1"),
        ("sub/ID_RSA", b"x"),
        ("server.key", PEM),
        ("server.pfx", os.urandom(300_000)),
        ("notes.txt", b"hello\n" + PEM),
        ("key.pem", PEM.replace(b"RSA ", b"")),
        ("ssh", PEM.replace(b"RSA", b"OPENSSH")),
        ("config.ini", b"id = AKIA" + b"ABCDEFGHIJ234567" + b"\n"),
        ("ci.yml", b"token: ghp_" + b"a1B2" * 9),
        ("long.log", b"a line\n" * 30_000 + b"token: ghp_" + b"a1B2" * 9),
        ("longer.log", b"a line\n" * 30_000 + PEM),
        ("settings.dat", b"\0\1\2 id = AKIA" + b"ABCDEFGHIJ234567" + b"\0"),
    ],
)
def test_likely_secrets_are_named(library: Any, tmp_path: Path, name: str, data: bytes) -> None:
    source = tmp_path / "source"
    (source / name).parent.mkdir(parents=True)
    (source / name).write_bytes(data)
    (source / "harmless").write_bytes(b"x")
    (warning,) = library.publish(source).warnings
    assert name in warning
    assert "secret" in warning


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cert.pem", b"-----BEGIN CERTIFICATE-----\nMIIEowIBAAKCAQEA\n"),
        ("parser.py", b'if line == "-----BEGIN PRIVATE KEY-----":'),
        ("keyboard", b"AKIA is short"),
        ("environment", b"A=1"),
        (".gitignore", b"*.o"),
    ],
)
def test_harmless_files_are_not(library: Any, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert library.publish(tmp_path / name).warnings == ()


def test_what_the_next_file_begins_with_counts_for_itself(library: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    (tmp_path / "b").write_bytes(b"MIIEowIBAAKCAQEA\n")
    (tmp_path / "c").write_bytes(PEM)
    (warning,) = library.publish(tmp_path).warnings
    assert "'c'" in warning


def test_what_a_file_ends_with_hides_nothing_in_the_next(library: Any, tmp_path: Path) -> None:
    """Together they would be a token's mark, in front of the key's own."""
    (tmp_path / "a").write_bytes(b"glpat")
    (tmp_path / "b").write_bytes(PEM)
    (warning,) = library.publish(tmp_path).warnings
    assert "'b' looks like a secret (a private key in it)" in warning


@pytest.mark.process
def test_secrets_in_a_large_source_are_named(library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gathered by another process."""
    monkeypatch.setattr(apart, "FEW", 2)
    for name, data in (("a.key", b"x"), ("b.txt", PEM), ("c.txt", b"harmless")):
        (tmp_path / name).write_bytes(data)
    by_name, by_bytes = library.publish(tmp_path).warnings
    assert "'a.key'" in by_name
    assert "'b.txt'" in by_bytes


def test_version_control_is_named_once(library: Any, tmp_path: Path) -> None:
    for name in ("app/.git/HEAD", "app/.git/objects/aa/1", "app/.git/config"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (warning,) = library.publish(tmp_path / "app").warnings
    assert "'.git'" in warning


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (("app/.svn/entries", "app/.svn/pristine/aa/1", "app/src/.svn/entries"), "app/.svn"),
        (("app/.hg/store/data/a.i",), "app/.hg"),
        (("app/.bzr/branch/last-revision",), "app/.bzr"),
        (("app/CVS/Entries", "app/CVS/Root", "app/src/CVS/Entries"), "app/CVS"),
        (("lib/.git/HEAD",), "lib/.git"),
    ],
)
def test_version_control_of_each_kind_is_named_with_the_pattern_that_leaves_it_out(
    library: Any, tmp_path: Path, files: tuple[str, ...], named: str
) -> None:
    for name in (*files, "readme"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (warning,) = library.publish(tmp_path).warnings
    assert warning.startswith(f"{named!r} is a version control folder, with ")
    pattern = warning.split("Exclude it with '")[1].removesuffix("'.")
    left = library.publish(tmp_path, excludes=(pattern,))
    assert (left.warnings, left.files) == ((), 1)


@pytest.mark.parametrize("name", ["app.git/x", "CVS/price list", "CVS", "my.svn/x", ".gitignore", "src/.hgignore"])
def test_what_only_looks_like_version_control_is_not_named(library: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x")
    assert library.publish(tmp_path).warnings == ()


def test_many_secrets_are_counted(library: Any, tmp_path: Path) -> None:
    for number in range(MAX_NAMED + 5):
        (tmp_path / f"{number}.key").write_text(str(number))
    warnings = library.publish(tmp_path).warnings
    assert len(warnings) == MAX_NAMED + 1
    assert "5 further files" in warnings[-1]


def test_leaps_in_size() -> None:
    assert leap(GIB, GIB + MIB) == leap(0, GIB) == leap(1, MIB) == ""
    assert "much larger" in leap(20 * MIB, GIB)
    assert "much smaller" in leap(GIB, 20 * MIB)
