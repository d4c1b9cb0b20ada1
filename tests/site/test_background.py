"""The background work of a site: it begins with the server, and ends in order."""

import asyncio

from entrepot.core.errors import UnavailableError
from entrepot.site.repeating import every


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


async def test_work_that_fails_or_breaks_is_done_again() -> None:
    done, ends = [], asyncio.Event()

    async def work() -> None:
        done.append(len(done))
        if len(done) == 1:
            raise UnavailableError("The cloud does not answer.")
        if len(done) == 2:
            raise ZeroDivisionError
        ends.set()

    task = asyncio.create_task(every(0.001, work))
    await ends.wait()
    task.cancel()
    assert done[:3] == [0, 1, 2]


async def test_a_pause_ends_when_something_happened_even_while_the_work_was_done() -> None:
    wake, turns = asyncio.Event(), [asyncio.Event() for _ in range(3)]

    async def work() -> None:
        turn = sum(each.is_set() for each in turns)
        turns[turn].set()
        if turn == 1:
            wake.set()

    task = asyncio.create_task(every(3600.0, work, first=3600.0, wake=wake))
    await asyncio.sleep(0)
    assert not turns[0].is_set(), "the first pause"
    for turn in turns[:2]:
        wake.set()
        await turn.wait()
    await turns[2].wait()
    task.cancel()
