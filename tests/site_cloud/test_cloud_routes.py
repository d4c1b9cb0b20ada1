"""The admin API of cloud points, spoken to over HTTP."""

import base64
from collections.abc import AsyncIterator

import msgspec
import pytest
from litestar import Litestar, Request, Response
from litestar.testing import AsyncTestClient

from entrepot.core.errors import EntrepotError, UnavailableError
from entrepot.core.secret import Secret
from entrepot.database import budgets
from entrepot.database.budgets import Budget
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.alertapi import AlertInfo
from entrepot.protocol.cloudpointapi import (
    CertificateInfo,
    CloudPointInfo,
    CloudPointState,
    CollectSummary,
    DnsCheck,
    UsageReport,
)
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.cloud.careroutes import care_router
from entrepot.site.cloud.dns import Resolved
from entrepot.site.cloud.routes import cloud_router
from entrepot.trust.certificates import new_management

from .conftest import FQDN, LOW, NOW, PASSWORD, Gateway, SiteUnderTest, record


def _problem(_: Request, error: EntrepotError) -> Response:
    return Response({"code": error.code, "detail": str(error)}, status_code=error.family.status)


async def _resolver(name: str) -> Resolved:
    return Resolved(canonical=name, addresses=("127.0.0.1",))


@pytest.fixture
async def api(site: SiteUnderTest) -> AsyncIterator[AsyncTestClient]:
    site.services.resolver = _resolver
    app = Litestar([cloud_router(site.services)], exception_handlers={EntrepotError: _problem})
    async with AsyncTestClient(app) as client:
        yield client


async def _ask(api: AsyncTestClient, method: str, path: str, kind: object, *, status: int = 200, **body: object):
    answer = await api.request(method, path, content=msgspec.json.encode(body) if body else None)
    assert answer.status_code == status, answer.text
    return msgspec.json.decode(answer.content, type=kind) if kind is not None else answer.json()


async def _made(site: SiteUnderTest, api: AsyncTestClient) -> TaskInfo:
    pair = new_management("Test", 365, "ec", now=NOW)
    await _ask(
        api,
        "POST",
        "/management-certificates",
        CertificateInfo,
        status=201,
        name="management",
        pfx=base64.b64encode(pair.pfx(Secret(PASSWORD))).decode(),
        password=PASSWORD,
    )
    task = await _ask(
        api, "POST", "/cloud-points", TaskInfo, status=202, **msgspec.to_builtins(site.request(thresholds=LOW))
    )
    await site.settle()
    return task


async def test_a_cloud_point_from_certificate_to_deletion(site, api) -> None:
    task = await _made(site, api)
    assert task.kind == "cloud-create"
    points = await _ask(api, "GET", "/cloud-points", list[CloudPointInfo])
    point = await _ask(api, "GET", "/cloud-points/cloud1", CloudPointInfo)
    assert points == [point]
    assert (point.state, point.fqdn, point.id) == (CloudPointState.READY, FQDN, task.subject)
    assert (point.dns.type, point.dns.value) == ("A", "127.0.0.1")
    assert (point.control_counter, point.control_pushed >= NOW) == (1, True)
    check = await _ask(api, "GET", "/cloud-points/cloud1/dns", DnsCheck)
    assert check.good

    key, data = Gateway(point.id).segment([record(950)])
    await site.cloud.services["cloud1"].holder.put_document(key, data)
    summary = await _ask(api, "POST", "/cloud-points/cloud1/collect", CollectSummary)
    assert (summary.records, summary.bytes) == (1, 950)
    used = await _ask(api, "GET", "/cloud-points/cloud1/usage?by=device", UsageReport)
    assert [(one.subject, one.sent) for one in used.buckets] == [("dev-1", 950)]
    assert (used.collected, used.age_seconds, used.more) == (summary.collected, 0, False)
    site.clock.advance(90)
    assert (await _ask(api, "GET", "/cloud-points/cloud1/usage", UsageReport)).age_seconds == 90
    opened = await _ask(api, "GET", "/alerts?open_only=true", list[AlertInfo])
    assert {one.type for one in opened} == {"transfer_warning", "transfer_critical"}
    assert all(one.remedies and one.title and one.subject_name == "cloud1" for one in opened)

    for query in ("severity=critical", "of_type=transfer_critical", "subject=cloud1&severity=critical"):
        found = await _ask(api, "GET", f"/alerts?open_only=true&{query}", list[AlertInfo])
        assert [one.type for one in found] == ["transfer_critical"], query
    assert await _ask(api, "GET", "/alerts?open_only=true&subject=cloud2", list[AlertInfo]) == []
    await _ask(api, "GET", "/alerts?of_type=transfer", None, status=400)

    await _ask(api, "POST", f"/alerts/{opened[0].id}/postpone", AlertInfo, hours=5, comment="known")
    canceled = await _ask(api, "POST", f"/alerts/{opened[1].id}/cancel", AlertInfo, comment="paid for")
    assert (canceled.state, canceled.comment) == ("canceled", "paid for")
    history = await _ask(api, "GET", f"/alerts/{opened[1].id}/history", None)
    assert [one["event"] for one in history] == ["opened", "canceled"]

    for path, body, state in (
        ("stop", {}, CloudPointState.STOPPED),
        ("start", {}, CloudPointState.READY),
        ("scale", {"instances": 3}, CloudPointState.READY),
    ):
        await _ask(api, "POST", f"/cloud-points/cloud1/{path}", TaskInfo, status=202, **body)
        await site.settle()
        assert (await _ask(api, "GET", "/cloud-points/cloud1", CloudPointInfo)).state is state
    patched = await _ask(api, "PATCH", "/cloud-points/cloud1", CloudPointInfo, transfer_quota=5000)
    assert patched.thresholds.transfer_quota == 5000

    await _ask(api, "DELETE", "/cloud-points/cloud1", TaskInfo, status=202)
    await site.settle()
    gone = await _ask(api, "GET", "/cloud-points/cloud1", None, status=404)
    assert gone["code"] == "not_found"
    answer = await api.delete("/management-certificates/management")
    assert answer.status_code == 204


