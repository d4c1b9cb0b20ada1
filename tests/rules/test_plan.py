"""The planner: a discrete-event simulation of a fleet (R29)."""

import random
import tracemalloc
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from entrepot.content.ahead import AVERAGE_CHUNK, MAX_CHUNK, MIN_CHUNK
from entrepot.core.errors import BadInputError
from entrepot.core.sizes import GB, MIB
from entrepot.rules.plan import (
    RECORD_BYTES,
    SEGMENT_BYTES,
    SEGMENTS_AN_HOUR,
    Fleet,
    PlannedContent,
    Visits,
    objects_of,
    plan,
)
from entrepot.rules.prices import PriceSheet, Tier

SHEET = PriceSheet(
    name="test",
    currency="EUR",
    storage_gb_month=Decimal("0.02"),
    egress=(Tier(per_gb=Decimal("0.1")),),
    instance_hour=Decimal("0.1"),
)
OFFICE = PlannedContent(name="office", size=GB, objects=1000, releases_a_month=1, changed_percent=20, delta_percent=10)


def tallies(fleet: Fleet, *contents: PlannedContent):
    found = plan(fleet, contents, SHEET)
    return found, {(one.deltas, one.peers): one for one in found.tallies}


def test_new_clients_fetch_everything_once():
    fleet = Fleet(clients=1000, internet_percent=40, already_installed=False, hours=1)
    found, by = tallies(fleet, OFFICE)
    assert found.downloads == 400
    assert by[False, False].sent == by[True, True].sent == 400 * GB
    assert by[False, False].requests == 400 * (1000 + 2)
    assert by[False, False].cost.egress == Decimal(40)


def test_clients_that_have_the_version_before_fetch_what_changed_or_its_delta():
    _, by = tallies(Fleet(clients=100, internet_percent=100, hours=1), OFFICE)
    assert by[False, False].sent == 100 * GB // 5
    assert by[True, False].sent == 100 * GB // 50
    assert by[True, False].total < by[False, False].total


def test_a_delta_is_asked_for_in_packs_and_the_rest_in_objects():
    changed = msgspec.structs.replace(OFFICE, objects=1000, changed_percent=20, delta_percent=10)
    _, by = tallies(Fleet(clients=100, internet_percent=100, hours=1), changed)
    assert by[False, False].requests == 100 * (200 + 2), "objects that changed, root and part of the manifest"
    assert by[True, False].requests == 100 * (5 + 3), "packs of 4 MiB, both roots and the delta's part"


@pytest.mark.parametrize("mebibytes", [1, 2, 8])
def test_objects_are_estimated_as_content_is_cut(mebibytes):
    """Random files of one size, by three seeds: what they are cut into together."""
    size, data = mebibytes * MIB, random.Random(3).randbytes(24 * MIB)
    files = [data[begin : begin + size] for begin in range(0, len(data), size)]
    chunks = 0
    for seed in (11, 222, 3333):
        chunker = FastCDC(min_size=MIN_CHUNK, avg_size=AVERAGE_CHUNK, max_size=MAX_CHUNK, seed=seed)
        chunks += sum(1 for file in files for _ in chunker.cut_buf(file))
    planned = objects_of(PlannedContent(name="x", size=len(data), files=len(files)))
    assert planned == pytest.approx(chunks / 3, rel=0.15)


def test_what_the_site_fetches_to_collect_is_planned_and_charged():
    _, by = tallies(Fleet(clients=100, internet_percent=100, hours=1, instances=3), OFFICE)
    one = by[False, False]
    assert one.fetched == one.requests * RECORD_BYTES + 3 * 720 * SEGMENTS_AN_HOUR * SEGMENT_BYTES
    assert one.cost.fetched == pytest.approx(Decimal(one.fetched) / GB * Decimal("0.1"))
    assert one.total == one.cost.total


def test_neighbours_share_what_the_first_of_them_fetched():
    fleet = Fleet(clients=1000, internet_percent=100, networks=10, peer_percent=100, hours=1)
    _, by = tallies(fleet, OFFICE)
    assert by[False, True].sent == 10 * GB // 5
    assert by[False, True].sent + by[False, True].from_peers == by[False, False].sent


