"""No relative link of any page is dead, the heading that it names included."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

_FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes it."""
    made: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", _FENCE.sub("", page.read_text("utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().replace(" ", "-")
        slug = re.sub(r"[^\w-]", "", words)
        count = made[slug] = made.get(slug, -1) + 1
        if count:
            made[f"{slug}-{count}"] = 0
    return set(made)


def links(page: Path) -> list[str]:
    """Targets of a page's links that lead into the repository."""
    text = _SPAN.sub("", _FENCE.sub("", page.read_text("utf-8")))
    found = [one or other for one, other in _LINK.findall(text)]
    return [unquote(target) for target in found if not _ELSEWHERE.match(target)]


def test_every_relative_link_leads_somewhere(page, repository):
    for target in links(page):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert found.is_relative_to(repository), f"{page.name} links out of the repository: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page.name} links to {target}: no such heading"


def test_headings_are_called_as_github_calls_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# The `sealed` object, 1\n\n```\n# no heading\n```\n## Twice\n## Twice\n", "utf-8")
    assert anchors(page) == {"the-sealed-object-1", "twice", "twice-1"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](b.md#c)", ["b.md#c"]),
        ("[a](https://example.org) `[x](y)`", []),
        ("```\n[a](b)\n```\n[a]: c.md", ["c.md"]),
        ("![picture](one%20two.png)", ["one two.png"]),
    ],
)
def test_links_are_found_and_code_is_left_alone(tmp_path, text, found):
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    assert links(page) == found


def test_every_page_of_the_documentation_is_in_its_index(repository):
    docs = repository / "docs"
    index = {(docs / target.partition("#")[0]).resolve() for target in links(docs / "README.md")}
    missing = [page for page in docs.rglob("*.md") if page.resolve() not in index and page.name != "README.md"]
    assert missing == []
