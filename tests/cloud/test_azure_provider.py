"""The Azure adapter: Microsoft's SDKs against a double that checks what it is sent (``arm_double``)."""

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.gateway.config import GatewayConfig
from entrepot.cloud.providers.azure.account import AzureAccess
from entrepot.cloud.providers.azure.errors import AzureQuotaError, AzureRefusedError
from entrepot.cloud.providers.azure.names import names_of
from entrepot.cloud.providers.azure.provider import AzureProvider
from entrepot.core.errors import (
    BadInputError,
    CancelledError,
    ConflictError,
    EntrepotError,
    ForbiddenError,
    LimitedError,
    NotFoundError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.core.ids import ObjectId
from entrepot.objects.hashing import object_id_of
from entrepot.objects.memory import MemoryStore
from entrepot.protocol.cloudapi import AzureOptions
from entrepot.protocol.cloudhost import RunState, ServiceSpec
from entrepot.rules.verdicts import Verdict
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.certificates import new_management
from entrepot.trust.inspection import key_pem, to_pem

from ..lightpfx import light_management
from .arm_double import APPLICATION, SUBSCRIPTION, TENANT, ArmDouble, Refusal

ROOT = bytes(range(32))
POINT = "pt-0123456789abcdef"
FQDN = "cloud1.contoso.com"
OPTIONS = AzureOptions(
    tenant=TENANT,
    application=APPLICATION,
    image="contoso.azurecr.io/entrepot@sha256:" + "ab" * 32,
    registry_user="puller",
    registry_password="registry-secret",  # of a test
)


@pytest.fixture(scope="module")
def management() -> Any:
    return light_management("Contoso management", 30, now=time.time())


@pytest.fixture(scope="module")
def authority() -> Any:
    return create_authority("Contoso", now=time.time())


@pytest.fixture
def arm(tmp_path: Path, authority: Any, management: Any) -> Iterator[ArmDouble]:
    double = ArmDouble(tmp_path, authority, management.certificate)
    yield double
    double.close()
    assert double.problems == []


def access(arm: ArmDouble, management: Any, **changes: Any) -> AzureAccess:
    plain = AzureAccess(
        subscription=SUBSCRIPTION,
        options=msgspec.structs.replace(OPTIONS, authority=arm.url),
        certificate=management.cer,
        private_key=key_pem(management.key),
        region="westeurope",
        arm=arm.url,
        mark=ROOT,
        ca=arm.ca,
        polling=0.01,
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture
async def azure(arm: ArmDouble, management: Any) -> AsyncIterator[AzureProvider]:
    stores: dict[str, MemoryStore] = {}
    async with AzureProvider(
        access(arm, management), open_store=lambda name, _endpoint, _account: stores.setdefault(name, MemoryStore())
    ) as provider:
        yield provider


def make_spec(authority: Any, *, instances: int = 2, days: int = 30, point: str = POINT) -> ServiceSpec:
    key = new_tls_key()
    certificate = authority.issue_server(key.public_key(), names=[FQDN], now=time.time(), days=days)
    return ServiceSpec(
        point=point,
        fqdn=FQDN,
        root=ROOT,
        certificate=to_pem(certificate, authority.certificate),
        private_key=key_pem(key).reveal_text(),
        instances=instances,
    )


@pytest.fixture
def spec(authority: Any) -> ServiceSpec:
    return make_spec(authority)


async def test_the_subscription_proves_certificate_tenant_and_application(azure, arm, management) -> None:
    found = await azure.check()
    assert (found.id, found.name, found.state) == (SUBSCRIPTION, "Contoso", "active")
    assert abs(found.time - time.time()) < 60
    arm.subscription_state = "Disabled"
    assert (await azure.check()).state == "disabled"


@pytest.mark.parametrize("what", ["/containerapps/cloud1$", "/managedenvironments/cloud1-env$"])
async def test_an_operation_that_azure_begins_and_that_fails_is_told_and_can_be_tried_again(
    azure, arm, spec, what
) -> None:
    arm.failing[what] = "ImagePullFailed"
    with pytest.raises(EntrepotError, match=r"Azure could not do it: ImagePullFailed .*Azure's words") as caught:
        await azure.create("cloud1", spec)
    assert "200" not in str(caught.value)
    arm.failing.clear()
    assert (await azure.create("cloud1", spec)).state is RunState.RUNNING


async def test_creation_makes_everything_marked_and_tells_the_records_that_are_missing(azure, arm, spec) -> None:
    told: list[str] = []
    status = await azure.create("cloud1", spec, told.append)
    assert (status.point, status.root, status.state, status.wanted) == (POINT, ROOT, RunState.RUNNING, 2)
    assert [one.state for one in status.instances] == ["running", "running"]
    assert status.address == "cloud1.happy.westeurope.azurecontainerapps.io:443"
    assert "asuid.cloud1.contoso.com TXT PROOF" in status.notes[0]
    assert arm.registered >= {"Microsoft.App"}
    assert any("environment" in text for text in told)
    tagged = [one for name, one in arm.things.items() if name.count("/") in (4, 8)]
    assert {one["tags"]["entrepot-point"] for one in tagged} == {POINT}
    arm.dns_proven = True
    status = await azure.create("cloud1", spec)
    assert status.notes == ()
    assert (await azure.status("cloud1")).certificate_expires > time.time()


async def test_a_record_of_which_azure_does_not_tell_the_text_is_not_asked_for(azure, arm, spec) -> None:
    assert [one.value for one in (await azure.create("cloud1", spec)).records] == ["PROOF"]
    [app] = [one for name, one in arm.things.items() if name.lower().endswith("/containerapps/cloud1")]
    del app["properties"]["customDomainVerificationId"]
    status = await azure.status("cloud1")
    assert status.records == ()
    assert status.notes == (
        "Azure does not serve cloud1.contoso.com yet: create the DNS record cloud1.contoso.com CNAME "
        "cloud1.happy.westeurope.azurecontainerapps.io. The site binds the name soon after it sees it.",
    )


async def test_the_gateways_get_a_configuration_that_they_can_read_and_no_secret_of_ours(azure, arm, spec) -> None:
    await azure.create("cloud1", spec)
    body = next(body for method, path, body in arm.bodies if method == "PUT" and path.endswith("containerApps/cloud1"))
    secrets = {one["name"]: one["value"] for one in body["properties"]["configuration"]["secrets"]}
    config = msgspec.json.decode(secrets["gateway"], type=GatewayConfig)
    assert (config.point, config.root, config.front) == (POINT, ROOT, True)
    grace = body["properties"]["template"]["terminationGracePeriodSeconds"]
    assert config.drain_seconds == grace - 20, "downloads have what Azure gives, less the time to hand records over"
    assert config.remote is not None
    assert (config.remote.account, config.remote.bucket) == ("entrepot0123456789abcdef", "entrepot")
    assert secrets["registry-password"] == "registry-secret"
    container = body["properties"]["template"]["containers"][0]
    assert container["image"].endswith("ab" * 32)
    assert {"command", "args"}.isdisjoint(container), "an image of any version knows how it starts"
    assert "PRIVATE KEY" not in json.dumps(arm.bodies)


async def test_another_image_password_and_size_replace_the_revision_and_cut_no_download(
    azure, arm, management, spec
) -> None:
    await azure.create("cloud1", spec)
    arm.bodies.clear()
    arm.log.clear()
    changed = msgspec.structs.replace(
        OPTIONS,
        authority=arm.url,
        image="contoso.azurecr.io/entrepot@sha256:" + "cd" * 32,
        registry_password="second-secret",  # of a test
        cpu=1.0,
        memory_gib=2.0,
    )
    async with AzureProvider(access(arm, management, options=changed)) as provider:
        status = await provider.create("cloud1", spec)
    assert (status.state, status.wanted) == (RunState.RUNNING, 2)
    puts = [(path, body) for method, path, body in arm.bodies if method == "PUT" and "roleAssignments" not in path]
    body = next(body for _, body in puts)
    assert {path.rsplit("/", 1)[1] for path, _ in puts} == {"cloud1"}, "only the app is brought to what is wanted"
    container = body["properties"]["template"]["containers"][0]
    assert (container["image"], container["resources"]) == (changed.image, {"cpu": 1.0, "memory": "2Gi"})
    secrets = {one["name"]: one["value"] for one in body["properties"]["configuration"]["secrets"]}
    assert secrets["registry-password"] == "second-secret"
    # Azure starts the new revision first; replicas of the old one end as `drain_seconds` of their configuration says.
    assert body["properties"]["configuration"]["activeRevisionsMode"] == "Single"
    assert not [path for method, path in arm.log if method == "DELETE" or path.endswith(("/stop", "/start"))]


async def test_stop_start_scale_and_what_is_idempotent(azure, arm, spec) -> None:
    await azure.create("cloud1", spec)
    assert (await azure.stop("cloud1")).state is RunState.STOPPED
    assert (await azure.stop("cloud1")).instances == ()
    assert (await azure.create("cloud1", spec)).state is RunState.STOPPED  # stopped stays stopped
    assert (await azure.start("cloud1")).state is RunState.RUNNING
    assert len((await azure.scale("cloud1", 4)).instances) == 4
    before = len(arm.bodies)
    await azure.scale("cloud1", 4)
    assert len(arm.bodies) == before


async def test_renewal_puts_the_new_certificate_beside_the_old_one_then_drops_that(azure, arm, authority, spec) -> None:
    arm.dns_proven = True
    first = await azure.create("cloud1", spec)
    renewed = await azure.create("cloud1", make_spec(authority, days=90))
    assert renewed.certificate_expires > first.certificate_expires
    assert len([name for name in arm.things if "/certificates/" in name]) == 1


async def test_deletion_leaves_nothing_also_of_a_half_deleted_service(azure, arm, spec) -> None:
    await azure.create("cloud1", spec)
    del arm.things[next(name for name in arm.things if name.endswith("/containerapps/cloud1"))]
    assert (await azure.delete("cloud1")).left == ()
    assert arm.things == {}
    assert (await azure.delete("cloud1")).left == ()
    with pytest.raises(NotFoundError):
        await azure.status("cloud1")


async def test_what_others_have_in_the_group_is_left_alone(azure, arm, spec) -> None:
    await azure.create("cloud1", spec)
    group = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/entrepot-cloud1"
    theirs = f"{group}/providers/microsoft.storage/storageaccounts/theirs"
    arm.things[theirs] = {"id": theirs, "name": "theirs", "tags": {}, "properties": {}}
    assert (await azure.delete("cloud1")).left == ("the resource group entrepot-cloud1",)
    assert set(arm.things) == {group, theirs}


@pytest.mark.parametrize("part", ["resourcegroups/entrepot-cloud1", "managedenvironments/cloud1-env"])
async def test_names_that_others_have_are_refused_and_not_touched(azure, arm, spec, part) -> None:
    await azure.create("cloud1", spec)
    key = next(name for name in arm.things if name.endswith(part))
    arm.things[key]["tags"] = {"owner": "somebody"}
    with pytest.raises(ConflictError):
        await azure.create("cloud1", spec)


async def test_a_taken_storage_name_is_found_before_anything_is_made(azure, arm, spec) -> None:
    arm.taken_names.add("entrepot0123456789abcdef")
    with pytest.raises(ConflictError, match="not free"):
        await azure.plan("cloud1", POINT, 2)
    with pytest.raises(ConflictError, match="not free"):
        await azure.create("cloud1", spec)
    assert_nothing_was_asked_for(arm)


async def test_where_storage_was_never_used_its_names_are_asked_for_again_before_anything_is_made(
    azure, arm, spec
) -> None:
    arm.registered.clear()
    arm.taken_names.add("entrepot0123456789abcdef")
    await azure.plan("cloud1", POINT, 2)
    with pytest.raises(ConflictError, match="not free"):
        await azure.create("cloud1", spec)
    assert arm.things == {}
    arm.taken_names.clear()
    assert (await azure.create("cloud1", spec)).state is RunState.RUNNING


@pytest.mark.parametrize(
    "part", ["storageaccounts/entrepot0123456789abcdef", "managedenvironments/cloud1-env", "containerapps/cloud1"]
)
async def test_parts_of_others_in_a_shared_group_are_found_before_anything_is_made(arm, management, spec, part) -> None:
    options = msgspec.structs.replace(OPTIONS, authority=arm.url, resource_group="shared")
    group = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/shared"
    kind = "microsoft.storage" if part.startswith("storage") else "microsoft.app"
    theirs = f"{group}/providers/{kind}/{part}"
    for path in (group, theirs):
        name = path.rsplit("/", 1)[1]
        arm.things[path] = {"id": path, "name": name, "tags": {"owner": "somebody"}, "properties": {}}
    async with AzureProvider(access(arm, management, options=options)) as provider:
        with pytest.raises(ConflictError, match="of somebody else"):
            await provider.create("cloud1", spec)
        with pytest.raises(ConflictError, match="of somebody else"):
            await provider.plan("cloud1", POINT, 2)
    assert set(arm.things) == {group, theirs}
    assert_nothing_was_asked_for(arm)


async def test_a_plan_of_a_creation_finds_names_that_others_have(azure, arm, spec) -> None:
    await azure.plan("cloud1", "", 2)
    await azure.create("cloud1", spec)
    with pytest.raises(ConflictError, match=f"of {POINT}"):
        await azure.plan("cloud1", "", 2)
    await azure.plan("cloud1", POINT, 2)


def assert_nothing_was_asked_for(arm: ArmDouble) -> None:
    """Only questions went to Azure: no resource provider was registered either."""
    orders = [path for method, path in arm.log if method != "GET" and "/oauth2/" not in path]
    assert {path.rsplit("/", 1)[1] for path in orders} <= {"checkNameAvailability"}, orders


@pytest.mark.parametrize("name", ["cloud--1", "1cloud", "c" * 33, "c", "cloud-"])
def test_names_that_azure_does_not_take_are_refused(name) -> None:
    with pytest.raises(BadInputError):
        names_of(name, POINT, "")


@pytest.mark.long
async def test_a_creation_that_dies_at_any_request_is_finished_by_the_next(arm, management, authority) -> None:
    spec = make_spec(authority)
    arm.dns_proven = True
    step, finished = 0, False
    while not finished:
        arm.things.clear()
        arm.registered = {"Microsoft.Storage", "Microsoft.Insights"}
        arm.unknown_principals = 1
        quick = access(arm, management)
        async with AzureProvider(quick) as provider:
            for client in (provider._account.resources, provider._account.storage, provider._account.apps):
                client._config.retry_policy.total_retries = 0
            arm.die_after = step
            try:
                await provider.create("cloud1", spec)
                finished = True
            except EntrepotError as error:
                assert isinstance(error, UnavailableError | UnauthenticatedError), error
        arm.die_after = -1
        async with AzureProvider(quick) as provider:
            assert (await provider.create("cloud1", spec)).notes == ()
            assert (await provider.delete("cloud1")).left == ()
        assert arm.things == {}
        step += 7 if step > 6 else 3
    assert step > 20


async def test_a_cancelled_creation_stops_between_steps_and_is_removed(azure, arm, spec) -> None:
    def stop(text: str) -> None:
        if "environment" in text:
            raise CancelledError("The work was stopped.")

    with pytest.raises(CancelledError):
        await azure.create("cloud1", spec, stop)
    assert arm.things
    assert (await azure.delete("cloud1")).left == ()
    assert arm.things == {}


@pytest.mark.parametrize("verb", ["start", "stop", "scale", "delete"])
async def test_a_cancelled_order_ends_while_azure_is_at_work_and_can_be_repeated(azure, arm, spec, verb) -> None:
    arm.dns_proven = True
    await azure.create("cloud1", spec)
    if verb == "start":
        await azure.stop("cloud1")
    order = {
        "start": lambda *more: azure.start("cloud1", *more),
        "stop": lambda *more: azure.stop("cloud1", *more),
        "scale": lambda *more: azure.scale("cloud1", 3, *more),
        "delete": lambda *more: azure.delete("cloud1", *more),
    }[verb]

    def cancelled(text: str) -> None:
        if text.startswith("Waiting for Azure"):
            raise CancelledError("The work was stopped.")

    with pytest.raises(CancelledError):
        await order(cancelled)
    await order()
    if verb == "delete":
        assert arm.things == {}
    else:
        status = await azure.status("cloud1")
        assert (status.state is RunState.STOPPED, status.wanted) == (verb == "stop", 3 if verb == "scale" else 2)


async def test_whoever_waits_for_azure_is_woken_when_the_provider_is_closed(arm, management, spec) -> None:
    provider = AzureProvider(access(arm, management, polling=3600.0))
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(text: str) -> None:
        if text.startswith("Waiting for Azure"):
            loop.call_soon_threadsafe(waiting.set)

    creation = asyncio.create_task(provider.create("cloud1", spec, told))
    await asyncio.wait_for(waiting.wait(), 30)
    await provider.close()
    with pytest.raises(CancelledError):
        await asyncio.wait_for(creation, 30)


@pytest.mark.long
@pytest.mark.parametrize("verb", ["stop", "start", "scale", "delete"])
async def test_an_order_that_dies_at_any_request_is_finished_by_the_next(arm, management, authority, verb) -> None:
    spec = make_spec(authority)
    arm.dns_proven = True
    step, finished = 0, False
    quick = access(arm, management)
    async with AzureProvider(quick) as healthy:
        await healthy.create("cloud1", spec)
        made = copy.deepcopy(arm.things)
        while not finished:
            arm.forget()
            arm.things.update(copy.deepcopy(made))
            if verb == "start":
                await healthy.stop("cloud1")
            async with AzureProvider(quick) as provider:  # a process of its own, so to speak: it signs in, too
                for client in (provider._account.resources, provider._account.storage, provider._account.apps):
                    client._config.retry_policy.total_retries = 0
                arm.die_after = step
                try:
                    await _order(provider, verb)
                    finished = True
                except EntrepotError as error:
                    assert isinstance(error, UnavailableError | UnauthenticatedError), error
            arm.die_after = -1
            await _order(healthy, verb)
            if verb == "delete":
                assert arm.things == {}
            else:
                status = await healthy.status("cloud1")
                assert (status.state is RunState.STOPPED, status.wanted) == (
                    verb == "stop",
                    3 if verb == "scale" else 2,
                )
            step += 1
    assert step > 3


async def _order(provider: AzureProvider, verb: str) -> None:
    if verb == "scale":
        await provider.scale("cloud1", 3)
    elif verb == "delete":
        assert (await provider.delete("cloud1")).left == ()
    else:
        await (provider.stop("cloud1") if verb == "stop" else provider.start("cloud1"))


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Refusal(403, "AuthorizationFailed"), ForbiddenError),
        (Refusal(409, "StorageAccountAlreadyTaken"), ConflictError),
        (Refusal(400, "MaxNumberOfRegionalEnvironmentsInSubExceeded"), AzureQuotaError),
        (Refusal(400, "LocationNotAvailableForResourceType"), AzureRefusedError),
    ],
)
async def test_refusals_become_errors_with_a_next_step(azure, arm, spec, refusal, error) -> None:
    arm.refusals.append(("PUT .*managedEnvironments", refusal))
    with pytest.raises(error, match=refusal.code) as caught:
        await azure.create("cloud1", spec)
    assert caught.value.next_step
    await azure.create("cloud1", spec)


