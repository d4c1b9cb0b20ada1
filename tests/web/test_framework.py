"""Litestar applications answer errors as the plain ASGI ones do; health and metrics stand in front of any."""

from typing import Any

import msgspec
import pytest
from litestar import Litestar, get, post
from litestar.params import JSONBody

from entrepot.core.errors import ConflictError, LimitedError
from entrepot.web.handlers import exception_handlers
from entrepot.web.health import Health, registry_of
from entrepot.web.problems import Problem


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    size: int


@get("/busy")
async def busy() -> None:
    raise ConflictError("It is busy.", next_step="Wait.")


@get("/much")
async def much() -> None:
    raise LimitedError("Too much.")


@get("/bug")
async def bug() -> None:
    raise ValueError("secret of the server")


@post("/things")
async def things(data: JSONBody[Thing]) -> Thing:
    return data


@pytest.fixture
async def site_url(served):
    handlers: Any = exception_handlers()
    app = Litestar([busy, much, bug, things], exception_handlers=handlers, openapi_config=None, logging_config=None)
    async with served(app) as url:
        yield url


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/busy", None, 409, "conflict"),
        ("GET", "/much", None, 429, "limited"),
        ("GET", "/bug", None, 500, "internal"),
        ("GET", "/nothing", None, 404, "not_found"),
        ("GET", "/things", None, 405, "bad_input"),
        ("POST", "/things", b'{"size": "x"}', 400, "bad_input"),
        ("POST", "/things", b"{", 400, "bad_input"),
    ],
)
async def test_every_failure_is_a_problem_document(site_url, http, method, path, body, status, code):
    answer = await http.request(method, site_url + path, body=body, accept=(status,))
    problem = msgspec.json.decode(answer.body, type=Problem)
    assert (answer.status, problem.status, problem.code) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"secret" not in answer.body
    assert ("retry-after" in answer.headers) == (status == 429)


async def test_the_field_at_fault_is_named(site_url, http):
    answer = await http.request("POST", f"{site_url}/things", body=b'{"size": "x"}', accept=(400,))
    assert "size" in msgspec.json.decode(answer.body, type=Problem).detail


async def test_health_and_metrics(plane, served, http, stock):
    state = {"status": "ok", "objects": 3}

    async def check() -> dict[str, Any]:
        return state

    object_id, data = stock(1000)
    async with served(Health(plane, check=check, registry=registry_of(plane))) as url:
        assert msgspec.json.decode((await http.request("GET", f"{url}/healthz")).body) == state
        await http.read_object(url, object_id, bearer="good")
        text = (await http.request("GET", f"{url}/metrics")).body.decode()
        assert f"entrepot_object_bytes_sent_total {float(len(data))}" in text
        assert "entrepot_downloads_running 0.0" in text
        state["status"] = "stopped"
        assert (await http.request("GET", f"{url}/healthz", accept=(503,))).status == 503


async def test_metrics_are_for_this_computer_unless_opened(plane):
    async def check() -> dict[str, Any]:
        return {"status": "ok"}

    async def status(app: Health, address: str, *headers: tuple[bytes, bytes]) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": "GET", "path": "/metrics", "client": (address, 1), "headers": headers}
        await app(scope, receive, send)
        return int(sent[0]["status"])

    closed = Health(plane, check=check, registry=registry_of(plane))
    assert [await status(closed, address) for address in ("127.0.0.1", "::1", "192.0.2.7", "?")] == [200, 200, 404, 404]
    assert await status(closed, "127.0.0.1", (b"x-forwarded-for", b"192.0.2.7")) == 404, "through a proxy here"
    assert (
        await status(Health(plane, check=check, registry=registry_of(plane), metrics_for_all=True), "192.0.2.7") == 200
    )
