"""What strangers meet at a site's doors, before anything is asked of them: bodies, headers, connections, guesses."""

import asyncio
from typing import Any

import pytest

from entrepot.core.encoding import to_json
from entrepot.protocol.siteapi import PREFIX, LoginRequest
from entrepot.site.serve import serve_site
from entrepot.web import asgi

LOGIN = PREFIX + "/login"
GUESS = to_json(LoginRequest(name="admin", password="guess"))


async def test_a_login_whose_body_never_comes_is_given_up(site, monkeypatch) -> None:
    """The login is open to everyone: whoever drips must not keep a connection for ever."""
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.01)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": LOGIN,
        "raw_path": LOGIN.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"site"), (b"content-length", b"9"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 50000),
        "server": ("site", 443),
        "state": {},
    }
    inbox = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if inbox:
            return inbox.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with asyncio.timeout(120):
        await site.app(scope, receive, send)
    assert sent[0]["status"] == 503
    assert b"did not arrive in time" in sent[1]["body"]


@pytest.mark.parametrize("before", [b"", b'{"name":', b'{"other":', b'{"name":"admin","password":'])
async def test_what_is_nested_too_deeply_is_bad_input(site, before: bytes) -> None:
    answer = await site.ask("POST", LOGIN, before + b"[" * 100_000)
    assert (answer.status, answer.json()["code"]) == (400, "bad_input")


async def test_no_answer_of_the_api_is_kept_on_the_way_or_shown_in_a_frame(site) -> None:
    session = await site.raw("GET", "/site")
    page = await site.ask("GET", "/api/docs")
    refused = await site.ask("GET", PREFIX + "/site")
    for answer in (session, page, refused):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "cache-control" not in (await site.ask("GET", "/api/assets/swagger-ui.css")).headers


async def test_a_body_beyond_its_bound_is_no_reason_to_send_it_again(site) -> None:
    answer = await site.ask("POST", "/mp/enrolment", b"x" * (256 * 1024 + 1))
    told = answer.json()
    assert (answer.status, told["code"], told.get("retryable", False)) == (413, "too_large", False)


async def test_all_addresses_of_an_ipv6_customer_guess_together(site) -> None:
    answers = [await site.ask("POST", LOGIN, GUESS, peer=f"2001:db8:1:2::{number:x}") for number in range(1, 7)]
    assert [answer.status for answer in answers] == [401] * 5 + [429]
    assert answers[-1].headers["retry-after"] == "900"
    assert (await site.ask("POST", LOGIN, GUESS, peer="2001:db8:1:3::1")).status == 401


async def test_a_site_bounds_what_one_address_holds(home, monkeypatch) -> None:
    asked: dict[str, Any] = {}

    async def serve(_app: object, **how: Any) -> None:
        asked.update(how)

    monkeypatch.setattr("entrepot.site.serve.serve", serve)
    settings = home.folder / "site.toml"
    kept = [
        line for line in settings.read_text().splitlines() if not line.startswith(("listen", "address_connections"))
    ]
    settings.write_text("\n".join(['listen = "127.0.0.1:0"', "address_connections = 7", *kept]))
    await serve_site(home.folder, stop=asyncio.Event())
    assert asked["most_of_address"]() == 7


@pytest.mark.parametrize("told", ["9" * 30, "x", "-1"])
async def test_a_length_that_is_none_leaves_the_longest_time(told, monkeypatch) -> None:
    """It is for the server to refuse it; here it must not break anything."""
    monkeypatch.setattr(asgi, "BODY_SECONDS", 60.0)
    scope = {"headers": [(b"content-length", told.encode())]}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x", "more_body": False}

    assert (await asgi.in_time(scope, receive, 10)())["body"] == b"x"
