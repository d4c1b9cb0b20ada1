"""Names and paths inside content: what is safe, what Windows can store, in which order they come.

A content path is relative, ``/``-separated, UTF-8 without surrogates; no part is empty, ``.`` or ``..``.
"Path order" compares part by part, by UTF-8 bytes: the order of a depth-first walk with sorted names.
"""

import re
from pathlib import PurePosixPath

from entrepot.core.errors import FormatError

MAX_PATH_BYTES = 4096
MAX_PART_BYTES = 255
MAX_PARTS = 300
"""Python removes and makes folders within each other by recursion, which ends near 1,000 (record 0024)."""
WINDOWS_MAX_PATH = 32_000  # UTF-16 units with the \\?\ prefix, less room for the target folder

_WINDOWS_FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f]')
_WINDOWS_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.IGNORECASE
)
_PLAIN = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z))[\w+@=,.-]{0,199}[\w+@=,-]", re.IGNORECASE | re.ASCII)


def is_plain(name: str) -> bool:
    """Tell in one step, as there may be a million, whether one name is of the usual kind: every system stores it."""
    return _PLAIN.fullmatch(name) is not None


def path_key(path: str) -> tuple[bytes, ...]:
    """Sort key of path order."""
    return tuple(part.encode() for part in path.split("/"))


def check_path(path: str) -> str:
    """Check a content path that came from elsewhere.

    Raises:
        FormatError: absolute, escaping, empty parts, NUL, not encodable, too long or too deep.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise FormatError("A path in the manifest is not valid Unicode.") from None
    parts = path.split("/")
    unsafe = any(part in ("", ".", "..") or len(part.encode()) > MAX_PART_BYTES for part in parts)
    if unsafe or "\x00" in path or len(encoded) > MAX_PATH_BYTES or len(parts) > MAX_PARTS:
        raise FormatError(f"The manifest names an unsafe path: {path[:200]!r}.")
    return path


def link_stays_inside(path: str, target: str) -> bool:
    """Tell whether a symbolic link at ``path`` with this target stays within the content's root.

    ``..`` counts only in front: after a name it would leave from wherever that name leads, which may be another
    link (``d -> .`` and ``e -> d/..`` escape together, though each seems to stay).
    """
    if not target or target.startswith("/") or "\x00" in target or "\\" in target or re.match(r"[A-Za-z]:", target):
        return False
    depth = len(PurePosixPath(path).parts) - 1
    named = False
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if named or depth < 0:
                return False
        elif part not in ("", "."):
            named = True
    return True


def windows_problem(path: str) -> str:
    """Why Windows cannot store this path; empty when it can.

    Source: Microsoft, "Naming Files, Paths, and Namespaces".
    """
    for part in path.split("/"):
        if is_plain(part):
            continue
        if _WINDOWS_FORBIDDEN.search(part):
            return f"{part!r} has a character that Windows forbids"
        if part.endswith((" ", ".")):
            return f"{part!r} ends with a space or a dot"
        if _WINDOWS_RESERVED.fullmatch(part):
            return f"{part!r} is a reserved device name"
        if len(part.encode("utf-16-le")) // 2 > 255:
            return f"{part[:40]!r}… is longer than 255 characters"
    if len(path) > WINDOWS_MAX_PATH // 2 and len(path.encode("utf-16-le")) // 2 > WINDOWS_MAX_PATH:
        return "the path is longer than Windows allows"
    return ""


def case_key(name: str) -> str:
    """Two names with equal keys collide where case does not count (Windows, macOS)."""
    return name.upper().lower()
