"""Cost, quotes, savings, forecasts, price sheets, subscriptions and maintenance windows on the command line."""

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from entrepot.core.errors import ConflictError
from entrepot.core.times import DAY, HOUR
from entrepot.protocol.alertapi import (
    AlertSubscriptionInfo,
    Channel,
    Delivered,
    Language,
    MaintenanceWindowInfo,
    Repeat,
    Severity,
)
from entrepot.protocol.cloudpointapi import UsageBucket, UsageReport
from entrepot.protocol.costapi import (
    BudgetInfo,
    CostBy,
    CostLine,
    CostReport,
    CrossingInfo,
    EgressTier,
    ForecastInfo,
    PointForecast,
    PriceSheetInfo,
    Quote,
    SavingsBy,
    SavingsLine,
    SavingsReport,
)
from entrepot.protocol.deviceapi import DeploymentInfo, DeploymentOptions

NOW = 1_774_267_200  # 2026-03-23T12:00:00Z
AMOUNTS = ("total", "storage", "egress", "uploads", "requests_cost", "instances", "overhead")


def _forecast(metric: str, days: int = 40) -> ForecastInfo:
    critical = CrossingInfo(level="critical", bytes=9 * 10**9, at=NOW + 6 * DAY, earliest=NOW + 4 * DAY, latest=0)
    return ForecastInfo(
        metric=metric,
        present=5 * 10**9,
        days=days,
        per_day=10**8,
        per_day_change=0,
        in_thirty_days=8 * 10**9,
        rhythm=(1.0,) * 7,
        crossings=(critical,) if days else (),
    )


def _point_forecast() -> PointForecast:
    storage, transfer = _forecast("storage", days=0), _forecast("transfer")
    return PointForecast(cloud_point="cloud-eu", now=NOW, collected=NOW - 60, storage=storage, transfer=transfer)


def test_a_forecast_shows_the_range_and_says_when_it_claims_nothing(logged_in, entrepot) -> None:
    path = "GET /api/v1/cloud-points/cloud-eu/forecast"
    logged_in.replies[f"{path}?planned_storage=0&planned_transfer=2000000000000"] = _point_forecast()
    command = ("cost", "forecast", "cloud-eu", "--planned-transfer", "2TB")
    ran = entrepot(*command)
    assert ran.code == 0, ran.err
    for text in ("2026-03-29", "earliest 2026-03-27", "not within a year", "three whole days are needed"):
        assert text in ran.out
    assert entrepot(*command, "--json").value["transfer"]["days"] == 40


def test_a_forecast_with_a_deployment_shows_what_would_be_without_it(logged_in, entrepot) -> None:
    path = "GET /api/v1/cloud-points/cloud-eu/forecast"
    plain = _point_forecast()
    without = (CrossingInfo(level="critical", bytes=9 * 10**9, at=NOW + 20 * DAY, earliest=NOW, latest=0),)
    planned = msgspec.structs.replace(
        plain,
        transfer=msgspec.structs.replace(plain.transfer, without_plan=without),
        planned_storage=10**9,
        planned_transfer=3 * 10**9,
    )
    query = "planned_storage=0&planned_transfer=0&content=Office&collection=Field+staff&version=0"
    logged_in.replies[f"{path}?{query}"] = planned
    ran = entrepot("cost", "forecast", "cloud-eu", "--content", "Office", "--to", "Field staff")
    assert ran.code == 0, ran.err
    assert "1.0 GB stored at once, 3.0 GB sent to clients" in ran.err
    assert "2026-03-29" in ran.out
    assert "without the plan" in ran.out
    assert "2026-04-12" in ran.out


def test_usage_names_devices_and_says_how_old_it_is_and_that_there_is_more(logged_in, entrepot, monkeypatch) -> None:
    monkeypatch.setattr("entrepot.cli.cloud.books.time", SimpleNamespace(time=lambda: NOW + 5.0))
    bucket = UsageBucket(
        hour=NOW, subject="dev-1", name="pc-berlin", requests=3, failed=1, sent=2_000, uploaded=0, granted=500
    )
    report = UsageReport(
        cloud_point="cloud-eu",
        since=NOW - DAY,
        until=NOW,
        collected=NOW - 1800,
        age_seconds=1800,
        more=True,
        buckets=(bucket,),
    )
    path = "GET /api/v1/cloud-points/cloud-eu/usage"
    logged_in.replies[f"{path}?by=device&since={NOW - DAY}"] = report
    logged_in.replies[f"{path}?since={NOW - 30 * DAY}"] = report
    ran = entrepot("cloud", "usage", "cloud-eu", "--by", "device", "--days", "1")
    assert ran.code == 0, ran.err
    assert "pc-berlin" in ran.out
    for told in ("2.5 kB to clients in 3 requests", "30 min old", "fewer --days"):
        assert told in ran.err
    assert entrepot("cloud", "usage", "cloud-eu", "--json").value["age_seconds"] == 1800


