"""Records that cannot be: what their clock says is not believed, what they sent counts; other nonsense is refused, and
holds nothing up (R26)."""

import pytest

from entrepot.core.times import DAY, HOUR, hour_of
from entrepot.database import usage
from entrepot.site.cloud import damaged
from entrepot.site.cloud.collection import Collector
from entrepot.site.cloud.logfile import LogOptions

from .conftest import NOW, Gateway, record


async def _collect(site, *segments, verbose: bool = False):
    point = await site.services.get("cloud1")
    holder = site.cloud.services["cloud1"].holder
    for key, data in segments:
        await holder.put_document(key, data)
    collector = Collector(
        site.database, site.folder / "logs", holder="test", clock=site.clock, options=LogOptions(verbose=verbose)
    )
    return await collector.run_once(point, holder)


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("moment", [-5, 0, (NOW + 3 * DAY) * 1000, 10**18])
async def test_what_was_sent_by_a_wrong_clock_counts_in_the_hour_in_which_it_is_collected(site, moment, verbose):
    point = await site.make_point()
    segment = Gateway(point.point).segment([record(70, time=(NOW - HOUR) * 1000), record(7, time=moment)])
    summary = await _collect(site, segment, verbose=verbose)
    assert (summary.records, summary.bytes, summary.gaps) == (2, 77, ())
    hours = await site.database.read(usage.hours, point.point, since=0, until=NOW + 10 * DAY, limit=10)
    assert {one.hour: one.sent for one in hours if one.sent} == {hour_of(NOW) - HOUR: 70, hour_of(site.clock()): 7}
    lines = (site.folder / "logs" / "CloudDP-cloud1.log").read_text().splitlines()
    assert len(lines) == (4 if verbose else 2)


async def test_a_clock_that_is_hours_ahead_is_believed(site):
    """It is what the rest of its records say as well, and the thirty days count what lies ahead."""
    point = await site.make_point()
    await _collect(site, Gateway(point.point).segment([record(7, time=(NOW + 20 * HOUR) * 1000)]))
    hours = await site.database.read(usage.hours, point.point, since=0, until=NOW + 10 * DAY, limit=10)
    assert [one.hour for one in hours if one.sent] == [hour_of(NOW) + 20 * HOUR]


async def test_what_is_refused_does_not_fill_the_disk(site, monkeypatch):
    monkeypatch.setattr(damaged, "MOST_DAMAGED", 2)
    point = await site.make_point()
    gateway = Gateway(point.point)
    bad = [gateway.segment([record(-1, time=NOW * 1000 + number)]) for number in range(4)]
    for one in bad:
        await _collect(site, one)
    kept = {file.read_bytes() for file in (site.folder / "logs" / "damaged").rglob("*.segment")}
    assert kept == {data for _, data in bad[-2:]}, "the newest stay"


async def test_a_segment_that_is_refused_holds_no_later_one_of_its_instance_up(site):
    point = await site.make_point()
    gateway = Gateway(point.point)
    first, bad, later = (gateway.segment([record(sent)]) for sent in (1, -1, 5))
    summary = await _collect(site, first, bad, later)
    assert (summary.segments, summary.bytes, summary.gaps) == (2, 6, ("gw-1",))
    summary = await _collect(site, gateway.segment([record(8)]))
    assert (summary.segments, summary.bytes) == (1, 8)
    listed = await site.cloud.services["cloud1"].holder.list_documents("tx/")
    assert listed.keys == (), "nothing is read again and again"
