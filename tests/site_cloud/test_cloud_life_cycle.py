"""The life of a cloud point, and what SIGKILL, failures and changes of mind do to it."""

import contextlib

import msgspec
import pytest

from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.database import points, tasks, usage
from entrepot.database.tables.devices import device
from entrepot.protocol.cloudhost import RunState, ServiceSpec
from entrepot.protocol.cloudpointapi import CloudPointPatch, CloudPointState
from entrepot.protocol.control import TRUST_KEY, ServiceState
from entrepot.protocol.siteapi import TaskState
from entrepot.site.cloud.actions import MAX_ATTEMPTS
from entrepot.site.cloud.states import CloudAction

from .conftest import FQDN, Crash
from .test_certificate_errors import certificate, pfx


async def test_creation_checks_first_then_creates_then_waits_until_instances_run(site) -> None:
    site.import_certificate()
    task = await site.services.create(site.request())
    assert (await site.services.get("cloud1")).state is CloudPointState.PROVISIONING
    assert site.cloud.services == {}
    await site.settle()
    await site.completed(task)
    point = await site.services.get("cloud1")
    assert (point.state, point.url) == (CloudPointState.READY, "https://cloud1.contoso.com:8443")
    assert site.cloud.calls.index("check") < site.cloud.calls.index("create")
    assert site.control_of().state is ServiceState.RUNNING
    assert site.control_of().token_kids == (site.keys.token.kid,)
    kept = b"".join(site.cloud.services["cloud1"].holder._shelf.store.read(TRUST_KEY))
    assert kept.decode() == site.keys.trust_document
    row = await site.database.read(points.get_point, "cloud1")
    assert (row.kind, row.state, row.id) == ("cloud", "active", point.point)


async def test_the_password_and_the_keys_are_nowhere_in_the_database(site) -> None:
    point = await site.make_point()
    site.database.close()
    raw = b"".join(path.read_bytes() for path in site.folder.glob("site.db*"))
    assert b"correct horse" not in raw
    assert b"PRIVATE KEY" not in raw
    assert point.certificate.encode() in raw.replace(b"\r\n", b"\n")
    spec = site.cloud.services["cloud1"].spec
    assert "PRIVATE KEY" in spec.private_key
    assert "PRIVATE KEY" not in repr(spec)


@pytest.mark.parametrize("error", [UnauthenticatedError("No."), ForbiddenError("Unknown certificate.")])
async def test_a_refused_certificate_creates_nothing_and_frees_the_name(site, error) -> None:
    site.import_certificate()
    site.cloud.failures["check"] = [error]
    task = await site.services.create(site.request())
    await site.settle()
    ended = await site.task(task)
    assert (ended.state, ended.error_code) == (TaskState.FAILED, error.code)
    assert "Nothing was left" in ended.error
    assert "create" not in site.cloud.calls
    with pytest.raises(NotFoundError):
        await site.services.get("cloud1")
    again = await site.services.create(site.request())
    await site.settle()
    await site.completed(again)


async def test_a_disabled_subscription_is_said_before_anything_is_created(site) -> None:
    site.import_certificate()
    site.cloud.state = "disabled"
    task = await site.services.create(site.request())
    await site.settle()
    assert "disabled" in (await site.task(task)).error
    assert site.cloud.services == {}


async def test_more_instances_than_the_quota_are_refused_at_once(site) -> None:
    site.import_certificate()
    site.cloud.instance_quota = 1
    task = await site.services.create(site.request())
    await site.settle()
    ended = await site.task(task)
    assert (ended.error_code, ended.attempts) == ("quota", 1)
    assert site.cloud.services == {}


async def test_the_port_that_was_asked_for_is_asked_of_the_cloud_and_another_is_told(site) -> None:
    site.import_certificate()
    task = await site.services.create(site.request(port=443))
    await site.settle()
    assert site.cloud.services["cloud1"].spec.port == 443
    told = (await site.task(task)).message
    assert "listens on port 8443, and clients are sent to 443" in told
    point = await site.services.get("cloud1")
    assert point.url == f"https://{point.fqdn}", "443 is what https means"


async def test_a_name_that_another_site_uses_is_left_alone(site) -> None:
    site.import_certificate()
    other = ServiceSpec(point="pt-other", fqdn="x.y.z", root=b"", certificate="", private_key="", instances=1)
    await site.cloud.create("cloud1", other)
    task = await site.services.create(site.request())
    await site.settle()
    ended = await site.task(task)
    assert ended.error_code == "conflict"
    assert "Choose another name" in ended.error
    assert site.cloud.services["cloud1"].spec.point == "pt-other"


