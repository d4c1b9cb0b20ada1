"""Renewal, updates, orphans, plans, upload limits, and what health checks find."""

import contextlib
from decimal import Decimal

import msgspec
import pytest

from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    EntrepotError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    StorageError,
    TrustError,
    UnavailableError,
)
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.core.times import DAY
from entrepot.database import alerts, clouddetails, prices
from entrepot.database.tasks import Task
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.cloudapi import (
    MACHINE,
    AzureOptions,
    OrphanRequest,
    PlannedResource,
    RenewManagementCertificate,
    RenewServiceCertificate,
    UploadSchedule,
    UploadWindow,
)
from entrepot.protocol.cloudhost import RunState
from entrepot.protocol.cloudpointapi import CloudPointState, Thresholds
from entrepot.protocol.siteapi import TaskState
from entrepot.rules.alerts import AlertState
from entrepot.rules.prices import PriceSheet, Tier
from entrepot.site.cloud.accounts import account_of
from entrepot.site.cloud.dns import Resolved
from entrepot.site.cloud.planning import rates_of, still_charged
from entrepot.site.cloud.providers import service_secret
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cloud.uploading import PACED, Pacer, rate_at
from entrepot.trust.certificates import UnsuitableCertificateError, new_management
from entrepot.trust.vault import ServerVault

from ..lightpfx import light_management, light_pfx, light_service_pfx
from .conftest import FQDN, NOW, PASSWORD, Crash, SiteUnderTest


def _renewal(site: SiteUnderTest, fqdn: str = FQDN, days: int = 300) -> RenewServiceCertificate:
    pfx = light_service_pfx(site.keys.authority, fqdn, PASSWORD, days=days, now=site.clock())
    return RenewServiceCertificate(service_pfx=pfx, service_password=PASSWORD)


async def _state(site: SiteUnderTest, point: str, type_: str) -> AlertState:
    return (await site.database.read(alerts.find, type_=type_, subject=point)).alert.state


# --- renewal


async def test_a_renewed_service_certificate_reaches_the_cloud_and_the_point_goes_on(site) -> None:
    before = await site.make_point()
    task = await site.services.renew("cloud1", _renewal(site))
    assert (await site.services.get("cloud1")).state is CloudPointState.UPGRADING
    await site.settle()
    await site.completed(task)
    point = await site.services.get("cloud1")
    assert point.state is CloudPointState.READY
    assert point.certificate_expires > before.certificate_expires
    assert site.cloud.services["cloud1"].spec.certificate == point.certificate
    assert "PRIVATE KEY" in site.cloud.services["cloud1"].spec.private_key


async def test_a_certificate_of_another_name_is_no_renewal(site) -> None:
    before = await site.make_point()
    with pytest.raises(UnsuitableCertificateError):
        await site.services.renew("cloud1", _renewal(site, "cloud2.contoso.com"))
    assert await site.services.get("cloud1") == before


async def test_renewing_a_stopped_point_leaves_it_stopped(site) -> None:
    await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    task = await site.services.renew("cloud1", _renewal(site))
    await site.settle()
    await site.completed(task)
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


async def test_after_a_restore_elsewhere_the_same_service_certificate_is_brought_in_again(site, tmp_path) -> None:
    await site.make_point()
    renewal = _renewal(site)
    await site.completed(await _renewed(site, renewal))
    point = await site.services.get("cloud1")
    key = site.services.providers.open_service_key(point).reveal()
    elsewhere = ServerVault.create(tmp_path / "new-vault.key").seal(service_secret(point.point), Secret("a key"))
    sealed = msgspec.structs.replace(point, sealed_key=elsewhere)
    await site.database.write(clouddetails.keep_service_certificate, sealed)
    with pytest.raises(TrustError, match="does not open on this server"):
        site.services.providers.open_service_key(await site.services.get("cloud1"))
    await site.completed(await _renewed(site, renewal))
    restored = await site.services.get("cloud1")
    assert (restored.state, restored.certificate) == (CloudPointState.READY, point.certificate)
    assert site.services.providers.open_service_key(restored).reveal() == key
    assert site.cloud.services["cloud1"].spec.private_key.encode() == key


async def _renewed(site: SiteUnderTest, request: RenewServiceCertificate) -> Task:
    task = await site.services.renew("cloud1", request)
    await site.settle()
    return task


