"""Image, registry and size of a cloud point in Azure are changed after its creation: over the API, sealed, checked."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from litestar import Litestar, Request, Response
from litestar.testing import AsyncTestClient

from entrepot.cli.cloud.output import print_cloud_point
from entrepot.core.errors import BadInputError, EntrepotError
from entrepot.core.secret import Secret
from entrepot.database import tasks
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudapi import AzureOptions, CloudPlan, UpdatePlan, UpdateRequest
from entrepot.protocol.cloudpointapi import CloudPointInfo, CloudPointState
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.cloud.careroutes import care_router
from entrepot.site.cloud.options import changed, image_remarks
from entrepot.site.cloud.routes import cloud_router

from ..lightpfx import light_management, light_pfx
from .conftest import NOW, PASSWORD, Crash, SiteUnderTest

AZURE = AzureOptions(
    tenant="contoso.onmicrosoft.com",
    application="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    image="contoso.azurecr.io/entrepot@sha256:" + "00" * 32,
    registry_user="puller",
    registry_password="registry-secret",  # of a test
)
NEW_IMAGE = "contoso.azurecr.io/entrepot@sha256:" + "11" * 32
Ask = Callable[..., Awaitable[object]]


@pytest.fixture
def rsa(site: SiteUnderTest) -> SiteUnderTest:
    """The site, with a management certificate that Azure takes."""
    pfx = light_pfx(light_management("Contoso", 300, now=NOW), PASSWORD)
    site.services.certificates.import_management("rsa", pfx, Secret(PASSWORD))
    return site


def request_of(site: SiteUnderTest, azure: AzureOptions = AZURE):
    return site.request(
        provider="azure", azure=azure, host_url="", host_pin="", region="westeurope", management_certificate="rsa"
    )


@pytest.fixture
async def in_azure(rsa: SiteUnderTest) -> CloudPoint:
    """A cloud point that is ready in Azure, as far as the site can tell."""
    await rsa.services.create(request_of(rsa))
    await rsa.settle()
    return await rsa.services.get("cloud1")


@pytest.fixture
async def ask(site: SiteUnderTest) -> AsyncIterator[Ask]:
    """Asks the API: what is answered, decoded, or the problem."""

    def problem(_: Request, error: EntrepotError) -> Response:
        return Response({"code": error.code, "detail": str(error)}, status_code=error.family.status)

    routes = [cloud_router(site.services), care_router(site.services)]
    async with AsyncTestClient(Litestar(routes, exception_handlers={EntrepotError: problem})) as client:

        async def asked(
            path: str, kind: object = None, *, status: int = 202, how: str = "POST", **body: object
        ) -> object:
            answer = await client.request(how, path, content=msgspec.json.encode(body) if body else None)
            assert answer.status_code == status, answer.text
            return answer.json() if kind is None else msgspec.json.decode(answer.content, type=kind)

        yield asked


async def test_a_new_image_password_and_size_reach_the_cloud_and_no_order_cuts_downloads(site, in_azure, ask) -> None:
    site.cloud.calls.clear()
    await ask(
        "/cloud-points/cloud1/update", TaskInfo, image=NEW_IMAGE, registry_password="second-secret", cpu=1.0
    )  # of a test
    assert (await site.services.get("cloud1")).state is CloudPointState.UPGRADING
    await site.settle()
    assert (await site.services.get("cloud1")).state is CloudPointState.READY
    assert site.connections[-1].azure == msgspec.structs.replace(
        AZURE, image=NEW_IMAGE, registry_password="second-secret", cpu=1.0, memory_gib=2.0
    )
    assert "create" in site.cloud.calls
    assert not {"stop", "start", "delete"} & set(site.cloud.calls)
    site.database.close()
    raw = b"".join(path.read_bytes() for path in site.folder.glob("site.db*"))
    assert b"second-secret" not in raw


async def test_options_are_shown_with_the_point_and_no_password(site, in_azure, ask, capsys) -> None:
    shown = await ask("/cloud-points/cloud1", CloudPointInfo, how="GET", status=200)
    assert isinstance(shown, CloudPointInfo)
    assert shown.azure is not None
    assert (shown.azure.image, shown.azure.registry_user, shown.azure.registry_password) == (
        AZURE.image,
        "puller",
        True,
    )
    assert (shown.azure.cpu, shown.azure.memory_gib, shown.azure.redundancy) == (0.5, 1.0, "LRS")
    print_cloud_point(shown)
    told = " ".join(capsys.readouterr().out.split())
    assert "as puller; its password is kept sealed" in told
    assert "0.5 cores, 1 GiB of memory" in told
    assert "one of its own" in told


async def test_what_is_left_out_stays_the_password_too(site, in_azure, ask) -> None:
    await ask("/cloud-points/cloud1/update", image=NEW_IMAGE)
    await site.settle()
    assert site.connections[-1].azure == msgspec.structs.replace(AZURE, image=NEW_IMAGE)


async def test_an_update_without_a_body_changes_no_option(site, in_azure, ask) -> None:
    before = len(site.connections)
    await ask("/cloud-points/cloud1/update", TaskInfo)
    await site.settle()
    assert len(site.connections) == before, "the provider is the one that was there"
    assert site.connections[-1].azure == AZURE


async def test_a_registry_that_asks_nobody_any_more_lets_the_password_be_forgotten(site, in_azure, ask) -> None:
    await ask("/cloud-points/cloud1/update", registry_user="")
    await site.settle()
    assert site.connections[-1].azure == msgspec.structs.replace(AZURE, registry_user="", registry_password="")


async def test_a_plan_shows_what_would_change_and_changes_nothing(site, in_azure, ask) -> None:
    before = len(await site.database.read(tasks.listed))
    plan = await ask(
        "/cloud-points/cloud1/update/plan", UpdatePlan, status=200, image="contoso.azurecr.io/entrepot:2", memory_gib=4
    )
    assert isinstance(plan, UpdatePlan)
    words = {one.option: (one.now, one.then) for one in plan.options}
    assert words == {
        "image": (AZURE.image, "contoso.azurecr.io/entrepot:2"),
        "registry user": ("puller", "puller"),
        "registry password": ("kept sealed", "kept sealed"),
        "cores of a replica": ("0.5", "2"),
        "memory of a replica": ("1 GiB", "4 GiB"),
    }
    assert "without its digest" in plan.remarks[0]
    assert len(await site.database.read(tasks.listed)) == before
    unchanged = await ask("/cloud-points/cloud1/update/plan", UpdatePlan, status=200)
    assert isinstance(unchanged, UpdatePlan)
    assert all(one.now == one.then for one in unchanged.options)


@pytest.mark.parametrize("path", ["update", "update/plan"])
async def test_a_point_at_a_cloud_host_has_no_such_options(site, ask, path) -> None:
    await site.make_point()
    refused = await ask(f"/cloud-points/cloud1/{path}", status=BadInputError.family.status, image=NEW_IMAGE)
    assert "is not in Azure" in refused["detail"]
    assert "on the host" in refused["detail"]
    assert (await site.services.get("cloud1")).state is CloudPointState.READY
    plan = await ask("/cloud-points/cloud1/update/plan", UpdatePlan, status=200)
    assert plan == UpdatePlan(options=())


async def test_options_that_will_not_do_order_nothing(site, in_azure, ask) -> None:
    before = len(await site.database.read(tasks.listed))
    for body in ({"image": ""}, {"cpu": 0.3}, {"registry_user": "another"}):
        await ask("/cloud-points/cloud1/update", status=BadInputError.family.status, **body)
    assert len(await site.database.read(tasks.listed)) == before
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


KEPT = msgspec.structs.replace(AZURE, registry_password="")


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (UpdateRequest(registry_user="another"), "password of another .* is missing"),
        (UpdateRequest(image="elsewhere.io/entrepot@sha256:11"), "password of puller .* elsewhere.io is missing"),
        (UpdateRequest(registry_user="", registry_password="x"), "needs its user"),
        (UpdateRequest(cpu=1.0, memory_gib=1.0), "no replicas of 1 cores and 1 GiB"),
        (UpdateRequest(memory_gib=0.75), "no replicas"),
        (UpdateRequest(image="x"), "needs the gateway's image"),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_next_step(request_, problem) -> None:
    with pytest.raises(BadInputError, match=problem) as refused:
        changed(KEPT, request_)
    assert refused.value.next_step


def test_a_password_goes_to_another_registry_only_when_it_was_given_for_it() -> None:
    moved = changed(KEPT, UpdateRequest(image="elsewhere.io/entrepot@sha256:11", registry_password="for-elsewhere"))
    assert (moved.registry_user, moved.registry_password) == ("puller", "for-elsewhere")
    nobody = changed(KEPT, UpdateRequest(image="elsewhere.io/entrepot@sha256:11", registry_user=""))
    assert (nobody.registry_user, nobody.registry_password) == ("", "")


@pytest.mark.parametrize("step", range(12))
async def test_an_update_killed_at_any_step_is_either_not_ordered_or_brought_to_its_end(site, in_azure, step) -> None:
    site.fuse.arm(step)
    with contextlib.suppress(Crash):
        await site.services.update("cloud1", UpdateRequest(image=NEW_IMAGE, registry_password="second-secret"))
        await site.engine.run_once()
    site.fuse.arm(-1)
    site.boot()
    ordered = [one for one in await site.database.read(tasks.listed) if one.kind == "cloud-update"]
    await site.settle()
    point = await site.services.get("cloud1")
    assert point.state is CloudPointState.READY
    account = await site.services.providers.account_of(point)
    changes = {"image": NEW_IMAGE, "registry_password": "second-secret"} if ordered else {}
    assert account.azure == msgspec.structs.replace(AZURE, **changes)
    if ordered:
        await site.completed(ordered[0])
        assert site.connections[-1].azure == account.azure


# --- an image without its digest


def test_an_image_by_its_digest_needs_no_remark() -> None:
    assert image_remarks(AZURE) == image_remarks(None) == ()


async def test_an_image_without_its_digest_is_remarked_on_in_plan_and_answer_and_used_all_the_same(rsa, ask) -> None:
    by_tag = msgspec.structs.replace(AZURE, image="contoso.azurecr.io/entrepot:1")
    body = msgspec.to_builtins(request_of(rsa, by_tag))
    plan = await ask("/cloud-points/plan", CloudPlan, status=200, **body)
    assert isinstance(plan, CloudPlan)
    assert "without its digest" in plan.remarks[0]
    created = await ask("/cloud-points", TaskInfo, **body)
    assert isinstance(created, TaskInfo)
    assert "without its digest" in created.message
    await rsa.settle()
    assert (await rsa.services.get("cloud1")).state is CloudPointState.READY
    (task,) = await rsa.database.read(tasks.listed)
    assert "is ready" in task.message
    assert "without its digest" in task.message
    stopped = await ask("/cloud-points/cloud1/stop", TaskInfo)
    assert isinstance(stopped, TaskInfo)
    assert stopped.message == ""
