import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.content.patterns import Excludes
from entrepot.core.errors import BadInputError


def excluded(pattern: str, path: str, *, folder: bool = False) -> bool:
    return Excludes([pattern]).match(path, folder=folder)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.tmp", "a.tmp"),
        ("*.tmp", "deep/er/a.tmp"),
        ("Thumbs.db", "x/Thumbs.db"),
        ("?.o", "x/a.o"),
        ("[ab].o", "a.o"),
        ("[!ab].o", "c.o"),
        ("docs/*.txt", "docs/a.txt"),
        ("docs/**", "docs/a/b"),
        ("**/cache/*", "cache/x"),
        ("**/cache/*", "a/b/cache/x"),
        ("a/**/z", "a/z"),
        ("a/**/z", "a/b/c/z"),
        ("**", "anything/at/all"),
        ("*", "x"),
        ("new\n*", "new\nline"),
        ("*.é", "x.é"),
        ("a/**/**/b", "a/b"),
    ],
)
def test_matches(pattern: str, path: str) -> None:
    assert excluded(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.tmp", "a.tmp.txt"),
        ("*.tmp", "x.tmp/a"),  # the folder was asked before
        ("*.TMP", "a.tmp"),
        ("docs/*.txt", "docs/a/b.txt"),
        ("docs/*.txt", "x/docs/a.txt"),
        ("a/**/z", "a/b"),
        ("a/**/z", "z"),
        ("docs/**", "doc/a"),
        ("?", "ab"),
        ("build/", "build"),
        ("a/build/", "a/build"),
    ],
)
def test_does_not_match(pattern: str, path: str) -> None:
    assert not excluded(pattern, path)


def test_a_trailing_slash_matches_folders_only() -> None:
    for pattern, path in (("build/", "x/build"), ("a/build/", "a/build"), ("**/b/", "a/b")):
        assert excluded(pattern, path, folder=True)
        assert not excluded(pattern, path)


def test_patterns_without_a_slash_match_folders_too() -> None:
    assert excluded("__pycache__", "a/__pycache__", folder=True)


def test_several_patterns_are_alternatives() -> None:
    excludes = Excludes(["*.a", "*.b", "c/d"])
    assert [excludes.match(path, folder=False) for path in ("x.a", "x.b", "c/d", "x.c")] == [True, True, True, False]
    assert not Excludes([]).match("x", folder=True)


def test_patterns_that_left_nothing_out_are_known() -> None:
    excludes = Excludes(["*.lgo", "*.log", "deb*", "build/", "docs/*.txt", "**/cache/", "*.lgo"])
    asked = [("a.log", False), ("deb.log", False), ("build", False), ("docs/a.txt", False), ("x/cache", True)]
    for path, folder in asked:
        excludes.match(path, folder=folder)
    assert excludes.idle == ("*.lgo", "build/"), "two that match the same path both count, and a name is told once"
    excludes.match("build", folder=True)
    assert excludes.idle == ("*.lgo",)


@pytest.mark.parametrize("pattern", ["", "/", "/a", "a//b", "../a", "a/..", "./a", "a\x00", "x" * 5000])
def test_refuses_what_matches_nothing(pattern: str) -> None:
    with pytest.raises(BadInputError, match="exclude pattern"):
        Excludes([pattern])


def test_the_number_of_patterns_is_bounded() -> None:
    with pytest.raises(BadInputError):
        Excludes([f"{number}" for number in range(1001)])


@given(st.text("ab*?[]!/.", max_size=12), st.lists(st.text("ab.", min_size=1, max_size=6), min_size=1, max_size=4))
def test_any_pattern_answers_or_is_refused(pattern: str, parts: list[str]) -> None:
    try:
        excludes = Excludes([pattern])
    except BadInputError:
        return
    assert excludes.match("/".join(parts), folder=False) in (True, False)


def test_hostile_patterns_are_fast() -> None:
    assert not excluded("*a" * 40 + "b", "a" * 255)
    assert not excluded("**/a/" * 40 + "b", "a/" * 300 + "a")