class _Rented:
    """A cloud host: its machine was there before, and stays."""

    async def plan(self, service: str, _point: str, _instances: int) -> tuple[PlannedResource, ...]:
        machine = PlannedResource(kind="the host's machine", name="vm1", meter=MACHINE)
        return machine, PlannedResource(kind="stored content", name=service, meter="storage_gb_month")


async def test_what_a_deletion_would_not_end_is_told_apart_after_a_stop(site) -> None:
    told = await still_charged(_Rented(), await site.make_point())  # type: ignore[arg-type]  # all that is asked of it
    assert "go on costing money: stored content (cloud1). Delete the cloud point to end that." in told
    assert told.endswith("So does the host's machine (vm1), with or without cloud points.")


async def test_a_management_certificate_is_tried_at_the_cloud_before_it_is_kept(site) -> None:
    await site.make_point()
    (before,) = site.services.certificates.management()
    renewed = new_management("Test management", 300, "ec", now=NOW)
    request = RenewManagementCertificate(pfx=renewed.pfx(Secret(PASSWORD)), password=PASSWORD)
    site.cloud.failures["check"] = [ForbiddenError("Unknown certificate.")]
    with pytest.raises(ForbiddenError, match="does not accept"):
        await site.services.renewal.management("management", request)
    assert site.services.certificates.management() == [before]
    await site.services.renewal.management("management", request)
    (after,) = site.services.certificates.management()
    assert (after.id, after.name, after.usable) == (before.id, before.name, True)
    assert after.thumbprint != before.thumbprint
    await site.services.monitor.check((await site.services.get("cloud1")).point)
    assert site.connections[-1].certificate == renewed.cer


async def test_a_management_certificate_of_another_name_is_no_renewal(site) -> None:
    site.import_certificate()
    other = new_management("Somebody else", 300, "ec", now=NOW)
    with pytest.raises(UnsuitableCertificateError, match="keeps the name"):
        await site.services.renewal.management(
            "management", RenewManagementCertificate(pfx=other.pfx(Secret(PASSWORD)), password=PASSWORD)
        )


# --- update, stop, plan


async def test_an_update_of_a_service_that_is_gone_says_so(site) -> None:
    await site.make_point()
    site.cloud.services.clear()
    task = await site.services.act(CloudAction.UPDATE, "cloud1")
    await site.settle()
    assert (await site.task(task)).error_code == "not_found"
    assert site.cloud.services == {}


async def test_what_the_cloud_notes_makes_a_point_degraded_until_it_is_gone(site) -> None:
    site.cloud.notes = ["Create the record asuid.cloud1 TXT PROOF."]
    point = await site.make_point()
    assert point.state is CloudPointState.DEGRADED
    assert "PROOF" in point.message
    site.cloud.notes = []
    await site.services.act(CloudAction.UPDATE, "cloud1")
    await site.settle()
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


async def test_a_stop_tells_what_goes_on_costing(site) -> None:
    await site.make_point()
    task = await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    message = (await site.completed(task)).message
    assert "disk (cloud1/disk)" in message
    assert "instance (" not in message


OURS = PriceSheet(
    name="ours",
    currency="EUR",
    storage_gb_month=Decimal("0.02"),
    egress=(Tier(per_gb=Decimal("0.08")),),
    instance_hour=Decimal("0.1"),
)


async def test_a_plan_has_prices_and_creates_nothing(site) -> None:
    site.import_certificate()

    async def parts(*_: object) -> tuple[PlannedResource, ...]:
        hours = PlannedResource(kind="instance", name="i", meter="instance_hour", quantity=2190, stays=False)
        return hours, PlannedResource(kind="disk", name="d", meter="x/disk")

    site.cloud.plan = parts
    unpriced = await site.services.plan(site.request(instances=3))
    assert (unpriced.monthly, unpriced.currency, unpriced.unpriced) == (None, "", ("instance_hour", "x/disk"))
    await site.database.write(prices.add_version, OURS, by="anna", now=NOW)
    await site.database.write(prices.use, "", OURS.name)
    plan = await site.services.plan(site.request(instances=3))
    assert (plan.monthly, plan.currency, plan.unpriced) == (219.0, "EUR", ("x/disk",))
    assert site.cloud.services == {}
    with pytest.raises(NotFoundError):
        await site.services.get("cloud1")


