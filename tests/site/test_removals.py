"""What an order would remove is told to the byte and changes nothing; what would be refused says so."""

import functools
from typing import Any

import pytest
from sqlalchemy import Connection

from entrepot.core.errors import NotFoundError
from entrepot.database import budgets, taskleases, tasks
from entrepot.database.budgets import Budget, Scope
from entrepot.database.tables import metadata
from entrepot.protocol.alertapi import AlertSubscriptionRequest, Channel, MaintenanceWindowRequest
from entrepot.protocol.deviceapi import (
    ClientSettingsRequest,
    CollectionRequest,
    DeploymentInfo,
    DeploymentRequest,
    EnrolmentCodeReply,
    EnrolmentCodeRequest,
    SettingsValues,
)
from entrepot.protocol.keysapi import KeysInfo, RollRequest
from entrepot.protocol.pointapi import BoundaryGroupRequest, BoundaryPoint
from entrepot.protocol.removalapi import Effect, Removal
from entrepot.protocol.siteapi import TaskInfo
from entrepot.protocol.trust import Role
from entrepot.site.removals.foreseeing import Foreseen, foresee

from .cloud_rows import add_cloud_point


def everything(site: Any) -> dict[str, list[Any]]:
    """All rows of the database."""
    with site.database.reading() as connection:
        return {table.name: sorted(map(repr, connection.execute(table.select()))) for table in metadata.sorted_tables}


async def foreseen(site: Any, path: str, *, query: str = "", body: object = None) -> Removal:
    """What an order would do; that asking changed nothing."""
    await site.login()
    before = everything(site)
    found = await site.call("GET" if body is None else "POST", path, Removal, body, query=query)
    assert everything(site) == before
    return found


def effects(removal: Removal) -> dict[str, Any]:
    """Of each effect its names, else how many."""
    return {each.what: list(each.names) or each.count for each in removal.effects if each.count}


async def test_taking_a_content_off_a_point_tells_what_the_point_deletes(site, source) -> None:
    await site.publish("App", source)
    await site.publish("Twin", source)
    (source / "new").write_bytes(b"new" * 1000)
    await site.next_version("App")
    dp = await site.enrolled_point("dp")
    await site.enrolled_point("other")
    await site.distributed("Twin", "dp")
    await site.distributed("App", "dp", "other")
    await site.call("POST", "/deployments", DeploymentInfo, DeploymentRequest(content="App"))
    found = await foreseen(site, "/contents/App/distribution/dp/removal")
    assert found.name == "App on dp"
    told = effects(found)
    assert told["other points that have it"] == ["other"]
    assert told["collections it is deployed to"] == ["All devices"]
    before = site.points[dp].held()
    sizes = {object_id: site.points[dp].shelf.size(object_id) for object_id in before}
    await site.call("DELETE", "/contents/App/distribution/dp", type(None))
    await site.distribute_due()
    gone = before - site.points[dp].held()
    assert told["objects that the point deletes"] == len(gone) > 0
    assert found.effects[0].bytes == sum(sizes[object_id] for object_id in gone)
    with pytest.raises(NotFoundError):
        await foreseen(site, "/contents/App/distribution/dp/removal")


async def test_removing_a_point_tells_what_is_nowhere_else(site, source) -> None:
    await site.publish("App", source)
    await site.publish("Everywhere", source)
    dp = await site.enrolled_point("dp")
    await site.enrolled_point("other")
    await site.distributed("App", "dp")
    await site.distributed("Everywhere", "dp", "other")
    group = BoundaryGroupRequest(name="Berlin", ranges=("10.0.0.0/8",), points=(BoundaryPoint(name="dp"),))
    await site.call("POST", "/boundary-groups", object, group)
    found = await foreseen(site, "/points/dp/removal")
    told = effects(found)
    assert told["contents that it has or gets"] == ["App", "Everywhere"]
    assert told["contents that no other point has"] == ["App"]
    assert told["boundary groups that it serves"] == ["Berlin"]
    held = site.points[dp].held()
    assert found.effects[2].count == len(held)
    assert found.effects[2].bytes == sum(map(site.points[dp].shelf.size, held))
    assert found.refusal == ""
    assert effects(await foreseen(site, "/boundary-groups/berlin/removal")) == {
        "address ranges": ["10.0.0.0/8"],
        "points that serve it": ["dp"],
    }


