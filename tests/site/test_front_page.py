"""The page at ``/``: readable by everyone, in light and dark, with links that lead somewhere."""

import itertools
import re
from html.parser import HTMLParser

import pytest

from entrepot.protocol.siteapi import PREFIX
from entrepot.site.front import FrontPage
from entrepot.web.asgi import Message, Scope


class Read(HTMLParser):
    """What of the page is checked."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def test_the_page_says_what_this_is_and_its_links_lead_somewhere(site) -> None:
    answer = await site.ask("GET", "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    read = Read(answer.body.decode())
    assert "Entrepôt site PS1" in "".join(read.words)
    links = [each["href"] or "" for each in read.all("a")]
    assert {"/api/docs", "/healthz"} <= set(links)
    for link in links:
        assert (await site.ask("GET", link)).status == 200, link


async def test_head_is_answered_without_the_page_and_nothing_else_is_answered(site) -> None:
    page, head = await site.ask("GET", "/"), await site.ask("HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(page.body))
    assert (await site.ask("POST", "/", b"{}")).status == 404
    assert (await site.ask("GET", "/nothing")).status == 404
    assert (await site.ask("GET", PREFIX + "/site")).status == 401


async def test_the_page_loads_and_runs_nothing(site) -> None:
    answer = await site.ask("GET", "/")
    read = Read(answer.body.decode())
    assert not read.all("script")
    assert not read.all("img")
    assert all(each["href"] == "data:," for each in read.all("link"))
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "set-cookie" not in answer.headers


async def test_screen_readers_and_small_screens_are_served(site) -> None:
    read = Read((await site.ask("GET", "/")).body.decode())
    assert read.all("html") == [{"lang": "en"}]
    assert len(read.all("h1")) == len(read.all("main")) == len(read.all("title")) == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in read.all("meta")
    order = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert order[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(order))


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
async def test_texts_stand_out_in_light_and_dark(site, scheme: int) -> None:
    page = (await site.ask("GET", "/")).body.decode()
    assert "prefers-color-scheme: dark" in page
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", re.findall(r":root \{([^}]*)\}", page)[scheme]))
    for text in ("ink", "quiet", "link"):
        for ground in ("paper", "soft"):
            light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)  # WCAG AA


async def test_what_the_page_names_cannot_become_markup() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: Scope = {"type": "http", "method": "GET", "path": "/"}
    await FrontPage(site="<b>", url='https://x"><script>')(scope, receive, send)
    assert b"<script" not in sent[1]["body"]
    assert b"&lt;b&gt;" in sent[1]["body"]