async def test_throttling_is_waited_out_as_azure_says(azure, arm, spec) -> None:
    throttled = Refusal(429, "TooManyRequests", headers={"Retry-After": "0"})
    arm.refusals += [("GET .*providers/Microsoft.App$", throttled)] * 2
    assert (await azure.create("cloud1", spec)).state is RunState.RUNNING
    arm.refusals += [("GET .*subscriptions/[^/]*$", throttled)] * 20
    with pytest.raises(LimitedError):
        await azure.check()
    arm.refusals.clear()


async def test_a_certificate_that_azure_does_not_know_is_told(arm, management) -> None:
    stranger = light_management("Stranger", 30, now=time.time())
    async with AzureProvider(access(arm, stranger)) as provider:
        with pytest.raises(UnauthenticatedError, match="AADSTS700027"):
            await provider.check()
    assert arm.problems
    arm.problems.clear()


def test_a_key_that_is_not_rsa_is_refused(arm) -> None:
    pair = new_management("Curve", 30, "ec", now=time.time())
    with pytest.raises(BadInputError, match="RSA only"):
        AzureProvider(access(arm, pair))


async def test_without_the_ca_of_a_proxy_that_opens_tls_nothing_is_trusted(arm, management) -> None:
    async with AzureProvider(access(arm, management, ca="")) as provider:
        with pytest.raises((TrustError, UnavailableError, UnauthenticatedError)):
            await provider.check()