async def test_a_device_is_told_with_its_collections_and_why_it_stays(site) -> None:
    await site.call("POST", "/collections", object, CollectionRequest(name="Laptops"))
    code = await site.call(
        "POST", "/enrolment-codes", EnrolmentCodeReply, EnrolmentCodeRequest(uses=7, collection="Laptops", name="July")
    )
    await site.enrolled_device("pc")
    await site.call("PUT", "/collections/Laptops/members/pc", type(None))
    blocked = await foreseen(site, "/devices/pc/block")
    assert (blocked.what, effects(blocked), blocked.refusal) == (
        "device, approved",
        {"collections that it is in": ["Laptops"]},
        "",
    )
    removed = await foreseen(site, "/devices/pc/removal")
    assert (removed.refusal, removed.next_step) == ("The device pc is approved.", "Block it first.")
    withdrawn = await foreseen(site, f"/enrolment-codes/{code.id}/removal")
    assert (withdrawn.name, effects(withdrawn)) == (
        "July",
        {"enrolments that it still allows": 7, "collection that they would join": ["Laptops"]},
    )
    with pytest.raises(NotFoundError):
        await foreseen(site, "/devices/nobody/removal")


async def test_a_collection_that_is_used_is_told_to_stay(site, source) -> None:
    await site.publish("App", source)
    await site.call("POST", "/collections", object, CollectionRequest(name="Laptops"))
    await site.enrolled_device("pc")
    await site.call("PUT", "/collections/Laptops/members/pc", type(None))
    deployment = await site.call(
        "POST", "/deployments", DeploymentInfo, DeploymentRequest(content="App", collection="Laptops")
    )
    kiosks = ClientSettingsRequest(name="kiosks", collection="Laptops", settings=SettingsValues(allow_cloud=False))
    await site.call("POST", "/client-settings", object, kiosks)
    found = await foreseen(site, "/collections/laptops/removal")
    assert effects(found) == {
        "devices that are no longer its members": 1,
        "contents deployed to it": ["App"],
        "client settings for it": ["kiosks"],
    }
    assert found.refusal == "Deployments use the collection 'Laptops'."
    found = await foreseen(site, f"/deployments/{deployment.id}/removal")
    assert (found.name, found.effects[0].count) == ("App to Laptops", 1)
    assert (await foreseen(site, "/client-settings/kiosks/removal")).effects[0].count == 1
    assert "cannot be removed" in (await foreseen(site, "/client-settings/default/removal")).refusal
    assert "built in" in (await foreseen(site, "/collections/All devices/removal")).refusal


async def test_what_is_arranged_for_a_cloud_point_is_told(site) -> None:
    await site.database.write(add_cloud_point)
    found = await foreseen(site, "/management-certificates/m/removal")
    assert effects(found)["cloud points that use it"] == ["cloud-eu"]
    assert found.refusal == "The management certificate is used by cloud-eu."
    stopped = await foreseen(site, "/cloud-points/cloud-eu/stop")
    assert (stopped.name, stopped.what, stopped.refusal) == ("cloud-eu", "cloud point, ready", "")
    assert (await foreseen(site, "/cloud-points/cloud-eu/removal")).refusal == ""
    forgotten = await foreseen(site, "/cloud-points/cloud-eu/removal", query="forget=true")
    assert "only one whose deletion failed can be forgotten" in forgotten.refusal
    assert forgotten.next_step == "Delete it first: entrepot cloud delete cloud-eu."
    assert "cloud point" in (await foreseen(site, "/points/cloud-eu/removal")).refusal
    await site.database.write(budgets.put_budget, Budget(scope=Scope.POINT, subject="pt-cloud", bytes=5_000))
    lifted = await foreseen(site, "/budgets/cloud-eu/removal", query="of=cloud-point")
    assert (lifted.name, lifted.effects[0].bytes, lifted.refusal) == ("cloud-eu", 5_000, "")
    with pytest.raises(NotFoundError, match="has no budget"):
        await foreseen(site, "/budgets/All devices/removal", query="of=collection")


