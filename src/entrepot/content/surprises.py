"""Looks for what was hardly meant to be published: private keys, passwords, tokens, version control, and sizes that
leap. It only warns: an administrator decides.

Names are looked at always, bytes at the beginning of small files only, where such things are.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from entrepot.content.grouping import Group
from entrepot.content.manifest import EntryKind
from entrepot.core.sizes import KIB, MIB, format_size

MAX_NAMED: Final = 20
HEAD: Final = 16 * KIB
"""Where private keys are looked for."""
TOKEN_HEAD: Final = 4 * KIB
"""Where access tokens are: to search all text for each kind of them would cost more than to hash it."""
BINARY_HEAD: Final = 64
"""What has a zero byte so early is no text, and no place for an access token."""
LEAP: Final = 3
"""A version this many times as large as the last one, or as small, is a surprise."""
LEAP_MIN: Final = 10 * MIB
_NAMES: Final = frozenset(
    (
        *(".env", ".netrc", ".pgpass", ".htpasswd", ".git-credentials", ".npmrc", ".pypirc", ".dockercfg", ".my.cnf"),
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "secring.gpg"),
    )
)
_SUFFIXES: Final = (".pfx", ".p12", ".ppk", ".kdbx", ".jks", ".keystore", ".key")
_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----\s+[A-Za-z0-9+/=:]")
_BINARY: Final = b"\0"
_KEY_MARK: Final = b"-----BEGIN "
_TOKENS: Final = {
    b"AKIA": re.compile(rb"\bAKIA[0-9A-Z]{16}\b"),
    b"ghp_": re.compile(rb"\bghp_[0-9A-Za-z]{36}\b"),
    b"github_pat_": re.compile(rb"\bgithub_pat_[0-9A-Za-z_]{60,}\b"),
    b"glpat-": re.compile(rb"\bglpat-[0-9A-Za-z_-]{20,}\b"),
    b"xox": re.compile(rb"\bxox[abprs]-[0-9A-Za-z-]{20,}"),
    b"AccountKey=": re.compile(rb"\bAccountKey=[0-9A-Za-z+/]{80,}={0,2}"),
}


_VERSION_CONTROL: Final = ".git"


class Surprise(msgspec.Struct, frozen=True, gc=False):
    """A path that was hardly meant, and what says so; a version control folder speaks for itself."""

    path: str
    why: str = ""


def surprises_of(group: Group) -> tuple[Surprise, ...]:
    """What surprises in a group: names, and bytes at the beginning of its files."""
    found: list[Surprise] = []
    at = 0
    for entry in group.entries:
        why = ""
        if _VERSION_CONTROL in entry.path:
            found += _version_control(entry.path)
        if entry.kind == EntryKind.FILE:
            why = _by_name(entry.path) or _by_bytes(group.plain, at, at + entry.size)
        if why:
            found.append(Surprise(entry.path, why))
        at += entry.size
    return tuple(found)


def surprises_of_big(path: str) -> tuple[Surprise, ...]:
    """What surprises in the name of a big file."""
    why = _by_name(path)
    return (*_version_control(path), *((Surprise(path, why),) if why else ()))


def _version_control(path: str) -> tuple[Surprise, ...]:
    folders = path.split("/")[:-1]
    if _VERSION_CONTROL not in folders:
        return ()
    return (Surprise("/".join(folders[: folders.index(_VERSION_CONTROL) + 1])),)


def _by_name(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    return "its name" if name.endswith(_SUFFIXES) or name in _NAMES else ""


def _by_bytes(plain: bytes, at: int, end: int) -> str:
    """Look at a small file, which lies there in its group."""
    head = min(end, at + HEAD)
    if plain.find(_KEY_MARK, at, head) >= 0 and _KEY.search(plain, at, head):
        return "a private key in it"
    if plain.find(_BINARY, at, min(end, at + BINARY_HEAD)) >= 0:
        return ""
    text = plain[at : min(end, at + TOKEN_HEAD)]
    if any(map(text.__contains__, _TOKENS)) and any(each.search(text) for each in _TOKENS.values()):
        return "an access token in it"
    return ""


class Surprises:
    """Collects remarks about one source, the first twenty by name."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._count = 0
        self._repositories: set[str] = set()

    def add(self, found: Iterable[Surprise]) -> None:
        """Take what was found next."""
        for each in found:
            if each.why:
                self._note(f"{each.path!r} looks like a secret ({each.why}): every client would get it.")
            elif each.path not in self._repositories and len(self._repositories) < MAX_NAMED:
                self._repositories.add(each.path)
                self._named.append(
                    f"{each.path!r} is a version control folder, with all history. Exclude it with '.git/'."
                )
                self._count += 1

    def texts(self) -> tuple[str, ...]:
        """What was found."""
        more = self._count - len(self._named)
        return (*self._named, f"There are {more} further files that look like secrets.") if more else (*self._named,)

    def _note(self, text: str) -> None:
        self._count += 1
        if len(self._named) < MAX_NAMED:
            self._named.append(text)


def leap(before: int, after: int) -> str:
    """A remark about two versions' sizes in bytes; empty when they are alike."""
    if max(before, after) < LEAP_MIN or not before:
        return ""
    if after > LEAP * before:
        return f"It is much larger than the version before: {format_size(after)} after {format_size(before)}."
    if after * LEAP < before:
        return f"It is much smaller than the version before: {format_size(after)} after {format_size(before)}."
    return ""