async def test_services_of_the_subscription_are_listed_with_whose_they_are(azure, arm, spec) -> None:
    await azure.create("cloud1", spec)
    key = next(name for name in arm.things if name.endswith("/containerapps/cloud1"))
    arm.things[key.replace("cloud1", "other")] = {**arm.things[key], "tags": {"owner": "somebody"}}
    (found,) = await azure.services()
    assert (found.name, found.point, found.root, found.fqdn) == ("cloud1", POINT, ROOT, FQDN)


async def test_metrics_are_azure_monitors(azure, arm, spec) -> None:
    await azure.create("cloud1", spec)
    found = await azure.metrics("cloud1", 1_700_000_000, 1_700_086_400)
    assert (found.stored_bytes, found.stored_objects, found.egress_bytes) == (5000, 7, 123)
    assert found.store_egress_bytes == 401, "of the storage account: what reconciles links"
    told = await azure.status("cloud1")
    measured = datetime(2026, 11, 23, 1, tzinfo=UTC)
    assert (told.stored_bytes, told.stored_at) == (5000, measured.timestamp()), "as old as Azure says"
    arm.figures["UsedCapacity"] = []
    assert (await azure.status("cloud1")).stored_bytes is None, "what Azure does not tell is not nothing"


async def test_a_plan_lists_what_would_be_made_and_what_stays_after_a_stop(azure, arm) -> None:
    parts = await azure.plan("cloud1", "", 2)
    staying = {one.kind for one in parts if one.stays and one.meter}
    assert staying == {"Storage account (LRS), content", "Storage account (LRS), operations"}
    replicas = next(one for one in parts if one.meter == "instance_hour")
    assert (replicas.quantity, replicas.kind) == (2 * 730, "Container app, 0.5 vCPU and 1 GiB a replica")
    assert arm.things == {}


