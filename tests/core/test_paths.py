import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import FormatError
from entrepot.core.paths import case_key, check_path, is_plain, link_stays_inside, path_key, windows_problem


@pytest.mark.parametrize(
    "path", ["a", "a/b", "ä/日本", "new\nline", " ", "a" * 255, "a/" * 299 + "a", "...", "a./b ", "c:/x", "a\\b"]
)
def test_paths_that_content_may_have(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/.",
        "a\x00",
        "x" * 256,
        "é" * 128,
        "ab/" * 1400 + "a",
        "a/" * 300 + "a",
        "\ud800",
    ],
    ids=lambda path: ascii(path[:12]),
)
def test_paths_that_it_may_not(path: str) -> None:
    with pytest.raises(FormatError):
        check_path(path)


@pytest.mark.parametrize("name", ["a", "setup.py", ".gitignore", "7z-9.20_x64@2+b", "__init__.py", "nullable", "com10"])
def test_usual_names_are_plain(name: str) -> None:
    assert is_plain(name)


@given(st.text("aAcCoOnNuUlLpPrRxXmMtT019.$ _-é\n<\\", max_size=6) | st.text(max_size=300))
def test_plain_names_can_be_stored_everywhere(name: str) -> None:
    if is_plain(name):
        assert check_path(name) == name
        assert windows_problem(name) == ""


def test_path_order_is_that_of_a_walk() -> None:
    assert sorted(["a-b", "a/b", "a", "a/é", "a/z", "B"], key=path_key) == ["B", "a", "a/b", "a/z", "a/é", "a-b"]


@pytest.mark.parametrize(
    ("path", "target"),
    [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../x/y"), ("a", "./b"), ("a/b", ".."), ("a/b", "./.././c")],
)
def test_links_that_stay_inside(path: str, target: str) -> None:
    assert link_stays_inside(path, target)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", ".."),
        ("a", "../a"),
        ("a/b", "../.."),
        ("a", "/etc"),
        ("a", "b/../.."),
        ("a", ""),
        ("a", "\\\\server\\share"),
        ("a", "c:\\x"),
        ("a", "C:x"),
        ("a", "b\x00"),
        ("a", "x/../../a/b"),
        ("a", "b/.."),  # b may be a link: then this leads wherever that leads, and up
        ("a/b/c", "../../x/../y"),
    ],
)
def test_links_that_do_not(path: str, target: str) -> None:
    assert not link_stays_inside(path, target)


@given(st.lists(st.sampled_from(["..", ".", "x"]), min_size=1, max_size=8), st.integers(0, 4))
def test_a_link_never_rises_above_the_root(steps: list[str], depth: int) -> None:
    path = "/".join(["d"] * depth + ["link"])
    climbs = [step for step in steps if step != "."]
    first_name = climbs.index("x") if "x" in climbs else len(climbs)
    rises = climbs.count("..")
    assert link_stays_inside(path, "/".join(steps)) == (rises <= depth and ".." not in climbs[first_name:])


@pytest.mark.parametrize(
    "path",
    [
        "CON",
        "a/nul.txt",
        "nul .txt",
        "com1",
        "LPT9.tar.gz",
        "com²",
        "conin$",
        "a:b",
        "what?",
        "a\\b",
        "tab\t",
        "trail.",
        "trail /x",
        "a|b",
        '"q"',
        "x" * 256,
        "😀" * 128,
        "/".join(["y" * 250] * 130),
    ],
    ids=lambda path: path[:12],
)
def test_names_that_windows_cannot_store(path: str) -> None:
    assert windows_problem(path)


@pytest.mark.parametrize(
    "path", ["console", "com", "com10", "a.con", ".hidden", "x" * 255, "😀" * 127, "a b/ c", "nul-x"]
)
def test_names_that_it_can(path: str) -> None:
    assert windows_problem(path) == ""


def test_names_that_collide_where_case_does_not_count() -> None:
    assert case_key("Straße") == case_key("STRASSE")
    assert case_key("É") == case_key("é")
    assert case_key("a") != case_key("b")