async def test_a_point_is_forgotten_over_the_api_only_after_its_deletion_failed(site, api) -> None:
    await _made(site, api)
    await site.settle()
    refused = await _ask(api, "DELETE", "/cloud-points/cloud1?forget=true", None, status=409)
    assert "only one whose deletion failed can be forgotten" in refused["detail"]
    site.cloud.failures = {name: [UnavailableError("The cloud does not answer.")] * 99 for name in ("status", "delete")}
    await _ask(api, "DELETE", "/cloud-points/cloud1", TaskInfo, status=202)
    await site.settle(tries=20)
    task = await _ask(api, "DELETE", "/cloud-points/cloud1?forget=true", TaskInfo, status=202)
    assert task.kind == "cloud-forget"
    await site.settle()
    await _ask(api, "GET", "/cloud-points/cloud1", None, status=404)


async def test_errors_reach_the_caller_with_their_code(site, api) -> None:
    await _made(site, api)
    wrong = await _ask(
        api,
        "POST",
        "/management-certificates",
        None,
        status=400,
        name="other",
        pfx=base64.b64encode(b"rubbish").decode(),
        password="x",
    )
    assert wrong["code"] == "not_pkcs12"
    used = await _ask(api, "DELETE", "/management-certificates/management", None, status=409)
    assert used["code"] == "conflict"
    for path in ("/cloud-points/unknown", "/cloud-points/unknown/usage", "/alerts/alert-unknown"):
        await _ask(api, "GET", path, None, status=404)
    twice = await _ask(api, "POST", "/cloud-points", None, status=409, **msgspec.to_builtins(site.request()))
    assert "cloud1" in twice["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"instances": 0},
        {"instances": "three"},
        {"instances": 65},
        {"instances": 1, "misspelt": True},
    ],
)
async def test_malformed_requests_are_refused(site, api, body) -> None:
    await _made(site, api)
    answer = await api.post("/cloud-points/cloud1/scale", content=msgspec.json.encode(body))
    assert answer.status_code == 400
    assert site.cloud.services["cloud1"].wanted == 2


async def test_too_many_instances_for_a_budget_are_added_over_the_api_only_by_force(site, api) -> None:
    await site.make_point()
    with site.database.transaction() as connection:
        budgets.put_budget(connection, Budget(subject=(await site.services.get("cloud1")).point, bytes=10**12))
    path = "/cloud-points/cloud1/scale"
    refused = await _ask(api, "POST", path, None, status=422, instances=9)
    assert "--force" in refused["detail"]
    await _ask(api, "POST", path, TaskInfo, status=202, instances=9, force=True)
    shown = await _ask(api, "GET", "/cloud-points/cloud1", CloudPointInfo)
    assert "entrepot cloud scale cloud1 8" in shown.budget_note


async def test_a_service_certificate_is_issued_over_the_api(api) -> None:
    made = await _ask(
        api, "POST", "/service-certificates", None, status=201, fqdn="c.contoso.com", days=30, password=PASSWORD
    )
    assert base64.b64decode(made["pfx"])[:1] == b"\x30"


async def test_a_changed_upload_schedule_counts_for_uploads_that_are_running(site) -> None:
    point = await site.make_point()
    holder = await site.services.providers.holder(point.point)
    first, second = b"first", b"second"
    await holder.put(object_id_of(first), len(first), lambda: [first])
    app = Litestar(route_handlers=[care_router(site.services)], openapi_config=None)
    async with AsyncTestClient(app) as client:
        closed = {"windows": [{"begin": 0, "end": 0, "bytes_per_second": 0}]}
        assert (await client.put("/cloud-points/cloud1/upload", json=closed)).status_code == 200
        with pytest.raises(UnavailableError, match="closed now"):
            await holder.put(object_id_of(second), len(second), lambda: [second])
        assert (await client.put("/cloud-points/cloud1/upload", json={})).status_code == 200
        await holder.put(object_id_of(second), len(second), lambda: [second])


async def test_care_routes_speak_the_models_of_the_protocol(site) -> None:
    await site.make_point()
    app = Litestar(route_handlers=[care_router(site.services)], openapi_config=None)
    async with AsyncTestClient(app) as client:
        schedule = {"bytes_per_second": 5, "windows": [{"begin": 0, "end": 60, "days": [1]}]}
        assert (await client.put("/cloud-points/cloud1/upload", json=schedule)).json()["bytes_per_second"] == 5
        assert (await client.get("/cloud-points/cloud1/upload")).json()["windows"][0]["end"] == 60
        health = (await client.get("/cloud-points/cloud1/health?now=true")).json()
        assert health["status"] == "Ready"
        assert {one["name"] for one in health["details"]} >= {"subscription", "store", "certificates"}
        assert (await client.get("/cloud-points/cloud1/metrics?days=7")).json()["egress_bytes"] == 2
        reconciled = (await client.get("/cloud-points/cloud1/reconciliation?days=7")).json()
        assert [one["figure"] for one in reconciled["figures"]] == ["sent to clients", "stored"]
        resources = (await client.get("/cloud-points/cloud1/resources")).json()
        assert {one["stays"] for one in resources["resources"]} == {True, False}
        assert (await client.post("/cloud-orphans/search", json={})).json() == []
        assert (await client.post("/cloud-points/cloud1/update")).status_code == 202
