"""The background work of a site: it begins with the server, and ends in order."""

import asyncio


async def test_a_site_that_ends_gives_its_connections_to_clouds_back(site, monkeypatch) -> None:
    """Else whoever waits for a cloud, in a thread, holds the process up."""
    runs, order = asyncio.Event(), []

    async def points() -> list[object]:
        runs.set()
        return []

    async def close() -> None:
        order.append("closed")

    monkeypatch.setattr(site.server.clouds, "points", points)
    monkeypatch.setattr(site.server.clouds, "close", close)
    work = asyncio.create_task(site.server.work())
    await runs.wait()
    assert order == []
    work.cancel()
    await asyncio.wait({work})
    assert work.cancelled()
    assert order == ["closed"]
