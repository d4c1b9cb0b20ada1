"""Text of others on its way to a terminal: a name, a message, a path must not be able to steer it.

A terminal obeys what is between its characters: escape sequences rename windows, fill the clipboard, overwrite what was
printed before; marks that turn the direction of writing make a name look like another one.
"""

import re
from typing import Final

_STEERING: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (C0, DEL, C1), line and paragraph separators, overrides and isolates of direction, and halves of
characters, which stand for bytes of a path that are no text and cannot be written at all."""


def harmless(text: str, *, lines: bool = False) -> str:
    r"""The same text with each character that could steer a terminal written out, as ``\x1b``.

    Args:
        lines: ends of lines stay: the text may have several.
    """
    if lines:
        return "\n".join(map(harmless, text.replace("\r\n", "\n").split("\n")))
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def harmless_json(text: str) -> str:
    """The same JSON document with what could steer a terminal escaped as JSON has it; parsed, it says the same.

    Args:
        text: it may have line feeds between its values; within strings they are escaped already.
    """
    return _STEERING.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