async def test_the_holder_finds_the_container_when_it_is_there(azure, spec) -> None:
    holder = azure.holder("cloud1")
    with pytest.raises(NotFoundError):
        await holder.put_document("control", b"x")
    await azure.create("cloud1", spec)
    await asyncio.gather(*(holder.put_document(f"tx/{n}", b"x") for n in range(4)))
    assert (await holder.list_documents("tx/")).keys == tuple(f"tx/{n}" for n in range(4))


async def test_of_what_is_validated_every_byte_leaves_the_cloud_and_is_counted(azure, spec) -> None:
    await azure.create("cloud1", spec)
    fetched: list[int] = []
    holder = azure.holder("cloud1", fetched=fetched.append)
    data = bytes(700_000)
    one = object_id_of(data)
    await holder.put(one, len(data), lambda: [data])
    assert await holder.missing([one]) == []
    assert sum(fetched) == 0
    assert await holder.verify([one, ObjectId(bytes(32))]) == [Verdict.GOOD, Verdict.MISSING]
    assert sum(fetched) == len(data)
    assert await holder.get(one) == data
    assert sum(fetched) == 2 * len(data)


async def test_the_token_for_blob_storage_is_the_sites_own(azure) -> None:
    token = await asyncio.to_thread(azure._account.storage_token)
    assert token["expires_at"].timestamp() > time.time()
    assert token["token"].startswith("e30.")