async def test_the_name_of_an_orphan_is_told_to_be_ours_to_adopt_or_remove(site) -> None:
    site.import_certificate()
    root = site.keys.hierarchy.root_public
    own = ServiceSpec(point="pt-lost", fqdn="x.y.z", root=root, certificate="", private_key="", instances=1)
    await site.cloud.create("cloud1", own)
    task = await site.services.create(site.request())
    await site.settle()
    assert "adopt it (entrepot cloud create … --adopt)" in (await site.task(task)).error
    assert site.cloud.services["cloud1"].spec.point == "pt-lost"


async def test_a_creation_whose_instances_never_run_cleans_up_and_says_why(site) -> None:
    site.import_certificate()
    site.cloud.broken_from_start = 1
    task = await site.services.create(site.request())
    await site.settle()
    ended = await site.task(task)
    assert ended.error_code == "instances"
    assert "i1 is starting" in ended.error
    assert site.cloud.services == {}
    with pytest.raises(NotFoundError):
        await site.services.get("cloud1")


async def test_a_failed_clean_up_says_what_remains_and_deletion_finishes_it(site) -> None:
    site.import_certificate()
    site.cloud.broken_from_start = 2
    site.cloud.left = ["disk of cloud1"]
    task = await site.services.create(site.request())
    await site.settle()
    assert "disk of cloud1" in (await site.task(task)).error
    point = await site.services.get("cloud1")
    assert point.state is CloudPointState.FAILED
    assert "disk of cloud1" in point.message
    site.cloud.left = []
    deletion = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    await site.completed(deletion)
    assert site.cloud.services == {}


async def test_a_cloud_that_does_not_answer_is_asked_again(site) -> None:
    site.import_certificate()
    site.cloud.failures["check"] = [UnavailableError("Down."), UnavailableError("Down.")]
    site.cloud.failures["put_document"] = [UnavailableError("Down.")]
    task = await site.services.create(site.request())
    await site.settle()
    assert (await site.completed(task)).attempts == 4
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


async def test_cancelling_a_creation_removes_what_it_made(site) -> None:
    site.import_certificate()
    task = await site.services.create(site.request())

    async def cancel(name: str) -> None:
        if name == "put_document":
            site.engine.cancel(task.id)

    site.cloud.on_call = cancel
    await site.settle()
    assert (await site.task(task)).state is TaskState.CANCELLED
    assert site.cloud.services == {}
    with pytest.raises(NotFoundError):
        await site.services.get("cloud1")


async def test_stop_cuts_off_by_control_document_first_and_start_restores(site) -> None:
    await site.make_point()
    site.cloud.calls.clear()
    task = await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    await site.completed(task)
    assert site.cloud.calls.index("put_document") < site.cloud.calls.index("stop")
    assert site.state_of() is ServiceState.STOPPED
    assert site.cloud.services["cloud1"].state is RunState.STOPPED
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED
    task = await site.services.act(CloudAction.START, "cloud1")
    await site.settle()
    await site.completed(task)
    assert site.state_of() is ServiceState.RUNNING
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


async def test_content_is_transferred_to_a_stopped_point_and_metered(site) -> None:
    point = await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    holder = await site.services.providers.holder(point.point)
    await holder.put_document("note", b"x" * 500)
    site.services.meter.flush()
    info = await site.services.database.read(_uploaded, point.point)
    assert info >= 500


def _uploaded(connection, point: str) -> int:
    return usage.totals_since(connection, point, 0).uploaded


async def test_a_point_that_is_being_created_takes_no_content_yet(site) -> None:
    site.import_certificate()
    await site.services.create(site.request())
    point = await site.services.get("cloud1")
    with pytest.raises(UnavailableError):
        await site.services.providers.holder(point.point)
    with pytest.raises(NotFoundError):
        await site.services.providers.holder("pt-unknown")


async def test_stop_works_while_the_control_document_cannot_be_written(site) -> None:
    await site.make_point()
    site.cloud.failures["put_document"] = [UnavailableError("Store down.")]
    task = await site.services.act(CloudAction.STOP, "cloud1")
    await site.engine.run_once()
    assert site.cloud.services["cloud1"].state is RunState.STOPPED
    assert (await site.task(task)).state is TaskState.CREATED  # it will be tried again
    site.clock.advance(60)
    await site.settle()
    await site.completed(task)
    assert site.state_of() is ServiceState.STOPPED


