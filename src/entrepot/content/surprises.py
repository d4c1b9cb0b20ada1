"""Looks for what was hardly meant to be published: private keys, passwords, tokens, version control, and sizes that
leap. It only warns: an administrator decides.

Names are looked at always, bytes of small files only, where such things are. One pass over a group's bytes looks for
the marks of all kinds of secrets at once; only a file that has one is looked at by the expressions.
"""

import itertools
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable
from typing import Final

import msgspec
from ahocorasick_rs import BytesAhoCorasick, MatchKind

from entrepot.content.grouping import Group
from entrepot.content.manifest import EntryKind
from entrepot.core.sizes import MIB, format_size

MAX_NAMED: Final = 20
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
_KEY_MARK: Final = b"-----BEGIN "
_TOKENS: Final = {
    b"AKIA": re.compile(rb"\bAKIA[0-9A-Z]{16}\b"),
    b"ghp_": re.compile(rb"\bghp_[0-9A-Za-z]{36}\b"),
    b"github_pat_": re.compile(rb"\bgithub_pat_[0-9A-Za-z_]{60,}\b"),
    b"glpat-": re.compile(rb"\bglpat-[0-9A-Za-z_-]{20,}\b"),
    b"xox": re.compile(rb"\bxox[abprs]-[0-9A-Za-z-]{20,}"),
    b"AccountKey=": re.compile(rb"\bAccountKey=[0-9A-Za-z+/]{80,}={0,2}"),
}
_KINDS: Final = (_KEY, *_TOKENS.values())
_MARKS: Final = BytesAhoCorasick((_KEY_MARK, *_TOKENS), MatchKind.LeftmostFirst)  # other kinds have no use for SIMD
"""Finds the marks of :data:`_KINDS` by their numbers. Of marks that overlap it finds the first: no secret begins within
another's mark, for that would have a letter before it."""


_VERSION_CONTROL: Final = {
    ".git": "with all history",
    ".svn": "with a copy of every file",
    ".hg": "with all history",
    ".bzr": "with all history",
    "CVS": "with its server's address",
}
_IN_CVS: Final = frozenset(("Entries", "Repository", "Root"))
"""Only a folder with these files is one of CVS: its name may stand for other things."""
_EVERYWHERE: Final = frozenset((".svn", "CVS"))
"""Each folder of a working copy has one of these (of Subversion, before 1.7): the first speaks for all."""


class Surprise(msgspec.Struct, frozen=True, gc=False):
    """A path that was hardly meant, and what says so; a version control folder speaks for itself."""

    path: str
    why: str = ""


def surprises_of(group: Group) -> tuple[Surprise, ...]:
    """What surprises in a group: names, and bytes of its files."""
    found: list[Surprise] = []
    marked = _by_bytes(group)
    for number, entry in enumerate(group.entries):
        found += _version_control(entry.path)
        if entry.kind == EntryKind.FILE and (why := _by_name(entry.path) or marked.get(number, "")):
            found.append(Surprise(entry.path, why))
    return tuple(found)


def surprises_of_big(path: str) -> tuple[Surprise, ...]:
    """What surprises in the name of a big file."""
    why = _by_name(path)
    return (*_version_control(path), *((Surprise(path, why),) if why else ()))


def _version_control(path: str) -> tuple[Surprise, ...]:
    for each in _VERSION_CONTROL:
        if each in path:  # nearly none has any: the names are taken apart for those only
            *folders, name = path.split("/")
            if each == "CVS" and (folders[-1:] != ["CVS"] or name not in _IN_CVS):
                continue
            if each in folders:
                return (Surprise("/".join(folders[: folders.index(each) + 1])),)
    return ()


def _by_name(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    return "its name" if name.endswith(_SUFFIXES) or name in _NAMES else ""


def _by_bytes(group: Group) -> dict[int, str]:
    """Why some of a group's entries surprise, or might: by their numbers."""
    marks = _MARKS.find_matches_as_indexes(group.plain)
    if not marks:
        return {}
    sizes = [0 if entry.extents else entry.size for entry in group.entries]  # what lies in another group was seen there
    ends = list(itertools.accumulate(sizes))
    marked: dict[int, set[int]] = {}
    for kind, begin, end in marks:
        first, last = bisect_right(ends, begin), bisect_right(ends, end - 1)
        if first == last:
            marked.setdefault(first, set()).add(kind)
            continue
        for at in range(first, last + 1):  # it is none, but may hide any that begins in it
            marked.setdefault(at, set()).update(range(len(_KINDS)))
    return {at: _in(group.plain[ends[at] - sizes[at] : ends[at]], kinds) for at, kinds in marked.items()}


def _in(data: bytes, kinds: Collection[int]) -> str:
    found = next((kind for kind in sorted(kinds) if _KINDS[kind].search(data)), None)
    if found is None:
        return ""
    return "a private key in it" if _KINDS[found] is _KEY else "an access token in it"


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
            else:
                self._add_repository(each.path)

    def _add_repository(self, path: str) -> None:
        kind = path.rpartition("/")[2]
        known = kind if kind in _EVERYWHERE else path
        if known not in self._repositories and len(self._repositories) < MAX_NAMED:
            self._repositories.add(known)
            what = _VERSION_CONTROL[kind]
            self._named.append(f"{path!r} is a version control folder, {what}. Exclude it with '{kind}/'.")
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
