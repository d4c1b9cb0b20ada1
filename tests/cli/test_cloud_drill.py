"""``entrepot cloud drill`` against a prepared site that is the cloud point, too."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from entrepot.cli.cloud.drill import compared
from entrepot.cli.session import SiteSession
from entrepot.core.errors import ConflictError, LimitedError, UnavailableError
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.cloudapi import CloudHealth
from entrepot.protocol.cloudhost import Instance
from entrepot.protocol.cloudpointapi import CloudPointInfo, CloudPointState, CloudUsage, Thresholds
from entrepot.protocol.drillapi import DrillInstance, DrillObject, DrillPermit, DrillPlan, DrillRecord, DrillReport

from .conftest import PreparedSite

OBJECTS = [bytes([number]) * 1000 for number in range(4)]
DRILLS = "/api/v1/cloud-points/cloud-eu/drills"


def instance(name: str, sent: int, cpu: float) -> Instance:
    return Instance(id=name, state="running", started=1, heartbeat=1, restarts=0, sent=sent, cpu=cpu)


def cloud_point_info(*instances: Instance) -> CloudPointInfo:
    """A cloud point that is ready; what does not matter is empty."""
    texts = dict.fromkeys(
        (
            "id",
            "name",
            "description",
            "provider",
            "host_url",
            "subscription",
            "management_certificate",
            "region",
            "fqdn",
            "url",
            "site",
            "message",
            "certificate_subject",
            "certificate_thumbprint",
        ),
        "",
    )
    numbers = dict.fromkeys(
        (
            "instances_wanted",
            "certificate_expires",
            "control_counter",
            "control_pushed",
            "contents",
            "checked",
            "created",
        ),
        0,
    )
    figures = dict.fromkeys(
        (
            "stored_bytes",
            "stored_objects",
            "stored_at",
            "transferred_30_days",
            "uploaded_30_days",
            "collected",
            "age_seconds",
        ),
        0,
    )
    return CloudPointInfo(
        state=CloudPointState.READY,
        instances=instances,
        dns=None,
        thresholds=Thresholds(),
        usage=CloudUsage(**figures),
        **texts,
        **numbers,
    )


class Cloud:
    """What a prepared site answers about one cloud point; ``plan`` may be changed before a command."""

    def __init__(self, site: PreparedSite) -> None:
        self.site = site
        self.seen = 0
        self.plan = DrillPlan(
            cloud_point="cloud-eu",
            url=site.url,
            address="",
            content="pkg-1",
            content_name="App",
            version=1,
            objects=4,
            stored=4000,
            devices=2,
            seconds=600,  # it ends when all devices are done
            ramp=0,
            rate=0,
            bytes=8000,
            currency="EUR",
            amount=Decimal("1.25"),
            notes=("It counts.",),
        )
        objects = tuple(DrillObject(id=object_id_of(data), size=len(data)) for data in OBJECTS)
        site.replies |= {
            f"POST {DRILLS}/plan": lambda _: self.plan,
            f"POST {DRILLS}": lambda _: DrillPermit(
                drill="drill-1", plan=self.plan, objects=objects, tokens=("t0", "t1"), expires=0
            ),
            "PUT /api/v1/drills/drill-1/report": None,
            "GET /healthz": {"status": "ok"},
            "GET /api/v1/cloud-points/cloud-eu/health?now=true": CloudHealth(status="Ready", checked=1, details=()),
            "GET /api/v1/cloud-points/cloud-eu": self._info,
        } | {f"GET /objects/{one.id.hex()}": data for one, data in zip(objects, OBJECTS, strict=True)}

    def _info(self, _: bytes) -> CloudPointInfo:
        self.seen += 1
        return cloud_point_info(instance("gw-1", 4000 * self.seen, float(self.seen)))


@pytest.fixture
def cloud(logged_in: PreparedSite, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setattr("entrepot.cli.cloud.drill.SETTLING_SECONDS", 0.0)
    return Cloud(logged_in)


def asked(cloud: Cloud, request: str) -> int:
    return sum(1 for one, _, _ in cloud.site.asked if one == request)


def test_it_loads_the_cloud_point_and_reports_to_people_programs_and_the_site(entrepot: Any, cloud: Cloud) -> None:
    ran = entrepot("cloud", "drill", "cloud-eu", "--devices", "2", "--bytes", "8KB", "--yes", "--json")
    assert ran.code == 0, ran.err
    report = msgspec.json.decode(ran.out, type=DrillReport)
    assert (report.received, report.verified, report.whole, report.statuses) == (8000, 8000, 8, {"200": 8})
    assert report.instances[0].sent == 4000
    assert cloud.site.bodies("PUT /api/v1/drills/drill-1/report") == [ran.value]
    [wanted] = cloud.site.bodies(f"POST {DRILLS}")
    assert (wanted["devices"], wanted["most_bytes"]) == (2, 8000)
    bearers = {bearer for one, bearer, _ in cloud.site.asked if one.startswith("GET /objects")}
    assert bearers == {"Bearer t0", "Bearer t1"}

    ran = entrepot("cloud", "drill", "cloud-eu", "--yes")
    assert "transfers at most  8.0 kB" in ran.out
    assert "costs at most      1.25 EUR" in ran.out
    assert "received      8.0 kB in 8 requests, 8 answered whole" in ran.out
    assert "It counts." in ran.err
    assert "clients at 100 MB in 24 hours" in ran.err


def test_a_dry_run_begins_nothing(entrepot: Any, cloud: Cloud) -> None:
    ran = entrepot("cloud", "drill", "cloud-eu", "--dry-run", "--json")
    assert (ran.code, ran.value["bytes"], ran.value["amount"]) == (0, 8000, "1.25")
    assert asked(cloud, f"POST {DRILLS}") == 0


def test_nobody_is_loaded_without_a_yes(entrepot: Any, cloud: Cloud) -> None:
    ran = entrepot("cloud", "drill", "cloud-eu")
    assert (ran.code, asked(cloud, f"POST {DRILLS}")) == (2, 0)
    assert "Load cloud-eu now?" in ran.err


def test_a_service_that_does_not_serve_is_noticed_before_it_is_permitted(entrepot: Any, cloud: Cloud) -> None:
    cloud.site.replies["GET /healthz"] = UnavailableError("stopped")
    ran = entrepot("cloud", "drill", "cloud-eu", "--yes")
    assert (ran.code, asked(cloud, f"POST {DRILLS}")) == (10, 0)
    assert "serves nobody now" in ran.err
    cloud.plan = msgspec.structs.replace(cloud.plan, url="https://no-such-name.invalid")
    ran = entrepot("cloud", "drill", "cloud-eu", "--yes")
    assert (ran.code, asked(cloud, f"POST {DRILLS}")) == (10, 0)
    assert "no-such-name.invalid" in ran.err


def test_failures_of_the_service_make_the_command_fail_after_its_report(entrepot: Any, cloud: Cloud) -> None:
    damaged = object_id_of(OBJECTS[1])
    cloud.site.replies[f"GET /objects/{damaged.hex()}"] = bytes(1000)
    ran = entrepot("cloud", "drill", "cloud-eu", "--yes")
    assert ran.code == 10
    assert "2 objects were not what their name says" in ran.out


def test_the_report_is_shown_though_the_site_does_not_keep_it(entrepot: Any, cloud: Cloud) -> None:
    cloud.site.replies["PUT /api/v1/drills/drill-1/report"] = ConflictError("reported")
    ran = entrepot("cloud", "drill", "cloud-eu", "--yes", "--json")
    assert (ran.code, ran.value["received"]) == (0, 8000)
    assert "does not keep this report" in ran.err


def test_the_report_is_shown_though_the_site_does_not_answer_after_the_load(entrepot: Any, cloud: Cloud) -> None:
    def once(_: bytes) -> CloudPointInfo:
        if cloud.seen:
            raise UnavailableError("The site is gone.")
        return cloud._info(_)

    cloud.site.replies["GET /api/v1/cloud-points/cloud-eu"] = once
    ran = entrepot("cloud", "drill", "cloud-eu", "--yes", "--json")
    assert (ran.code, ran.value["received"], ran.value["instances"]) == (0, 8000, [])
    assert "what the instances did is not known" in ran.err


def test_the_report_is_shown_though_whoever_waits_for_it_loses_patience(
    entrepot: Any, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = SiteSession.call

    def interrupted(session: SiteSession, method: str, *rest: Any) -> Any:
        if method == "PUT" or asked(cloud, f"POST {DRILLS}"):
            raise KeyboardInterrupt
        return call(session, method, *rest)

    monkeypatch.setattr(SiteSession, "call", interrupted)
    ran = entrepot("cloud", "drill", "cloud-eu", "--yes", "--json")
    assert (ran.code, ran.value["received"]) == (0, 8000)
    assert "what the instances did is not known: Ctrl-C" in ran.err
    assert "the site does not keep this report: Ctrl-C" in ran.err


def test_requests_that_met_a_limit_do_not_make_the_command_fail(entrepot: Any, cloud: Cloud) -> None:
    first = cloud.site.replies[f"GET /objects/{object_id_of(OBJECTS[0]).hex()}"]
    answers = [UnavailableError("no room"), LimitedError("slower")]

    def at_last(_: bytes) -> Any:
        if answers:
            raise answers.pop()
        return first

    cloud.site.replies[f"GET /objects/{object_id_of(OBJECTS[0]).hex()}"] = at_last
    ran = entrepot("cloud", "drill", "cloud-eu", "--yes", "--json")
    assert (ran.code, ran.value["errors"]) == (0, {"HTTP 429": 1, "HTTP 503": 1})


def test_a_rate_at_which_gateways_break_off_is_refused(entrepot: Any, cloud: Cloud) -> None:
    ran = entrepot("cloud", "drill", "cloud-eu", "--rate", "5KB", "--yes")
    assert (ran.code, cloud.site.bodies(f"POST {DRILLS}/plan")) == (2, [])
    assert "cut off by the gateway" in ran.err


def test_earlier_drills_are_listed(entrepot: Any, cloud: Cloud) -> None:
    record = DrillRecord(
        drill="drill-1",
        cloud_point="cloud-eu",
        by="anna",
        begun=1,
        expires=2,
        content_name="App",
        version=3,
        devices=20,
        bytes=10**9,
    )
    cloud.site.replies[f"GET {DRILLS}"] = [record]
    assert entrepot("cloud", "drills", "cloud-eu", "--json").value[0]["by"] == "anna"
    shown = entrepot("cloud", "drills", "cloud-eu").out
    assert "App 3" in shown
    assert "no report" in shown


def test_instances_are_compared_with_what_they_said_before() -> None:
    before = (instance("a", 100, 1.0), instance("gone", 5, 1.0))
    silent = Instance(id="az", state="running", started=1, heartbeat=1, restarts=0)
    after = (instance("a", 300, 3.0), instance("new", 50, 0.5), silent)
    assert compared(before, after, 2.0) == (
        DrillInstance(id="a", sent=200, cpu_percent=100.0),
        DrillInstance(id="new", sent=50, cpu_percent=25.0),
    )