async def test_scaling_changes_the_instances(site) -> None:
    await site.make_point()
    task = await site.services.act(CloudAction.SCALE, "cloud1", instances=3)
    await site.settle()
    await site.completed(task)
    point = await site.services.get("cloud1")
    assert (len(point.instances), point.instances_wanted, point.state) == (3, 3, CloudPointState.READY)


async def test_scaling_a_stopped_point_keeps_it_stopped(site) -> None:
    await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    task = await site.services.act(CloudAction.SCALE, "cloud1", instances=4)
    await site.settle()
    await site.completed(task)
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED
    assert site.cloud.services["cloud1"].wanted == 4


async def test_a_stop_takes_over_from_a_start_that_hangs(site) -> None:
    await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    start = await site.services.act(CloudAction.START, "cloud1")
    stops = []

    async def stop_meanwhile(name: str) -> None:
        if name == "start" and not stops:
            stops.append(await site.services.act(CloudAction.STOP, "cloud1"))

    site.cloud.on_call = stop_meanwhile
    await site.settle()
    assert (await site.task(start)).state is TaskState.CANCELLED
    await site.completed(stops[0])
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED
    assert site.state_of() is ServiceState.STOPPED
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


async def test_deletion_leaves_nothing(site) -> None:
    point = await site.make_point()
    task = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    ended = await site.completed(task)
    assert "nothing is left" in ended.message
    assert site.cloud.services == {}
    with pytest.raises(NotFoundError):
        await site.services.get("cloud1")
    with pytest.raises(NotFoundError):
        await site.database.read(points.get_point, point.point)


async def test_a_deletion_says_which_record_to_remove_and_which_transactions_are_lost(site) -> None:
    await site.make_point()
    site.cloud.failures["list_documents"] = [UnavailableError("silent")] * 20
    task = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle(tries=20)
    message = (await site.completed(task)).message
    assert "Remove its DNS record cloud1.contoso.com." in message
    assert "Its last transactions could not be brought in" in message
    assert site.cloud.services == {}


async def test_deletion_survives_a_cloud_that_was_deleted_by_hand(site) -> None:
    await site.make_point()
    site.cloud.services.clear()
    task = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    await site.completed(task)
    assert "delete" in site.cloud.calls  # what is half gone is removed as well


async def test_a_deletion_that_leaves_something_says_what_and_can_be_repeated(site) -> None:
    await site.make_point()
    site.cloud.left = ["container cloud1"]
    task = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle(tries=20)
    ended = await site.task(task)
    assert ended.state is TaskState.FAILED
    assert "container cloud1" in ended.error
    assert "container cloud1" in (await site.services.get("cloud1")).message
    site.cloud.left = []
    again = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    await site.completed(again)


async def test_what_makes_no_sense_in_a_state_is_refused(site) -> None:
    site.import_certificate()
    await site.services.create(site.request())
    for action in (CloudAction.STOP, CloudAction.START, CloudAction.SCALE):
        with pytest.raises(ConflictError):
            await site.services.act(action, "cloud1", instances=2)
    await site.settle()
    await site.services.act(CloudAction.DELETE, "cloud1")
    with pytest.raises(ConflictError):
        await site.services.act(CloudAction.STOP, "cloud1")
    with pytest.raises(NotFoundError):
        await site.services.act(CloudAction.STOP, "unknown")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Cloud One"},
        {"name": "a" * 41},
        {"host_url": "http://127.0.0.1:9"},
        {"service_password": "wrong"},
        {"service_pfx": b"rubbish"},
        {"fqdn": "other.contoso.com"},
        {"fqdn": "nodots"},
    ],
)
async def test_bad_input_is_refused_before_a_task_exists(site, changes) -> None:
    site.import_certificate()
    with pytest.raises(BadInputError) as caught:
        await site.services.create(msgspec.structs.replace(site.request(), **changes))
    assert caught.value.next_step or changes.get("host_url")
    assert await site.database.read(tasks.listed) == []


async def test_names_are_unique_among_points_services_and_devices(site) -> None:
    await site.make_point()
    for fqdn in ("other.contoso.com", FQDN):  # the name that was asked for is told first
        for refused in (site.services.create, site.services.plan):
            with pytest.raises(ConflictError, match="distribution point named 'cloud1' already"):
                await refused(site.request("cloud1", fqdn))
    with pytest.raises(ConflictError, match="cloud1 has the service name"):
        await site.services.create(site.request("cloud2"))
    await site.database.write(_add_device, "cloud3.contoso.com")
    with pytest.raises(ConflictError, match="device"):
        await site.services.create(site.request("cloud3", "cloud3.contoso.com"))


