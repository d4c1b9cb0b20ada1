"""Text of others does not steer a terminal."""

import json
import unicodedata

import pytest

from entrepot.core.terminal import harmless, harmless_json

CHARACTERS = [chr(number) for number in range(0x1_0000)]


def steers(character: str) -> bool:
    """Control characters, separators of lines, halves of characters, and what turns the direction of writing."""
    turns = unicodedata.bidirectional(character) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return turns or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def test_exactly_what_steers_is_written_out_in_characters_that_do_not() -> None:
    changed = {character: shown for character in CHARACTERS if (shown := harmless(character)) != character}
    assert changed.keys() == set(filter(steers, CHARACTERS))
    assert "".join(changed.values()).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x9b2J and \x7f", r"\x9b2J and \x7f"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("a path's byte \udce4", r"a path's byte \udce4"),
        ("Entrepôt, \u05e9\u05dc\u05d5\u05dd, \U0001f469\u200d\U0001f4bb\u00a0!", None),
    ],
)
def test_people_see_what_was_there(text: str, shown: str | None) -> None:
    assert harmless(text) == (text if shown is None else shown)


def test_ends_of_lines_stay_where_there_may_be_several_lines() -> None:
    assert harmless("one\ntwo\x1b[1m\r\n\nfour", lines=True) == "one\ntwo\\x1b[1m\n\nfour"


def test_json_says_the_same_and_does_not_steer_either() -> None:
    value = {f"\x9b\x7f\u2028{index}": ["\u202e\x1b\n", index] for index in range(3)}
    written = json.dumps(value, ensure_ascii=False, indent=2)
    assert json.loads(harmless_json(written)) == value
    assert not any(steers(character) for character in harmless_json(written).replace("\n", ""))