@pytest.mark.parametrize(
    ("what", "changes", "told"),
    [
        ("a quota that is too small", {"instances": 17}, "allows 16 instances; 17"),
        ("a feature that cloud points do not have", {"features": ("pxe",)}, "(?i)pxe"),
        (
            "thresholds that contradict each other",
            {"thresholds": Thresholds(transfer_warning_percent=95)},
            "below the warning",
        ),
    ],
)
async def test_a_plan_refuses_what_the_creation_would(site, what, changes, told) -> None:
    site.import_certificate()
    site.cloud.instance_quota = 16
    with pytest.raises(EntrepotError, match=told):
        await site.services.plan(site.request(**changes))
    assert await site.services.plan(site.request(instances=16)), what


async def test_a_plan_refuses_a_subscription_that_is_disabled(site) -> None:
    site.import_certificate()
    site.cloud.state = "disabled"
    with pytest.raises(RefusedError, match="sub-1 is disabled"):
        await site.services.plan(site.request())


def test_transfers_are_quoted_at_the_first_price_that_is_not_nothing() -> None:
    free = Tier(per_gb=Decimal(0), up_to_gb=100)
    assert rates_of(OURS)["egress_gb"] == 0.08
    assert rates_of(msgspec.structs.replace(OURS, egress=(free, *OURS.egress)))["egress_gb"] == 0.08
    assert rates_of(msgspec.structs.replace(OURS, egress=(Tier(per_gb=Decimal(0)),)))["egress_gb"] == 0.0


# --- kinds of cloud


AZURE = AzureOptions(
    tenant="contoso.onmicrosoft.com",
    application="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    image="registry/entrepot@sha256:00",
    registry_user="puller",
    registry_password="registry-secret",  # of a test
)


async def test_azure_wants_an_rsa_certificate_a_region_and_no_pin(site) -> None:
    site.import_certificate()  # its key is on a curve
    azure = site.request(provider="azure", azure=AZURE, host_url="", host_pin="", region="westeurope")
    for order in (site.services.create, site.services.plan):
        with pytest.raises(UnsuitableCertificateError, match=r"The management certificate .* RSA only"):
            await order(azure)
    assert site.connections == []
    for changes in ({"region": ""}, {"host_pin": "ab" * 32}, {"azure": None}, {"port": 8443}, {"provider": "other"}):
        with pytest.raises(BadInputError):
            await site.services.create(msgspec.structs.replace(azure, **changes))


async def test_the_registrys_password_is_kept_sealed_and_reaches_the_provider(site) -> None:
    pfx = light_pfx(light_management("Contoso", 300, now=NOW), PASSWORD)
    site.services.certificates.import_management("rsa", pfx, Secret(PASSWORD))
    changes = {"azure": AZURE, "host_url": "", "host_pin": "", "region": "westeurope", "management_certificate": "rsa"}
    await site.services.create(site.request(provider="azure", **changes))
    await site.settle()
    connection = site.connections[-1]
    assert connection.azure == AZURE
    assert (connection.url, connection.mark) == ("https://management.azure.com", site.keys.hierarchy.root_public)
    site.database.close()
    raw = b"".join(path.read_bytes() for path in site.folder.glob("site.db*"))
    assert b"registry-secret" not in raw


# --- orphans


async def _orphaned(site: SiteUnderTest) -> OrphanRequest:
    """A service whose point the database forgot."""
    await site.make_point()
    point = await site.services.get("cloud1")
    await site.services.act(CloudAction.DELETE, "cloud1")
    service = site.cloud.services["cloud1"]
    await site.settle()
    site.cloud.services["cloud1"] = service
    return OrphanRequest(service="cloud1", point=point.point, account=account_of(site.request()))


async def test_known_services_and_those_of_others_are_no_orphans(site) -> None:
    await site.make_point()
    other = msgspec.structs.replace(site.cloud.services["cloud1"].spec, root=b"x" * 32, point="pt-other")
    await site.cloud.create("theirs", other)
    assert await site.services.orphans.search(None) == []


async def test_without_any_cloud_point_somebody_must_say_where_to_look(site) -> None:
    with pytest.raises(ConflictError, match="none to look for orphans in") as caught:
        await site.services.orphans.search(None)
    assert "--subscription" in caught.value.next_step


async def test_an_orphan_is_listed_and_removed(site) -> None:
    request = await _orphaned(site)
    (orphan,) = await site.services.orphans.search(request.account)
    assert (orphan.service, orphan.point, orphan.fqdn) == ("cloud1", request.point, FQDN)
    task = await site.services.remove_orphan(request)
    await site.settle()
    await site.completed(task)
    assert site.cloud.services == {}
    with pytest.raises(NotFoundError):
        await site.services.remove_orphan(request)


