"""Looks for what was hardly meant to be published: private keys, passwords, tokens, version control, and sizes that
leap. It only warns: an administrator decides.

Names are looked at always, bytes at the beginning of small files only, where such things are.
"""

import re
from collections.abc import Iterator
from typing import Final

from entrepot.content.snapshot import FileItem, Item
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


class Surprises:
    """Collects remarks about one source, the first twenty by name."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._count = 0
        self._repositories: set[str] = set()
        self._known: set[str] = set()

    def watch(self, items: Iterator[Item]) -> Iterator[Item]:
        """Pass items on, and look at their names."""
        for item in items:
            folder, _, name = item.path.rpartition("/")
            if ".git" in folder:
                self._version_control(folder)
            if isinstance(item, FileItem):
                lower = name.lower()
                if lower.endswith(_SUFFIXES) or lower in _NAMES:
                    self._note(item.path, "its name")
            yield item

    def look(self, path: str, data: bytes) -> None:
        """Look at a small file's bytes."""
        if data.find(_KEY_MARK, 0, HEAD) >= 0 and _KEY.search(data[:HEAD]):
            self._note(path, "a private key in it")
            return
        head = data[:TOKEN_HEAD]
        if _BINARY in head[:BINARY_HEAD]:
            return
        if any(map(head.__contains__, _TOKENS)) and any(each.search(head) for each in _TOKENS.values()):
            self._note(path, "an access token in it")

    def texts(self) -> tuple[str, ...]:
        """What was found."""
        more = self._count - len(self._named)
        return (*self._named, f"There are {more} further files that look like secrets.") if more else (*self._named,)

    def _version_control(self, folder: str) -> None:
        parts = folder.split("/")
        if ".git" in parts:
            where = "/".join(parts[: parts.index(".git") + 1])
            if where not in self._repositories and len(self._repositories) < MAX_NAMED:
                self._repositories.add(where)
                self._named.append(f"{where!r} is a version control folder, with all history. Exclude it with '.git/'.")
                self._count += 1

    def _note(self, path: str, why: str) -> None:
        if path in self._known:  # a private key whose name says so is one remark
            return
        self._known.add(path)
        self._count += 1
        if len(self._named) < MAX_NAMED:
            self._named.append(f"{path!r} looks like a secret ({why}): every client would get it.")


def leap(before: int, after: int) -> str:
    """A remark about two versions' sizes in bytes; empty when they are alike."""
    if max(before, after) < LEAP_MIN or not before:
        return ""
    if after > LEAP * before:
        return f"It is much larger than the version before: {format_size(after)} after {format_size(before)}."
    if after * LEAP < before:
        return f"It is much smaller than the version before: {format_size(after)} after {format_size(before)}."
    return ""
