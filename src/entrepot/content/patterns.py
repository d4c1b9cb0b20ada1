"""Which paths an administrator leaves out of a content, by glob pattern.

``*.tmp``
    a pattern without ``/`` matches a name at any depth;
``docs/*.txt``
    one with ``/`` matches the whole path, from the root of the content; ``*`` and ``?`` stay within a name;
``**/cache/**``
    ``**`` stands for any number of names, also none;
``build/``
    a trailing ``/`` matches folders only.

Case counts. What is below an excluded folder is excluded.
"""

import fnmatch
import functools
import re
from collections.abc import Iterable
from typing import Final

from entrepot.core.errors import BadInputError

MAX_PATTERNS: Final = 1000
MAX_PATTERN: Final = 4096
MAX_FOLLOWED: Final = 100
"""Of so many patterns it is noted whether they left something out."""


class Excludes:
    """A checked set of patterns.

    Raises:
        BadInputError: empty, absolute or escaping patterns, or too many.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        checked = [_check(pattern) for pattern in patterns]
        if len(checked) > MAX_PATTERNS:
            raise BadInputError(f"There are more than {MAX_PATTERNS} exclude patterns.")
        single = [_Pattern(each) for each in dict.fromkeys(checked)]
        self._any = bool(single)
        self._idle = single[:MAX_FOLLOWED]
        self._names = _any_of(each for each in single if each.is_name and not each.folders_only)
        self._folder_names = _any_of(each for each in single if each.is_name)
        self._paths = [each for each in single if not each.is_name]

    def __bool__(self) -> bool:
        return self._any

    def match(self, path: str, *, folder: bool) -> bool:
        """Tell whether this path itself is excluded (its parents were asked before)."""
        parts = path.split("/")
        names = self._folder_names if folder else self._names
        found = bool(names and names.match(parts[-1])) or any(each.matches(parts, folder) for each in self._paths)
        if found and self._idle:
            self._idle = [each for each in self._idle if not each.matches(parts, folder)]
        return found

    @property
    def idle(self) -> tuple[str, ...]:
        """Those of the first :data:`MAX_FOLLOWED` patterns that nothing matched so far: misspelt, perhaps."""
        return tuple(each.text for each in self._idle)


class _Pattern:
    """One pattern. ``is_name``: it matches a name at any depth; ``folders_only``: it matches no file."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.folders_only = text.endswith("/")
        self.plain = text.removesuffix("/")
        self.is_name = "/" not in self.plain and self.plain != "**"

    @functools.cached_property
    def _names(self) -> list[re.Pattern[str] | None]:
        """One expression per name; None for ``**``."""
        return [None if part == "**" else re.compile(fnmatch.translate(part)) for part in self.plain.split("/")]

    def matches(self, parts: list[str], folder: bool) -> bool:
        """Whether it matches a path, given by its names."""
        if self.folders_only and not folder:
            return False
        return _matches(self._names, parts[-1:] if self.is_name else parts)


def _check(pattern: str) -> str:
    parts = pattern.removesuffix("/").split("/")
    bad = len(pattern) > MAX_PATTERN or "\x00" in pattern or any(part in ("", ".", "..") for part in parts)
    if bad:
        raise BadInputError(
            f"{pattern[:200]!r} is not an exclude pattern.",
            next_step="Write for example *.tmp, docs/*.txt, **/cache/** or build/.",
        )
    return pattern


def _any_of(patterns: Iterable[_Pattern]) -> re.Pattern[str] | None:
    """One expression for all of these that match names: a thousand are tried at once."""
    translated = [fnmatch.translate(each.plain) for each in patterns]
    return re.compile("|".join(translated)) if translated else None


def _matches(pattern: list[re.Pattern[str] | None], parts: list[str]) -> bool:
    """Match name by name; ``reached`` are the places in the pattern where the names so far may have led."""
    reached = _skip({0}, pattern)
    for part in parts:
        step = {at for at in reached if at < len(pattern) and pattern[at] is None}
        for at in reached - step:
            expression = pattern[at] if at < len(pattern) else None
            if expression is not None and expression.match(part):
                step.add(at + 1)
        reached = _skip(step, pattern)
        if not reached:
            return False
    return len(pattern) in reached


def _skip(reached: set[int], pattern: list[re.Pattern[str] | None]) -> set[int]:
    """``**`` may stand for nothing."""
    out = set(reached)
    for at in sorted(reached):
        while at < len(pattern) and pattern[at] is None:
            at += 1
            out.add(at)
    return out
