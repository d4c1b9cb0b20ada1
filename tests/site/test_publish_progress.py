"""What a publish says of itself: its pace, and versions whose size leaps."""

import os

from entrepot.core.errors import RefusedError
from entrepot.core.sizes import MIB
from entrepot.database import tasks
from entrepot.protocol.contentapi import ContentInfo
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.site.publishing import PublishJob
from entrepot.site.reporting import Reporter


class Watched(Reporter):
    """Remembers the amounts and totals that it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int, int]] = []

    def amount(self, done: int, total: int | None = None) -> None:
        super().amount(done, total)
        now = self.current()
        self.seen.append((now.step, now.done, now.total))


def test_a_task_tells_its_pace_and_what_is_left() -> None:
    now = [100.0]
    report = Reporter(lambda: now[0])
    report.step("Reading", total=1000, unit="bytes")
    now[0], _ = 110.0, report.amount(400)
    progress = report.unwritten()
    assert progress is not None
    assert (progress.done, progress.total, progress.rate) == (400, 1000, 40)
    report.step("Making known")
    assert report.current().rate == 0


async def test_a_publish_knows_its_end_from_the_beginning(site, source, monkeypatch) -> None:
    (source / "large").write_bytes(os.urandom(3 * MIB))
    (source / "left-out.tmp").write_bytes(os.urandom(MIB))
    watched = Watched()
    monkeypatch.setattr("entrepot.site.tasks.Reporter", lambda **_: watched)
    await site.call("POST", "/contents", TaskInfo, {"name": "App", "source": str(source), "excludes": ["*.tmp"]})
    await site.run_tasks()
    size = (await site.call("GET", "/contents/App", ContentInfo)).versions[0].plain_size
    reading = [(done, total) for step, done, total in watched.seen if step.startswith("Reading")]
    assert reading[-1] == (size, size)
    assert {total for _, total in reading} == {size}
    assert [done for done, _ in reading] == sorted(done for done, _ in reading)


async def test_what_a_killed_attempt_has_stored_counts_as_new(site, source, monkeypatch) -> None:
    """The quotes build on it: who has the version before lacks it, whoever stored it and when."""
    (source / "large").write_bytes(os.urandom(MIB))

    def killed(*_: object) -> None:
        raise RefusedError("killed between storing and the last transaction")

    with monkeypatch.context() as once:
        once.setattr("entrepot.site.publishing.PublishHandler._add", killed)
        await site.call("POST", "/contents", TaskInfo, {"name": "App", "source": str(source)})
        await site.run_tasks()
    stored = sum(size for _, size in site.server.shelf.page(limit=9999))
    assert stored > MIB
    version = (await site.next_version("App")).versions[0]
    assert version.new_objects == version.objects + 1
    assert abs(version.new_bytes - stored) < 2000


async def test_an_attempt_that_finds_the_version_made_says_the_same(site, source) -> None:
    """The one before was killed between the version's transaction and its own end."""
    await site.publish("App", source)
    [first] = await site.database.read(tasks.listed, kind="publish")
    again = {"site": first.site, "kind": first.kind, "subject": first.subject, "title": first.title}
    job = first.payload_as(PublishJob)
    second = await site.database.write(tasks.create, **again, payload=job, now=site.clock())
    await site.run_tasks()
    ended = await site.call("GET", f"/tasks/{second.id}", TaskInfo)
    assert first.message.startswith("Version 1: ")
    assert (ended.state, ended.message) == (TaskState.COMPLETED, first.message)
    assert len((await site.call("GET", "/contents/App", ContentInfo)).versions) == 1


async def test_a_version_in_which_nothing_changed_says_so(site, source) -> None:
    await site.publish("App", source)
    second = await site.next_version("App")
    said = {version.number: version.warnings for version in second.versions}
    assert said == {1: (), 2: ("Nothing in it differs from version 1.",)}
    (source / "added").write_bytes(b"more")
    third = await site.next_version("App")
    assert next(version.warnings for version in third.versions if version.number == 3) == ()


async def test_what_has_ended_has_no_pace(site, source) -> None:
    await site.publish("App", source)
    task = (await site.call("GET", "/tasks", list[TaskInfo]))[0]
    assert (task.state, task.rate, task.seconds_left) == (TaskState.COMPLETED, 0, 0)


async def test_a_leap_in_size_is_warned_about(site, source) -> None:
    (source / "small").write_bytes(os.urandom(5 * MIB))
    first = (await site.publish("App", source)).versions[-1]
    (source / "large").write_bytes(os.urandom(40 * MIB))
    await site.call("POST", "/contents/App/versions", TaskInfo, {})
    await site.run_tasks()
    versions = (await site.call("GET", "/contents/App", ContentInfo)).versions
    second = next(each for each in versions if each.number == 2)
    assert not any("larger" in warning for warning in first.warnings)
    assert "much larger than the version before" in second.warnings[0]