async def test_an_orphan_is_adopted_with_what_it_stores(site) -> None:
    request = await _orphaned(site)
    task = await site.services.adopt(site.request())
    await site.settle()
    await site.completed(task)
    point = await site.services.get("cloud1")
    assert (point.point, point.state) == (request.point, CloudPointState.READY)
    assert await site.services.orphans.search(None) == []


async def test_what_was_adopted_meanwhile_is_not_removed(site) -> None:
    request = await _orphaned(site)
    task = await site.services.remove_orphan(request)
    await site.database.write(_pause, task.id)
    await site.services.adopt(site.request())
    await site.settle()
    ended = await site.task(task)
    assert ended.state is TaskState.FAILED
    assert "no orphan any more" in ended.error
    assert "cloud1" in site.cloud.services


async def test_what_is_half_gone_is_listed_with_its_parts_and_removed_but_not_adopted(site) -> None:
    request = await _orphaned(site)
    site.cloud.services["cloud1"].parts = ("storage account entrepot01",)
    (orphan,) = await site.services.orphans.search(request.account)
    assert orphan.parts == ("storage account entrepot01",)
    with pytest.raises(ConflictError, match="storage account entrepot01") as refused:
        await site.services.adopt(site.request())
    assert "orphans --remove" in refused.value.next_step
    await site.completed(await _removed(site, request))
    assert site.cloud.services == {}


async def _removed(site: SiteUnderTest, request: OrphanRequest) -> Task:
    task = await site.services.remove_orphan(request)
    await site.settle()
    return task


async def test_parts_are_not_removed_while_a_cloud_point_of_that_name_is_being_created(site) -> None:
    """The new service is not seen at the cloud yet; removal goes by name."""
    request = await _orphaned(site)
    task = await site.services.remove_orphan(request)
    await site.database.write(_pause, task.id)
    del site.cloud.services["cloud1"]
    await site.services.create(site.request())
    await site.settle()
    ended = await site.task(task)
    assert ended.state is TaskState.FAILED
    assert "no orphan any more" in ended.error
    assert (await site.services.get("cloud1")).state is CloudPointState.READY
    assert "cloud1" in site.cloud.services


@pytest.mark.parametrize("step", range(10))
async def test_a_removal_killed_at_any_step_is_finished(site, step) -> None:
    request = await _orphaned(site)
    task = await site.services.remove_orphan(request)
    site.fuse.arm(step)
    with contextlib.suppress(Crash):
        await site.engine.run_once()
    site.fuse.arm(-1)
    site.boot()
    await site.settle()
    await site.completed(task)
    assert site.cloud.services == {}


def _pause(connection, task_id: str) -> None:
    from entrepot.database.tables.tasks import task

    connection.execute(task.update().where(task.c.id == task_id).values(run_after=NOW + 1000))


async def test_what_is_no_orphan_is_neither_removed_nor_adopted(site) -> None:
    point = await site.make_point()
    request = OrphanRequest(service="cloud1", point=point.point, account=account_of(site.request()))
    with pytest.raises(NotFoundError):
        await site.services.remove_orphan(request)
    with pytest.raises((NotFoundError, ConflictError)):
        await site.services.adopt(site.request())


# --- uploads


@pytest.mark.parametrize(
    ("weekday", "minute", "rate"),
    [(1, 0, 500), (1, 9 * 60, 0), (6, 9 * 60, 500), (5, 23 * 60, None), (6, 60, None), (7, 23 * 60, 500)],
)
def test_the_first_window_that_holds_decides(weekday, minute, rate) -> None:
    schedule = UploadSchedule(
        bytes_per_second=500,
        windows=(
            UploadWindow(begin=8 * 60, end=18 * 60, days=(1, 2, 3, 4, 5)),
            UploadWindow(begin=22 * 60, end=6 * 60, days=(5,), bytes_per_second=10**9),
        ),
    )
    assert rate_at(schedule, weekday, minute) == (10**9 if rate is None else rate)


def test_without_a_limit_nothing_waits() -> None:
    assert rate_at(UploadSchedule(), 1, 0) is None


def test_all_transfers_to_a_point_share_its_rate() -> None:
    slept: list[float] = []
    schedule = UploadSchedule(bytes_per_second=1000)
    pacer = Pacer(schedule, moment=lambda: (1, 0), monotonic=lambda: sum(slept), sleep=slept.append)
    for _ in range(3):
        pacer.take(500)
    assert sum(slept) == pytest.approx(1.5)
    pacer.schedule = UploadSchedule()
    pacer.take(10**9)
    assert sum(slept) == pytest.approx(1.5), "no limit any more"


