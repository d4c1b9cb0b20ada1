"""What uses a content is told before it is deleted, and keeps it from being deleted."""

import pytest

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.database import budgets, librarystats
from entrepot.database.budgets import Budget, Scope
from entrepot.protocol.contentapi import ContentInfo
from entrepot.protocol.deviceapi import CollectionRequest, DeploymentInfo, DeploymentRequest
from entrepot.protocol.libraryapi import ContentUses
from entrepot.protocol.siteapi import TaskInfo, TaskState


async def uses(site) -> ContentUses:
    return await site.call("GET", "/contents/App/uses", ContentUses)


async def test_everything_that_uses_a_content_is_named(site, source) -> None:
    info = await site.publish("App", source)
    await site.enrolled_point("dp")
    await site.distributed("App", "dp")
    await site.call("POST", "/collections", object, CollectionRequest(name="Offices"))
    deployment = await site.call(
        "POST", "/deployments", DeploymentInfo, DeploymentRequest(content="App", collection="Offices")
    )
    await site.database.write(budgets.put_budget, Budget(scope=Scope.CONTENT, subject=info.id, bytes=5_000_000_000))
    await site.database.write(
        budgets.put_budget, Budget(scope=Scope.COLLECTION, subject="col-1", bytes=1, critical=(info.id,))
    )
    (source / "new").write_bytes(b"new")
    await site.call("POST", "/contents/App/versions", TaskInfo, {})
    found = await uses(site)
    assert (found.versions, found.points) == ((1,), ("dp",))
    assert [each.id for each in found.deployments] == [deployment.id]
    assert [task.kind for task in found.tasks] == ["publish"]
    assert found.budgets == ("5.0 GB of its own", "critical in that of the collection col-1")
    assert found.refusals == (
        f"'App' is deployed to Offices ({deployment.id}).",
        "'App' is being published.",
    )
    with pytest.raises(ConflictError, match=r"is deployed to Offices .* is being published"):
        await site.call("DELETE", "/contents/App", TaskInfo)
    assert (await site.call("GET", "/contents/App", ContentInfo)).state == "publishing"


async def test_what_deleting_frees_is_said_to_the_byte(site, source) -> None:
    await site.publish("App", source)
    await site.publish("Twin", source)
    (source / "new").write_bytes(b"new" * 1000)
    await site.next_version("App")
    found = await uses(site)
    before = await site.database.read(librarystats.figures)
    task = await site.call("DELETE", "/contents/App", TaskInfo)
    await site.run_tasks()
    assert (await site.call("GET", f"/tasks/{task.id}", TaskInfo)).state is TaskState.COMPLETED
    after = await site.database.read(librarystats.figures)
    assert before.objects - after.objects == found.freed_objects > 0
    freed = (before.stored + before.overhead) - (after.stored + after.overhead)
    assert freed == found.freed_bytes
    with pytest.raises(NotFoundError):
        await uses(site)
