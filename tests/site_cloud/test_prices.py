"""Price sheets and what usage costs: exact, in decimals."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError
from entrepot.core.sizes import GB
from entrepot.rules.prices import Cost, PriceSheet, Tier, Usage, check_sheet, cost, egress_cost, shares
from entrepot.rules.quote import Size, volume
from entrepot.site.cost.shipped import shipped

D = Decimal
SHEET = PriceSheet(
    name="test",
    currency="EUR",
    storage_gb_month=D("0.02"),
    egress=(Tier(per_gb=D(0), up_to_gb=100), Tier(per_gb=D("0.09"), up_to_gb=1000), Tier(per_gb=D("0.05"))),
    ingress_gb=D("0.01"),
    writes_per_10000=D("0.05"),
    reads_per_10000=D("0.004"),
    instance_hour=D("0.1"),
)


@pytest.mark.parametrize(
    ("sent", "before", "amount"),
    [
        (100, 0, "0"),
        (101, 0, "0.09"),
        (1000, 0, "81"),
        (1100, 0, "86"),
        (100, 950, "7"),
        (10, 5000, "0.5"),
    ],
)
def test_egress_tiers_are_graduated_and_go_on_where_the_month_is(sent, before, amount):
    assert egress_cost(SHEET, sent * GB, before=before * GB) == D(amount)


def test_every_kind_of_usage_has_its_price():
    used = Usage(
        month_hours=720,
        byte_hours=100 * GB * 360,
        sent=200 * GB,
        uploaded=50 * GB,
        client_reads=1_000_000,
        upload_writes=20_000,
        overhead_reads=500_000,
        overhead_writes=10_000,
        instance_hours=720,
    )
    assert cost(SHEET, used) == Cost(
        storage=D("1"), egress=D("9"), uploads=D("0.6"), requests=D("0.4"), instances=D("72"), overhead=D("0.25")
    )
    assert cost(SHEET, used).total == D("83.25")


amounts = st.integers(0, 10**15)


@given(amounts, amounts)
def test_sending_in_two_steps_costs_what_one_step_does(first, second):
    together = egress_cost(SHEET, first + second)
    assert egress_cost(SHEET, first) + egress_cost(SHEET, second, before=first) == together


@given(amounts, amounts)
def test_more_is_never_cheaper(first, second):
    low, high = sorted((first, second))
    assert egress_cost(SHEET, low) <= egress_cost(SHEET, high)


@given(
    st.decimals(0, 10**6, places=4),
    st.dictionaries(st.text(max_size=3), st.integers(0, 10**12), min_size=1, max_size=9),
)
def test_shares_add_up_to_the_amount(amount, weights):
    parts = shares(amount, weights)
    assert sum(parts.values(), D(0)) == (amount if sum(weights.values()) else 0)
    assert all(part >= -D("1e-7") for part in parts.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"currency": "euro"},
        {"storage_gb_month": D(-1)},
        {"storage_gb_month": D("NaN")},
        {"instance_hour": D("Infinity")},
        {"instance_hour": D("1e999999")},
        {"reads_per_10000": D("1e-999999")},
        {"ingress_gb": D("0." + "1" * 10_000)},
        {"egress": ()},
        {"egress": (Tier(per_gb=D(1), up_to_gb=5),)},
        {"egress": (Tier(per_gb=D(1)), Tier(per_gb=D(1)))},
        {"egress": (Tier(per_gb=D(1), up_to_gb=5), Tier(per_gb=D(1), up_to_gb=5), Tier(per_gb=D(1)))},
    ],
)
def test_sheets_that_make_no_sense_are_refused(changes):
    with pytest.raises(BadInputError):
        check_sheet(msgspec.structs.replace(SHEET, **changes))


def test_the_shipped_examples_are_good_sheets_and_say_where_they_are_from():
    found = shipped()
    assert set(found) == {"azure-blob", "aws-s3", "free-egress"}
    for sheet in found.values():
        check_sheet(sheet)
        assert sheet.source.startswith("Example")
    assert egress_cost(found["free-egress"], 10**15) == 0


SIZE = Size(stored=1000, objects=10, new_bytes=300, new_objects=3, deltas={3: 40})


def test_a_quote_counts_what_each_group_of_clients_needs():
    found = volume(SIZE, {0: 10, 2: 20, 3: 30, 4: 40}, version=4, share=1.0)
    assert (found.by_whole, found.by_difference, found.by_delta, found.up_to_date) == (10, 20, 30, 40)
    assert found.sent == 10 * 1000 + 20 * 300 + 30 * 40
    assert found.full == 60 * 1000
    assert found.clients == 60
    assert found.full_requests == 60 * 10
    assert volume(SIZE, {0: 10}, version=4, share=0.5).sent == 5000


def test_clients_that_hold_a_newer_version_are_not_up_to_date_when_an_older_one_is_deployed():
    found = volume(SIZE, {4: 1, 5: 10}, version=4, share=1.0)
    assert (found.by_whole, found.up_to_date, found.sent) == (10, 1, 10 * 1000)


@given(st.dictionaries(st.integers(0, 6), st.integers(0, 10**6)), st.floats(0, 1))
def test_deltas_and_reuse_never_make_it_more(held, share):
    found = volume(SIZE, held, version=5, share=share)
    assert 0 <= found.sent <= found.full
