"""Deltas that are missing are found from the versions, although nothing is known of their tasks any more."""

import secrets
from pathlib import Path
from typing import Any

import pytest

from entrepot.core.times import DAY
from entrepot.database import tasks
from entrepot.protocol.contentapi import ContentInfo, CurrentRequest
from entrepot.protocol.keysapi import RotationInfo, RotationRequest
from entrepot.protocol.libraryapi import DeltasRequest, MissingDeltas
from entrepot.protocol.siteapi import TaskInfo, TaskState


async def missing(site: Any, content: str = "") -> list[tuple[int, int]]:
    found = await site.call("GET", "/library/deltas", MissingDeltas, query=f"content={content}")
    assert (found.missing, found.tasks) == (len(found.deltas), 0)
    return [(each.from_version, each.to_version) for each in found.deltas]


async def made(site: Any) -> set[tuple[int, int]]:
    info = await site.call("GET", "/contents/App", ContentInfo)
    return {(delta.from_version, version.number) for version in info.versions for delta in version.deltas}


def edit(source: Path) -> None:
    big = bytearray((source / "big.bin").read_bytes())
    big[1000:1010] = secrets.token_bytes(10)
    (source / "big.bin").write_bytes(big)


def rewrite(source: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            path.write_bytes(secrets.token_bytes(50_000))


async def forgotten(site: Any) -> None:
    """Cancel the deltas that are asked for, and forget every task that ended."""
    for task in await site.call("GET", "/tasks", list[TaskInfo], query="kind=delta&active=true"):
        if not task.state.final:
            await site.call("POST", f"/tasks/{task.id}/cancel", TaskInfo)
    with site.database.transaction() as connection:
        tasks.prune(connection, finished_before=site.clock() + DAY)


@pytest.fixture
async def lacking(site: Any, source: Path) -> Any:
    """A content of three versions, whose deltas were never made, and nobody knows why."""
    await site.publish("App", source)
    for _ in range(2):
        edit(source)
        await site.call("POST", "/contents/App/versions", TaskInfo, {})
        await site.server.publishing.run_once()
        await forgotten(site)
    assert await made(site) == set()
    return site


async def test_what_was_never_made_is_listed_and_made_on_command(lacking: Any) -> None:
    assert await missing(lacking) == await missing(lacking, "App") == [(2, 3), (1, 3)]
    assert await made(lacking) == set(), "listing them makes none"
    asked = await lacking.call("POST", "/library/deltas", MissingDeltas, DeltasRequest(content="App"))
    assert (asked.missing, asked.tasks) == (2, 2)
    assert await missing(lacking) == [], "what is under way is not missing"
    await lacking.run_tasks()
    assert await made(lacking) == {(1, 3), (2, 3)}
    assert await missing(lacking) == []
    again = await lacking.call("POST", "/library/deltas", MissingDeltas, DeltasRequest())
    assert (again.missing, again.tasks) == (0, 0)


async def test_no_more_are_wanted_than_the_content_says(lacking: Any) -> None:
    for wanted, found in ((1, [(2, 3)]), (0, []), (20, [(2, 3), (1, 3)])):
        await lacking.call("PATCH", "/contents/App", ContentInfo, {"delta_versions": wanted})
        assert await missing(lacking) == found


async def test_what_would_save_nothing_is_not_missing_until_its_version_is_another(site: Any, source: Path) -> None:
    await site.publish("App", source)
    rewrite(source)
    await site.next_version("App")
    [task] = await site.call("GET", "/tasks", list[TaskInfo], query="kind=delta")
    assert (task.state, task.message) == (TaskState.COMPLETED, "No delta: it would not save anything.")
    await forgotten(site)
    assert await missing(site) == []
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    await forgotten(site)
    assert await missing(site) == [(2, 1)], "in this direction nobody has tried"
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=2))
    await site.call("DELETE", "/contents/App/versions/1", TaskInfo, query="force=true")
    await site.run_tasks()
    assert await missing(site) == []


async def test_nothing_is_missing_between_versions_that_wait_to_be_sealed_anew(lacking: Any) -> None:
    await lacking.call("POST", "/keys/rotate", RotationInfo, RotationRequest(compromised=True))
    assert await missing(lacking) == []
    await lacking.run_tasks()
    assert await made(lacking) == {(1, 3), (2, 3)}, "sealing them anew has asked for them"
