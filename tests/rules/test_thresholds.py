"""Storage and transfer thresholds (R21, R22): "reaches or exceeds", and no flapping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError
from entrepot.core.sizes import GB
from entrepot.core.times import DAY, HOUR
from entrepot.protocol.cloudpointapi import Thresholds
from entrepot.rules.alerts import Alert, Condition, evaluate, settled
from entrepot.rules.thresholds import (
    StorageLimits,
    TransferLimits,
    assess_storage,
    assess_transfer,
    check_limits,
    rolling_start,
)

NOW = 1_774_274_400.5 + 1234
sizes = st.integers(0, 10**15)
percents = st.integers(1, 100)


def test_the_defaults_are_those_of_the_reference_product():
    wire = Thresholds()
    storage, transfer = StorageLimits(), TransferLimits()
    assert (storage.quota, transfer.quota) == (2_000 * GB, 10_000 * GB) == (wire.storage_quota, wire.transfer_quota)
    assert storage.warning_free_percent == 10 == wire.storage_warning_free_percent
    assert (transfer.warning_percent, transfer.critical_percent) == (50, 90)
    assert (wire.transfer_warning_percent, wire.transfer_critical_percent) == (50, 90)


@pytest.mark.parametrize(
    ("stored", "warning", "critical"),
    [(899, False, False), (900, True, False), (999, True, False), (1000, True, True), (5000, True, True)],
)
def test_r21_a_warning_when_the_free_share_is_down_to_ten_percent(stored, warning, critical):
    found = assess_storage(stored, StorageLimits(quota=1000))
    assert (found.warning, found.critical) == (warning, critical)


@pytest.mark.parametrize(
    ("sent", "warning", "critical"),
    [(499, False, False), (500, True, False), (899, True, False), (900, True, True), (10_000, True, True)],
)
def test_r22_a_warning_at_half_and_a_critical_alert_at_ninety_percent(sent, warning, critical):
    found = assess_transfer(sent, TransferLimits(quota=1000))
    assert (found.warning, found.critical) == (warning, critical)


def test_messages_name_the_figures_and_never_claim_a_level_early():
    assert "900 B of 1.0 kB stored; 10.0 % free" in assess_storage(900, StorageLimits(quota=1000)).message
    assert "89.9 %" in assess_transfer(89_999, TransferLimits(quota=100_000)).message
    assert "500.0 %" in assess_transfer(5000, TransferLimits(quota=1000)).message


def test_without_a_bound_nothing_is_reached():
    assert not assess_storage(10**15, StorageLimits(quota=0)).warning
    assert not assess_transfer(10**15, TransferLimits(quota=0)).critical
    assert "no bound" in assess_storage(5, StorageLimits(quota=0)).message


@given(sizes, sizes, st.integers(1, 10**15), percents, percents, percents)
def test_more_usage_never_gives_a_milder_answer(first, second, quota, free, warning, critical):
    less, more = sorted((first, second))
    storage = StorageLimits(quota=quota, warning_free_percent=free)
    transfer = TransferLimits(quota=quota, warning_percent=warning, critical_percent=critical)
    for assess, limits in ((assess_storage, storage), (assess_transfer, transfer)):
        mild, strict = assess(less, limits), assess(more, limits)
        assert mild.warning <= strict.warning
        assert mild.critical <= strict.critical


@given(sizes, st.integers(1, 10**15), percents)
def test_the_critical_storage_level_implies_the_warning(stored, quota, free):
    found = assess_storage(stored, StorageLimits(quota=quota, warning_free_percent=free))
    assert found.warning or not found.critical


@given(sizes, st.integers(1, 10**15), percents, percents)
def test_the_critical_transfer_level_implies_the_warning_for_sensible_limits(sent, quota, first, second):
    warning, critical = sorted((first, second))
    limits = TransferLimits(quota=quota, warning_percent=warning, critical_percent=critical)
    check_limits(StorageLimits(), limits)
    found = assess_transfer(sent, limits)
    assert found.warning or not found.critical


@given(st.integers(1, 10**15), percents)
def test_a_level_is_reached_exactly_at_its_share(quota, percent):
    limits = TransferLimits(quota=quota, warning_percent=percent, critical_percent=percent)
    at = -(-quota * percent // 100)  # the least whole number of bytes that is the share
    assert assess_transfer(at, limits).critical
    assert not assess_transfer(at - 1, limits).critical


@pytest.mark.parametrize(
    ("storage", "transfer"),
    [
        (StorageLimits(quota=-1), TransferLimits()),
        (StorageLimits(), TransferLimits(quota=-1)),
        (StorageLimits(warning_free_percent=0), TransferLimits()),
        (StorageLimits(warning_free_percent=101), TransferLimits()),
        (StorageLimits(), TransferLimits(warning_percent=0)),
        (StorageLimits(), TransferLimits(critical_percent=101)),
        (StorageLimits(), TransferLimits(warning_percent=91)),
    ],
)
def test_limits_that_make_no_sense_are_refused(storage, transfer):
    with pytest.raises(BadInputError):
        check_limits(storage, transfer)


def test_the_window_is_thirty_days_and_rolls_by_the_hour():
    start = rolling_start(NOW)
    assert start % HOUR == 0
    assert start <= NOW - 30 * DAY < start + HOUR
    assert rolling_start(NOW + HOUR) == start + HOUR


@given(
    st.integers(10**5, 10**15),
    percents,
    st.lists(st.integers(-2, 2), min_size=1, max_size=60),
)
def test_usage_that_swings_around_a_threshold_opens_its_alert_once(quota, percent, swings):
    limits = TransferLimits(quota=quota, warning_percent=percent, critical_percent=percent)
    level = -(-quota * percent // 100)
    alert = Alert(type="transfer_critical", subject="pt-1")
    for number, swing in enumerate(swings):
        found = assess_transfer(level + swing * (level // 200), limits)
        condition = settled(alert.condition, reached=found.critical, near=found.critical_near)
        alert = evaluate(alert, condition, said=(), now=number).alert
    assert alert.occurrences == (1 if any(swing >= 0 for swing in swings) else 0)


@given(st.integers(1000, 10**15), percents)
def test_an_alert_closes_when_usage_is_clearly_below_again(quota, percent):
    limits = TransferLimits(quota=quota, warning_percent=percent, critical_percent=percent)
    level = -(-quota * percent // 100)
    found = assess_transfer(level - level // 50 - 1, limits)
    assert settled(Condition.BAD, reached=found.critical, near=found.critical_near) is Condition.GOOD