def test_a_transfer_that_has_begun_is_finished_slowly_in_a_closed_window() -> None:
    slept: list[float] = []
    closed = UploadSchedule(windows=(UploadWindow(begin=0, end=0),))
    pacer = Pacer(closed, moment=lambda: (1, 0), monotonic=lambda: sum(slept), sleep=slept.append)
    pacer.take(10 * PACED)
    assert sum(slept) == pytest.approx(10)


async def test_a_closed_schedule_lets_documents_through_and_objects_wait(site) -> None:
    point = await site.make_point()
    closed = UploadSchedule(windows=(UploadWindow(begin=0, end=0),))
    await site.database.write(clouddetails.keep_upload, point.point, closed)
    holder = await site.services.providers.holder(point.point)
    await holder.put_document("note", b"x")
    data = bytes(3 * PACED)
    with pytest.raises(UnavailableError, match="closed"):
        await holder.put(object_id_of(data), len(data), lambda: [data])
    await site.database.write(clouddetails.keep_upload, point.point, UploadSchedule(bytes_per_second=10**9))
    holder = await site.services.providers.holder(point.point)
    await holder.put(object_id_of(data), len(data), lambda: [data])
    assert await holder.missing([object_id_of(data), ObjectId(bytes(32))]) == [ObjectId(bytes(32))]


# --- health

QUIET = "never_triggered"


async def test_certificate_alerts_follow_each_other_as_the_day_comes_near(site) -> None:
    point = await site.make_point()  # its service certificate has 200 days
    stages = [(61, ""), (60, "certificate_60_days"), (29, ""), (7, "certificate_7_days"), (1, "certificate_1_day")]
    for days, expected in [*stages, (-1, "certificate_expired")]:
        site.clock.now = point.certificate_expires - days * DAY
        await site.services.monitor.check(point.point)
        kinds = ("certificate_60_days", "certificate_7_days", "certificate_1_day", "certificate_expired")
        active = [kind for kind in kinds if await _state(site, point.point, kind) is AlertState.ACTIVE]
        assert active == ([expected] if expected else [])
    await site.services.renew("cloud1", _renewal(site))
    await site.settle()
    assert await _state(site, point.point, "certificate_expired") is AlertState.CANCELED


async def test_a_store_that_refuses_is_an_alert_and_one_that_is_silent_is_not(site) -> None:
    point = await site.make_point()
    site.cloud.failures["put_document"] = [UnavailableError("Silent.")]
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "store_problem") is AlertState.NEVER_TRIGGERED
    site.cloud.failures["put_document"] = [StorageError("Disk full.")]
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "store_problem") is AlertState.ACTIVE
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "store_problem") is AlertState.CANCELED
    assert (await site.cloud.services["cloud1"].holder.list_documents("probe")).keys == ()


@pytest.mark.parametrize(
    ("offset", "state"), [(0, "never_triggered"), (59, "never_triggered"), (90, "active"), (-90, "active")]
)
async def test_a_clock_that_differs_is_an_alert(site, offset, state) -> None:
    point = await site.make_point()
    site.cloud.time = int(site.clock() + offset)
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "clock_skew") == state


async def test_a_name_that_leads_elsewhere_is_an_alert_a_missing_one_is_shown(site) -> None:
    point = await site.make_point()
    answers = {
        "leads": Resolved(canonical=FQDN, addresses=("198.51.100.7",)),
        "missing": Resolved(canonical="", addresses=()),
    }
    for answer, state in (("missing", AlertState.NEVER_TRIGGERED), ("leads", AlertState.ACTIVE)):

        async def resolver(_: str, found: Resolved = answers[answer]) -> Resolved:
            return found

        site.services.monitor._resolver = resolver
        await site.services.monitor.check(point.point)
        assert await _state(site, point.point, "dns_problem") is state
        kept = await site.database.read(clouddetails.detail, point.point)
        assert any(one.name == "DNS" and one.message for one in kept.health)


async def test_health_names_every_instance_and_what_is_wrong(site) -> None:
    point = await site.make_point()
    site.cloud.services["cloud1"].broken = 1
    await site.services.monitor.check(point.point)
    kept = await site.database.read(clouddetails.detail, point.point)
    lines = {one.name: one.state for one in kept.health}
    assert lines["subscription"] == "good"
    assert (lines["instance i0"], lines["instance i1"], lines["deployment"]) == ("good", "bad", "bad")
    assert lines["store"] == "good"
    assert kept.looked == int(site.clock())
