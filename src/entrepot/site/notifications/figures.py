"""The sentences of alerts that hold figures, in other languages.

The rules make them in English. Those about thresholds, forecasts and the age of figures are known again by
``languages/figures.json``: their words with ``{size}``, ``{number}`` and ``{time}`` where figures stand, which are kept
as they are. A sentence that is not known stays English: it is better read so than not at all.
"""

import functools
import json
import re
from importlib.resources import files
from typing import Final

from entrepot.protocol.alertapi import Language

_KINDS: Final = {
    "size": r"[\d.,]+ [kMGTPE]?B",
    "number": r"[\d.,]+",
    "time": r"\d{4}-\d\d-\d\d(?:T[\d:]+Z)?",
}
_PLACE: Final = re.compile(r"\{(\w+)\}")


def figures_in(message: str, language: Language) -> str:
    """An alert's message, as far as its sentences are known in a language."""
    for pattern, words in _sentences(language.value):
        message = pattern.sub(lambda found, words=words: words.format(*found.groups()), message)  # type: ignore[misc]  # bound at once
    return message


@functools.cache
def _sentences(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    text = (files(__package__) / "languages" / "figures.json").read_text("utf-8")
    known: dict[str, dict[str, str]] = json.loads(text)
    return tuple(
        (re.compile(_regex(english)), _PLACE.sub("{}", words[language]))
        for english, words in known.items()
        if language in words
    )


def _regex(english: str) -> str:
    parts = _PLACE.split(english)
    return "".join(f"({_KINDS[part]})" if number % 2 else re.escape(part) for number, part in enumerate(parts))