async def test_a_common_name_of_somebody_else_is_refused_though_the_service_has_another(site) -> None:
    site.import_certificate()
    mine = "cloud1.contoso.com"
    await site.database.write(_add_device, "PC-7.contoso.com")
    for taken, match in (("pc-7.contoso.com", "device is named pc-7"), ("other.contoso.com", "")):
        shared = pfx(certificate(cn=taken, names=(taken, mine)))
        request = msgspec.structs.replace(site.request(service_pfx=shared), fqdn=mine)
        if match:
            for refused in (site.services.create, site.services.plan):
                with pytest.raises(ConflictError, match=match):
                    await refused(request)
        else:
            await site.services.create(request)
    request = site.request("cloud2", service_pfx=pfx(certificate(cn=mine, names=(mine, "cloud2.contoso.com"))))
    with pytest.raises(ConflictError, match="cloud1 has the service name"):
        await site.services.create(msgspec.structs.replace(request, fqdn="cloud2.contoso.com"))


def _add_device(connection, name: str) -> None:
    connection.execute(
        device.insert().values(
            id="dev-0123456789abcdef",
            name=name,
            name_key=name.casefold(),
            public_key=b"k" * 32,
            state="approved",
            changed=0,
            site="PS1",
            enrolled=0,
            seen=0,
            address="",
        )
    )


@pytest.mark.parametrize("feature", ["pxe", "multicast", "pull", "prestaged"])
async def test_r15_r20_features_of_points_on_premises_are_refused_with_the_reason(site, feature: str) -> None:
    site.import_certificate()
    with pytest.raises(RefusedError) as refused:
        await site.services.create(site.request(features=(feature,)))
    assert refused.value.message
    assert refused.value.next_step
    assert await site.services.points() == []
    await site.make_point()
    before = await site.services.get("cloud1")
    with pytest.raises(RefusedError):
        await site.services.patch("cloud1", CloudPointPatch(features=(feature,), description="changed"))
    assert await site.services.get("cloud1") == before


async def test_a_feature_that_nobody_has_is_told_from_one_that_is_refused(site) -> None:
    site.import_certificate()
    with pytest.raises(BadInputError, match="teleport"):
        await site.services.create(site.request(features=("teleport",)))


async def test_cancelling_a_creation_that_waits_to_be_tried_again_removes_what_it_made(site) -> None:
    site.import_certificate()
    site.cloud.failures["put_document"] = [UnavailableError("The store does not answer.")]
    task = await site.services.create(site.request())
    await site.engine.run_once()
    assert site.cloud.services
    await site.database.write(tasks.request_cancel, task.id, now=site.clock(), tidy=True)
    await site.engine.run_once()
    ended = await site.database.read(tasks.get, task.id)
    assert ended.state is TaskState.CANCELLED
    assert "Nothing was left in the cloud" in ended.error
    assert site.cloud.services == {}
    with pytest.raises(NotFoundError):
        await site.services.get("cloud1")


async def test_a_creation_that_died_too_often_removes_what_it_made(site) -> None:
    site.import_certificate()
    task = await site.services.create(site.request())
    for _ in range(MAX_ATTEMPTS):
        site.fuse.arm(13)
        with contextlib.suppress(Crash):
            await site.engine.run_once()
        site.fuse.arm(-1)
        site.boot()
        await site.engine.recover()
    assert site.cloud.services
    await site.engine.run_once()
    ended = await site.database.read(tasks.get, task.id)
    assert ended.state is TaskState.FAILED
    assert "Given up" in ended.error
    assert "Nothing was left in the cloud" in ended.error
    assert site.cloud.services == {}


async def test_a_stop_stops_the_instances_although_the_store_refuses_the_control_document(site) -> None:
    await site.make_point()
    site.clock.advance(3700)
    site.cloud.failures["put_document"] = [ForbiddenError("The role at the store was taken away.")]
    stop = await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    assert "The role at the store was taken away." in (await site.task(stop)).error
    assert site.cloud.services["cloud1"].state is RunState.STOPPED
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED, "as the service is"


@pytest.mark.parametrize("refused", ["put_document", "stop"])
@pytest.mark.parametrize("error", [RefusedError("Not in its present state."), UnavailableError("Busy with itself.")])
async def test_a_deletion_goes_on_although_the_service_cannot_be_stopped_any_more(site, refused, error) -> None:
    await site.make_point()
    site.clock.advance(3700)
    site.cloud.failures[refused] = [error] * 9
    deletion = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    await site.completed(deletion)
    assert site.cloud.services == {}