def test_clients_that_come_late_in_a_fast_rhythm_skip_releases():
    often = msgspec.structs.replace(OFFICE, releases_a_month=30)
    found, by = tallies(Fleet(clients=200, internet_percent=100, hours=24 * 20), often)
    assert found.releases == 30
    assert found.downloads < 200 * 30
    assert 0 < by[True, False].sent < by[False, False].sent


def test_the_same_seed_gives_the_same_plan_and_another_does_not():
    fleet = Fleet(clients=500, internet_percent=50, networks=20, hours=200)
    assert tallies(fleet, OFFICE)[0] == tallies(fleet, OFFICE)[0]
    other = msgspec.structs.replace(fleet, seed=2)
    assert tallies(other, OFFICE)[0].downloads != tallies(fleet, OFFICE)[0].downloads


def test_storage_and_instances_are_charged_for_every_cloud_point():
    _, one = tallies(Fleet(clients=1, internet_percent=0), OFFICE)
    _, two = tallies(Fleet(clients=1, internet_percent=0, cloud_points=2), OFFICE)
    assert two[False, False].cost.instances == 2 * one[False, False].cost.instances == Decimal(288)
    assert two[False, False].stored == 2 * one[False, False].stored
    assert one[False, False].sent == 0


def test_the_tiers_of_egress_begin_anew_with_every_month():
    tiered = msgspec.structs.replace(SHEET, egress=(Tier(per_gb=Decimal(0), up_to_gb=100), Tier(per_gb=Decimal(1))))
    new = Fleet(clients=300, internet_percent=100, already_installed=False, hours=1)
    month = plan(new, (OFFICE,), tiered).tallies[0]
    year = plan(msgspec.structs.replace(new, days=300), (OFFICE,), tiered).tallies[0]
    assert month.cost.egress == 200, "of 300 GB, 100 are free"
    assert (year.sent, year.cost.egress) == (pytest.approx(300 * GB + 9 * 300 * GB // 5), 0), "84 GB in each month"
    assert year.a_month * 10 == year.total


@pytest.mark.parametrize(
    "changes",
    [{"clients": 0}, {"clients": 10**9}, {"internet_percent": 101}, {"days": 0}, {"cloud_points": 0}, {"hours": 0}],
)
def test_plans_that_make_no_sense_are_refused(changes):
    with pytest.raises(BadInputError):
        plan(msgspec.structs.replace(Fleet(clients=10), **changes), (OFFICE,), SHEET)


def test_a_plan_that_would_never_end_is_refused():
    often = msgspec.structs.replace(OFFICE, releases_a_month=744)
    with pytest.raises(BadInputError, match="can be simulated"):
        plan(Fleet(clients=5_000_000, internet_percent=100), (often,), SHEET)


@given(st.lists(st.tuples(st.integers(0, 40), st.lists(st.tuples(st.floats(0, 30_000), st.integers(0, 99))))))
def test_visits_are_taken_out_in_their_order_whenever_they_were_noted(rounds):
    """As a queue of them all would give, but for less than a thousandth of a second."""
    visits, queue, moment = Visits(), [], 0
    for pause, coming in rounds:
        for wait, client in coming:
            visits.add(moment + wait, client)
            queue.append((int((moment + wait) * 1000), client))
        moment += pause * 250
        due = sorted(one for one in queue if one[0] < moment * 1000)
        queue = [one for one in queue if one[0] >= moment * 1000]
        assert list(visits.before(moment)) == [client for _, client in due]


def test_a_visit_that_is_to_come_takes_eight_bytes():
    """A plan of 50 million downloads fits into the memory of a small server."""
    tracemalloc.start()
    try:
        visits = Visits()
        for client in range(100_000):
            visits.add(client * 10.0, client)
        assert tracemalloc.get_traced_memory()[1] < 100_000 * 12
        for _ in visits.before(1_000_000):
            pass
        assert tracemalloc.get_traced_memory()[1] < 100_000 * 12
    finally:
        tracemalloc.stop()