def test_a_quote_says_the_sentence_and_what_was_assumed(logged_in, entrepot) -> None:
    sentence = "This deployment: 2,300 clients through the cloud, 184.0 GB, about 16.00 EUR."
    counts = {"devices": 2500, "clients": 2300, "cloud_share": 92, "requests": 7000, "up_to_date": 100}
    groups = {"by_delta": 2000, "by_difference": 200, "by_whole": 100}
    sizes = {"sent": 184 * 10**9, "full": 29 * 10**11, "stored": 0}
    amounts = {"currency": "EUR", "amount": Decimal("16.00"), "amount_full": Decimal("252.00")}
    named = {"content": "pkg-1", "content_name": "Office", "collection": "col-1", "version": 3}
    logged_in.replies["POST /api/v1/quotes"] = Quote(
        summary=sentence, assumptions=("Peers are not counted.",), **named, **counts, **groups, **sizes, **amounts
    )
    command = ("cost", "quote", "Office", "--to", "Field staff", "--cloud-share", "92")
    ran = entrepot(*command)
    assert ran.code == 0, ran.err
    for text in (sentence, "16.00 EUR", "252.00 EUR", "Peers are not counted."):
        assert text in ran.out
    assert entrepot(*command, "--json").value["amount"] == "16.00"
    assert logged_in.bodies("POST /api/v1/quotes")[0] == {
        "content": "Office", "collection": "Field staff", "version": 0, "cloud_share": 92,
    }  # fmt: skip


def _a_quote(**more) -> Quote:
    counts = dict.fromkeys(("devices", "clients", "cloud_share", "requests", "up_to_date"), 3)
    groups = dict.fromkeys(("by_delta", "by_difference", "by_whole", "sent", "full", "stored", "version"), 3)
    named = {"content": "pkg-1", "content_name": "Office", "collection": "col-1", "assumptions": ()}
    amounts = {"currency": "EUR", "amount": Decimal("0.5"), "amount_full": Decimal("1234.5")}
    return Quote(**(counts | groups | named | amounts | {"summary": "3 clients through the cloud."} | more))


def test_without_a_price_sheet_a_quote_tells_no_amount(logged_in, entrepot) -> None:
    logged_in.replies["POST /api/v1/quotes"] = _a_quote(currency="", amount=Decimal(0))
    ran = entrepot("cost", "quote", "Office")
    assert ran.code == 0, ran.err
    assert "amount" not in ran.out
    logged_in.replies["POST /api/v1/quotes"] = _a_quote()
    assert "1,234.50 EUR" in entrepot("cost", "quote", "Office").out


def test_a_deployment_through_the_cloud_says_what_it_costs_when_it_is_made_and_before(logged_in, entrepot) -> None:
    made = DeploymentInfo(
        id="dep-1",
        content="pkg-1",
        content_name="Office",
        collection="col-1",
        collection_name="Laptops",
        options=DeploymentOptions(allow_remote=True),
        created=NOW,
    )
    logged_in.replies["POST /api/v1/quotes"] = _a_quote()
    logged_in.replies["POST /api/v1/deployments"] = made
    command = ("deploy", "add", "Office", "--to", "Laptops", "--allow-remote")
    asked = entrepot(*command, "--dry-run")
    assert "1,234.50 EUR" in asked.out
    assert "Nothing was deployed" in asked.err
    assert entrepot(*command, "--dry-run", "--json").value["amount"] == "0.5"
    near = entrepot(*command[:-1], "--dry-run")
    assert "Nothing comes through the cloud" in near.err
    assert "EUR" not in near.out + near.err
    assert entrepot(*command[:-1], "--dry-run", "--json").value is None
    assert logged_in.bodies("POST /api/v1/deployments") == []
    assert "3 clients through the cloud." in entrepot(*command).err
    assert entrepot(*command, "--json").value["id"] == "dep-1"
    logged_in.replies["POST /api/v1/quotes"] = ConflictError("'Office' has no version yet.")
    ran = entrepot(*command)
    assert ran.code == 0, "a deployment is not held up by what cannot be told"
    assert "not known: 'Office' has no version yet." in ran.err


