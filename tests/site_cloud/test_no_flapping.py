"""Every alert that stands for a figure at a threshold opens once, however the figure swings around it (R22, R25)."""

import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.core.sizes import GB
from entrepot.core.times import DAY, hour_of
from entrepot.database import alerts, budgets, usage
from entrepot.database.budgets import Budget
from entrepot.database.engine import open_database, sqlite_url
from entrepot.protocol.cloudhost import Subscription
from entrepot.rules.alerts import AlertState
from entrepot.rules.forecast import Crossing, Forecast
from entrepot.rules.thresholds import StorageLimits, TransferLimits, assess_storage, assess_transfer
from entrepot.site.cloud.health import Look
from entrepot.site.cloud.judging import _budget_findings, _two_levels
from entrepot.site.cloud.probing import MAX_SKEW, NEAR_SKEW, clock_finding
from entrepot.site.cost.forecasting import CALM_DAYS, SOON_DAYS, expected
from entrepot.site.findings import Finding, condition_of, judge

from ..databases import create_tables
from .conftest import NOW

LEVEL = 1000 * GB
NEAR = 0.98
"""Below this share of its level a figure closes its alert."""
Findings = Callable[[object, str, float], Sequence[Finding]]
_subjects = itertools.count()


def _storage(_connection, _subject, share):
    limits = StorageLimits(quota=LEVEL * 10 // 9, warning_free_percent=10)
    return _two_levels("storage", assess_storage(int(share * LEVEL), limits), known=True, strict=False)


def _storage_critical(_connection, _subject, share):
    limits = StorageLimits(quota=LEVEL)
    return _two_levels("storage", assess_storage(int(share * LEVEL), limits), known=True, strict=False)


def _sums(what: str, percent: int) -> Findings:
    def findings(_connection, _subject, share):
        limits = TransferLimits(quota=LEVEL * 100 // percent, warning_percent=50, critical_percent=90)
        return _two_levels(what, assess_transfer(int(share * LEVEL), limits), known=True, strict=False)

    return findings


def _forecast(what: str) -> Findings:
    """The nearer the critical level, the worse: seven days ahead are the bound, ten days ahead it is calm."""

    def findings(_connection, _subject, share):
        days = CALM_DAYS - (CALM_DAYS - SOON_DAYS) * (share - NEAR) / (1 - NEAR)
        crossing = Crossing(name="critical", level=1, at=int(NOW + days * DAY), earliest=int(NOW), latest=0)
        soon, near, told = expected(Forecast(present=0, days=30, crossings=(crossing,)), NOW)
        return [Finding(type=f"{what}_forecast", condition=condition_of(soon), said=(told,) if told else (), near=near)]

    return findings


def _clock(_connection, _subject, share):
    skew = NEAR_SKEW + (MAX_SKEW - NEAR_SKEW) * (share - NEAR) / (1 - NEAR) + 1
    told = Subscription(
        id="s", name="s", state="active", region="", storage_quota=0, instance_quota=0, certificate_expires=0,
        time=int(NOW + skew), redirects=False,
    )  # fmt: skip
    return [clock_finding(Look(subscription=told), NOW, NOW)]


def _budget(connection, subject, share):
    """At a share of it (throttle) and at its end, both where the figure swings."""
    one = Budget(subject=subject, bytes=LEVEL, throttle_percent=100, rate=1, created=NOW)
    if budgets.find(connection, one.scope, subject) is None:
        budgets.put_budget(connection, one)
    used = usage.totals_since(connection, subject, 0).sent
    usage.add_to_hour(connection, subject, hour_of(NOW), sent=int(share * LEVEL) - used)
    return _budget_findings(connection, subject, NOW)


KINDS: dict[str, Findings] = {
    "storage_warning": _storage,
    "storage_critical": _storage_critical,
    "transfer_warning": _sums("transfer", 50),
    "transfer_critical": _sums("transfer", 90),
    "upload_warning": _sums("upload", 50),
    "upload_critical": _sums("upload", 90),
    "storage_forecast": _forecast("storage"),
    "transfer_forecast": _forecast("transfer"),
    "budget_step": _budget,
    "budget_used_up": _budget,
    "clock_skew": _clock,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    found = open_database(sqlite_url(tmp_path_factory.mktemp("flapping") / "site.db"))
    create_tables(found)
    yield found
    found.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=8, deadline=None)
@given(swings=st.lists(st.floats(NEAR + 0.001, 1.02), min_size=2, max_size=15))
def test_a_figure_that_swings_around_its_threshold_opens_its_alert_once(database, kind, swings):
    """Once it has been reached, until it is clearly below: then it closes, and the next time counts anew."""
    subject = f"pt-{next(_subjects)}"

    def look(share: float) -> tuple[AlertState, int]:
        with database.transaction() as connection:
            judge(connection, subject, "cloud1", KINDS[kind](connection, subject, share), NOW)
            alert = alerts.find(connection, type_=kind, subject=subject).alert
        return alert.state, alert.occurrences

    for share in [*swings, 1.0, NEAR + 0.001, *swings]:
        state, occurrences = look(share)
        assert occurrences <= 1
    assert (state, occurrences) == (AlertState.ACTIVE, 1)
    assert look(0.97) == (AlertState.CANCELED, 1)
    assert look(1.01) == (AlertState.ACTIVE, 2)
