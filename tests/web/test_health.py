"""Health and metrics stand in front of any application of a server."""

from typing import Any

import msgspec

from entrepot.web.health import Health, registry_of


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