def _plan(entrepot, content: str, *more: str) -> dict:
    command = ("plan", "--clients", "100", "--internet", "100", "--hours", "1", "--content", content, *more, "--json")
    return {(one["deltas"], one["peers"]): one for one in msgspec.json.decode(entrepot(*command).out)["tallies"]}


def test_a_plan_takes_the_size_of_deltas_the_number_of_objects_and_of_versions_kept(entrepot) -> None:
    plain = _plan(entrepot, "office:1GB:1:20:10:4000")
    assert plain[True, False]["sent"] == plain[False, False]["sent"] // 10 == 100 * 10**9 // 50
    assert plain[False, False]["requests"] == 100 * (4000 // 5 + 2)
    kept = _plan(entrepot, "office:1GB:1:20:10:4000", "--versions-kept", "5")
    assert kept[False, False]["stored"] - plain[False, False]["stored"] == 3 * 10**9 // 5
    assert _plan(entrepot, "office:1GB:1:20")[True, False]["sent"] == 100 * 10**9 // 5 * 15 // 100


@pytest.mark.parametrize("content", ["office", "office:1GB:1:20:10:4000:9:1", "office:1GB:often"])
def test_a_plan_says_how_a_content_is_written(entrepot, content: str) -> None:
    ran = entrepot("plan", "--clients", "9", "--content", content)
    assert ran.code != 0
    assert "name:size[:releases a month" in ran.err


def test_savings_are_shown_by_what_kept_bytes_from_being_sent(logged_in, entrepot) -> None:
    figures = {"downloads": 7, "plain": 9 * 10**9, "transferred": 10**9, "compression": 2 * 10**9, "dedupe": 5 * 10**9}
    kept = {"own_cache": 3 * 10**9, "installed": 0, "peers": 0, "deltas": 4 * 10**9}
    line = SavingsLine(subject="dp-1", name="dp-berlin", **figures, **kept)
    report = SavingsReport(by=SavingsBy.POINT, since=NOW, lines=(line,))
    logged_in.replies["GET /api/v1/savings?by=point&days=90"] = report
    ran = entrepot("cost", "savings", "--by", "point", "--days", "90")
    assert ran.code == 0, ran.err
    for text in ("dp-berlin", "1.0 GB", "2.0 GB", "3.0 GB", "4.0 GB", "5.0 GB"):
        assert text in ran.out


PRICES = """
currency = "EUR"
storage_gb_month = "0.018"
[[egress]]
per_gb = "0.08"
"""


def test_a_price_sheet_is_put_and_used(logged_in, entrepot, tmp_path: Path) -> None:
    zero = Decimal(0)
    other = {"ingress_gb": zero, "writes_per_10000": zero, "reads_per_10000": zero, "instance_hour": zero}
    info = PriceSheetInfo(
        name="ours",
        version=2,
        currency="EUR",
        storage_gb_month=Decimal("0.018"),
        egress=(EgressTier(per_gb=Decimal("0.08")),),
        source="",
        created=NOW,
        by="ann",
        used_by=("cloud-eu",),
        **other,
    )
    logged_in.replies |= {"PUT /api/v1/price-sheets/ours": info, "POST /api/v1/price-sheets/ours/use": info}
    logged_in.replies["GET /api/v1/price-sheets"] = [info]
    file = tmp_path / "prices.toml"
    file.write_text(PRICES)
    ran = entrepot("cost", "sheet", "put", "ours", str(file))
    assert (ran.code, "version 2" in ran.err + ran.out) == (0, True)
    [put] = logged_in.bodies("PUT /api/v1/price-sheets/ours")
    assert (put["currency"], put["storage_gb_month"], put["egress"][0]["per_gb"]) == ("EUR", "0.018", "0.08")
    assert entrepot("cost", "sheet", "use", "ours", "--cloud-point", "cloud-eu").code == 0
    assert logged_in.bodies("POST /api/v1/price-sheets/ours/use") == [{"cloud_point": "cloud-eu"}]
    assert "cloud-eu" in entrepot("cost", "sheet", "list").out
    file.write_text("currency = 7")
    logged_in.asked.clear()
    assert entrepot("cost", "sheet", "put", "ours", str(file)).code != 0
    assert not logged_in.bodies("PUT /api/v1/price-sheets/ours")


def _subscription() -> AlertSubscriptionInfo:
    return AlertSubscriptionInfo(
        id="sub-1",
        name="pager",
        channel=Channel.WEBHOOK,
        target="https://hooks.example.com/x",
        language=Language.GERMAN,
        types=("transfer_critical",),
        severities=(Severity.CRITICAL,),
        digest_minutes=15,
        private_networks=False,
        site="PS1",
        created=NOW,
        delivered=0,
        error="The receiver answers 503.",
        waiting=2,
        failed=1,
    )


def test_a_subscription_is_added_listed_tested_and_deleted(logged_in, entrepot, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("a-secret-of-thirty-two-characters\n")
    logged_in.replies |= {
        "POST /api/v1/alert-subscriptions": _subscription(),
        "GET /api/v1/alert-subscriptions": [_subscription()],
        "POST /api/v1/alert-subscriptions/pager/test": Delivered(
            target="https://hooks.example.com/x", detail="HTTP 204"
        ),
        "DELETE /api/v1/alert-subscriptions/pager": None,
    }
    words = ("--to", "https://hooks.example.com/x", "--severity", "critical", "--type", "transfer_critical")
    more = ("--language", "de", "--digest", "15", "--secret-file", str(secret))
    ran = entrepot("alert", "subscription", "add", "pager", *words, *more)
    assert ran.code == 0, ran.err
    [body] = logged_in.bodies("POST /api/v1/alert-subscriptions")
    assert (body["channel"], body["language"], body["digest_minutes"]) == ("webhook", "de", 15)
    assert (body["severities"], body["types"]) == (["critical"], ["transfer_critical"])
    assert body["secret"] == "a-secret-of-thirty-two-characters"
    assert "a-secret" not in ran.out + ran.err
    assert "The receiver answers 503." in entrepot("alert", "subscription", "list").out
    assert entrepot("alert", "subscription", "test", "pager", "--json").value["detail"] == "HTTP 204"
    assert entrepot("alert", "subscription", "delete", "pager").code != 0  # no terminal to confirm at
    assert not [asked for asked, _, _ in logged_in.asked if asked.startswith("DELETE")]
    assert entrepot("alert", "subscription", "delete", "pager", "--yes").code == 0


def test_of_a_subscription_only_what_is_named_is_changed(logged_in, entrepot, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("another-secret-of-thirty-two-chars\n")
    path = "PATCH /api/v1/alert-subscriptions/pager"
    logged_in.replies[path] = _subscription()
    change = ("alert", "subscription", "change", "pager")
    for words in (
        ("--digest", "0"),
        ("--all", "--severity", "critical"),
        ("--secret-file", str(secret), "--no-private-networks"),
        ("--no-authority",),
    ):
        ran = entrepot(*change, *words)
        assert ran.code == 0, ran.err
    given = [{key: value for key, value in body.items() if value is not None} for body in logged_in.bodies(path)]
    assert given == [
        {"digest_minutes": 0},
        {"types": [], "severities": ["critical"]},
        {"secret": "another-secret-of-thirty-two-chars", "private_networks": False},
        {"authority": ""},
    ]
    assert "Nothing was named" in entrepot(*change).err
    assert "contradict" in entrepot(*change, "--no-authority", "--authority", str(secret)).err


@pytest.mark.parametrize("given", [True, False])
def test_a_maintenance_window_is_added_listed_and_deleted(logged_in, entrepot, given: bool) -> None:
    window = MaintenanceWindowInfo(
        id="mw-1",
        name="patching",
        start="2026-03-22T02:00",
        minutes=120,
        zone="Europe/Berlin",
        repeat=Repeat.WEEKLY,
        cloud_point="",
        types=("service_stopped",) if given else (),
        open=given,
    )
    logged_in.replies |= {
        "POST /api/v1/maintenance-windows": window,
        "GET /api/v1/maintenance-windows": [window],
        "DELETE /api/v1/maintenance-windows/patching": None,
    }
    words = ("--start", "2026-03-22T02:00", "--minutes", "120", "--zone", "Europe/Berlin", "--repeat", "weekly")
    ran = entrepot("alert", "window", "add", "patching", *words)
    assert (ran.code, "open now" in ran.out + ran.err) == (0, given)
    [body] = logged_in.bodies("POST /api/v1/maintenance-windows")
    assert (body["zone"], body["repeat"], body["minutes"]) == ("Europe/Berlin", "weekly", 120)
    assert ("service_stopped" if given else "all") in entrepot("alert", "window", "list").out
    assert entrepot("alert", "window", "delete", "patching", "--yes").code == 0


def _budget(**more) -> BudgetInfo:
    unset = ("throttle_percent", "peers_percent", "stop_percent", "rate", "period_from", "period_ends")
    amounts = {"bytes": 10**12, "used": 10**9, "granted": 5 * 10**8, "unaccounted": 2 * 10**8, "left": 10**11}
    texts = {"scope": "cloud-point", "name": "cloud-eu", "zone": "", "grade": "open", "stopped": "", "by": "anna"}
    values = {"critical_percent": 100, "grant_percent": 100, "critical": (), "created": NOW}
    return BudgetInfo(**(dict.fromkeys(unset, 0) | amounts | texts | values | more))


def test_of_a_budget_only_what_is_named_is_changed(logged_in, entrepot) -> None:
    request = "PATCH /api/v1/budgets/cloud-eu"
    logged_in.replies[request] = _budget()
    assert entrepot("budget", "set", "cloud-eu", "3TB").code == 0
    assert entrepot("budget", "set", "cloud-eu", "--peers-percent", "70", "--critical", "agent").code == 0
    assert entrepot("budget", "set", "cloud-eu", "--stop-percent", "0", "--no-critical", "--no-month").code == 0
    asked = [{name: value for name, value in body.items() if value is not None} for body in logged_in.bodies(request)]
    always = {"scope": "cloud-point", "dry_run": False}
    assert asked == [
        always | {"bytes": 3 * 10**12},
        always | {"peers_percent": 70, "critical": ["agent"]},
        always | {"stop_percent": 0, "critical": [], "zone": ""},
    ]
    assert entrepot("budget", "set", "cloud-eu", "--critical", "agent", "--no-critical").code == 2
    assert len(logged_in.bodies(request)) == 3


def test_budgets_tell_how_old_their_figures_are(logged_in, entrepot) -> None:
    never, some = _budget(name="cloud-us", used=0), _budget(name="office", scope="content", used=5)
    logged_in.replies["GET /api/v1/budgets"] = [_budget(collected=NOW, age_seconds=60 * 12), never, some]
    ran = entrepot("budget", "list", "--json")
    assert [(one["collected"], one["age_seconds"]) for one in ran.value] == [(NOW, 720), (0, 0), (0, 0)]
    told = {line.split()[1]: line for line in entrepot("budget", "list").out.splitlines() if "30 days" in line}
    assert "12 min old" in told["cloud-eu"]
    assert "not collected yet" in told["cloud-us"]
    assert "not all collected yet" in told["office"], "it stands beside figures"


@pytest.mark.parametrize(
    ("figures_from", "requests", "told"),
    [
        (NOW, 5, "Figures: 3 h old, collected 2026-03-2"),
        (0, 0, "Figures: not collected yet."),
        (0, 5, "Figures: not all collected yet."),
    ],
)
def test_costs_tell_how_old_their_figures_are(logged_in, entrepot, figures_from: int, requests: int, told: str) -> None:
    amounts = dict.fromkeys(AMOUNTS, Decimal(1))
    one = CostLine(subject="pt-1", name="cloud-eu", bytes=10**9, requests=requests, **amounts, month_end=None)
    logged_in.replies["GET /api/v1/cost?by=point"] = CostReport(
        by=CostBy.POINT,
        since=NOW - DAY,
        until=NOW + DAY,
        currency="EUR",
        total=Decimal(6),
        month_end=Decimal(9),
        lines=(one,),
        others=(),
        notes=(),
        figures_from=figures_from,
        age_seconds=3 * HOUR if figures_from else 0,
    )
    ran = entrepot("cost", "show")
    assert ran.code == 0, ran.err
    assert told in ran.err
    assert entrepot("cost", "show", "--json").value["figures_from"] == figures_from


def test_budgets_tell_what_was_never_accounted_for_and_of_too_many_instances(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/budgets"] = [_budget(warning="cloud-eu has 12 instances, but 8 serve.")]
    ran = entrepot("budget", "list")
    assert ran.code == 0, ran.err
    assert "cloud-eu" in ran.out
    assert "cloud-eu: cloud-eu has 12 instances, but 8 serve." in ran.err
    assert "cloud-eu: 200.0 MB of what is granted was not accounted for" in ran.err
    assert entrepot("budget", "list", "--json").value[0]["unaccounted"] == 2 * 10**8