async def test_who_is_told_of_alerts_and_when_not_is_told(site) -> None:
    ops = AlertSubscriptionRequest(
        name="ops", channel=Channel.WEBHOOK, target="https://hooks.example/x;y", secret="s" * 32
    )
    await site.call("POST", "/alert-subscriptions", object, ops)
    window = MaintenanceWindowRequest(name="patching", start="2026-03-23T22:00", minutes=60, zone="Europe/Berlin")
    await site.call("POST", "/maintenance-windows", object, window)
    found = await foreseen(site, "/alert-subscriptions/ops/removal")
    assert effects(found) == {"addresses that are told no more": ["https://hooks.example/x;y"]}, "one, not two"
    both = AlertSubscriptionRequest(name="both", channel=Channel.MAIL, target="a@example.org; b@example.org")
    await site.call("POST", "/alert-subscriptions", object, both)
    found = await foreseen(site, "/alert-subscriptions/both/removal")
    assert effects(found) == {"addresses that are told no more": ["a@example.org", "b@example.org"]}
    found = await foreseen(site, "/maintenance-windows/patching/removal")
    assert effects(found) == {"cloud point whose alerts it holds back": ["every cloud point"]}


async def test_a_task_that_has_ended_is_told_to_be_past_cancelling(site, source) -> None:
    await site.publish("App", source)
    waiting = await site.call("POST", "/contents/App/versions", TaskInfo, {})
    found = await foreseen(site, f"/tasks/{waiting.id}/cancel")
    assert (found.what, found.name, found.refusal) == ("task, created", waiting.title, "")
    await site.run_tasks()
    assert "ended already" in (await foreseen(site, f"/tasks/{waiting.id}/cancel")).refusal


async def test_a_task_at_work_is_told_with_what_it_does_and_how_far_it_is(site) -> None:
    def at_work(connection: Connection, unit: str) -> str:
        made = tasks.create(connection, site="PS1", kind="work", subject=unit, title=f"Read {unit}", now=0)
        taskleases.claim(connection, site="PS1", kinds=["work"], holder="a", now=0, lease=60, limit=1)
        progress = taskleases.Progress(step="Reading /", done=50_000_000, total=100_000_000, unit=unit)
        taskleases.renew(connection, task_id=made.id, holder="a", now=0, lease=60, progress=progress)
        return made.id

    found = await foreseen(site, f"/tasks/{await site.database.write(at_work, 'bytes')}/cancel")
    assert found.what == "task, in progress: Reading /"
    assert found.effects == (Effect(what="work done of 100.0 MB", count=1, bytes=50_000_000),)
    found = await foreseen(site, f"/tasks/{await site.database.write(at_work, 'objects')}/cancel")
    assert found.effects == (Effect(what="objects done of 100,000,000", count=50_000_000),)


async def test_a_rollover_is_told_with_the_versions_that_a_withdrawn_key_has_signed(site, source) -> None:
    info = await site.publish("App", source)
    keys = await site.call("GET", "/keys", KeysInfo)
    (manifest,) = [key.kid for key in keys.signing if key.role is Role.MANIFEST]
    (token,) = [key.kid for key in keys.signing if key.role is Role.TOKEN]
    refused = await foreseen(site, "/keys/roll/removal", body=RollRequest(roles=(Role.MANIFEST,), withdraw=(manifest,)))
    assert "has signed 1 versions" in refused.refusal
    forced = await foreseen(
        site,
        "/keys/roll/removal",
        body=RollRequest(roles=(Role.MANIFEST, Role.TOKEN), withdraw=(manifest,), force=True, raise_epoch=True),
    )
    assert forced.refusal == ""
    assert effects(forced) == {
        "new keys of the roles": ["manifest", "token"],
        "keys that end in a while": [f"token {token}"],
        "keys believed no more at once": [f"manifest {manifest}"],
        "steps by which the epoch rises": 1,
        "versions to be sealed anew": 1,
    }
    assert next(each.bytes for each in forced.effects if each.bytes) == info.versions[0].stored_size
    assert await site.call("GET", "/keys", KeysInfo) == keys


async def test_nobody_who_writes_waits_while_what_an_order_affects_is_counted(site) -> None:
    write = functools.partial(tasks.create, site="PS1", kind="publish", subject="pkg-1", title="Publish App", now=0)

    def count(_: Connection) -> Foreseen:
        with site.database.transaction() as another:  # refused after a while, where the counting holds the writer
            write(another)
        return Removal(what="task", id="task-1", name="Publish App", effects=()), write

    told = await foresee(site.database, count)
    assert "already" in told.refusal, "the order is given after what was written meanwhile"
