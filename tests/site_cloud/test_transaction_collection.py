"""Transactions are counted once and logged once, whatever happens in between (R26)."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from entrepot.core.errors import ConflictError, FormatError, UnavailableError
from entrepot.core.times import HOUR, hour_of
from entrepot.database import alerts, collection, contents, controldocuments, usage
from entrepot.database.tables.content import content, content_version
from entrepot.database.tables.usage import transfer_bucket
from entrepot.protocol.transactions import MAX_SEGMENT_BYTES, TX_PREFIX, SegmentHeader, encode_header, segment_key
from entrepot.rules.alerts import AlertState
from entrepot.site.cloud import collection as collecting
from entrepot.site.cloud.logfile import LogFolder
from entrepot.site.cloud.summary import parse_summary
from entrepot.site.cloud.tally import tally_segment

from .conftest import NOW, Crash, Gateway, SiteUnderTest, record

SET = b"s" * 32


async def _put(site: SiteUnderTest, *segments: tuple[str, bytes], service: str = "cloud1") -> None:
    for key, data in segments:
        await site.cloud.services[service].holder.put_document(key, data)


async def _stored_segments(site: SiteUnderTest) -> tuple[str, ...]:
    return (await site.cloud.services["cloud1"].holder.list_documents(TX_PREFIX)).keys


def _logged(site: SiteUnderTest) -> dict[tuple[int, str, str, str], tuple[int, int]]:
    """What the log says in sum."""
    sums: dict[tuple[int, str, str, str], tuple[int, int]] = {}
    path = site.folder / "logs" / "CloudDP-cloud1.log"
    for line in path.read_text().splitlines() if path.exists() else ():
        row = parse_summary(line)
        key = (row.hour, row.device, row.content, row.status)
        before = sums.get(key, (0, 0))
        sums[key] = (before[0] + row.requests, before[1] + row.bytes)
    return sums


def _counted(site: SiteUnderTest) -> dict[tuple[int, str, str, str], tuple[int, int]]:
    table = transfer_bucket
    with site.database.reading() as connection:
        rows = connection.execute(select(table)).all()
    return {(row.hour, row.device, row.content, row.status): (row.requests, row.bytes) for row in rows}


def _add_content(connection, set_id: bytes = SET, name: str = "pkg-0123456789abcdef") -> None:
    connection.execute(
        content.insert().values(
            id=name,
            name=name,
            name_key=name,
            type="package",
            source="",
            excludes="[]",
            for_windows=False,
            isolated=False,
            current=1,
            pointer_counter=1,
            deleting=False,
            site="PS1",
            created=0,
        )
    )
    numbers = dict.fromkeys(
        ("set_size", "files", "folders", "links", "plain_size", "chunks", "stored_size", "new_objects", "new_bytes"), 0
    )
    connection.execute(
        content_version.insert().values(
            content=name, number=1, set_id=set_id, root=b"", objects=0, warnings="[]", created=0, **numbers
        )
    )


async def test_collecting_now_asks_the_instances_with_a_new_control_document(site) -> None:
    point = await site.make_point()
    before = (await site.database.read(controldocuments.control, point.point)).counter
    await site.services.collect("cloud1")
    after = await site.database.read(controldocuments.control, point.point)
    assert (after.counter, after.pushed) == (before + 1, before + 1)


async def test_what_was_sent_of_a_content_counts_to_it_also_when_it_was_deleted_before_the_collection(site) -> None:
    point = await site.make_point()
    await site.database.write(_add_content)
    await _put(site, Gateway(point.point).segment([record(100, set_id=SET)]))
    assert await site.database.write(contents.remove_content, "pkg-0123456789abcdef") == [SET]
    await site.services.collect("cloud1")
    assert _counted(site) == {(hour_of(NOW), "dev-1", "pkg-0123456789abcdef", "2xx"): (1, 100)}


async def test_a_collection_counts_logs_and_then_deletes(site) -> None:
    point = await site.make_point()
    await site.database.write(_add_content)
    gateway = Gateway(point.point)
    await _put(
        site,
        gateway.segment([record(100, set_id=SET), record(50, set_id=SET), record(0, status=404)]),
        gateway.segment([record(7, device="dev-2", set_id=SET, time=(NOW + HOUR) * 1000)]),
    )
    summary = await site.services.collect("cloud1")
    assert (summary.segments, summary.records, summary.bytes, summary.gaps) == (2, 4, 157, ())
    expected = {
        (hour_of(NOW), "dev-1", "pkg-0123456789abcdef", "2xx"): (2, 150),
        (hour_of(NOW), "dev-1", "set-0000000000000000", "4xx"): (1, 0),
        (hour_of(NOW) + HOUR, "dev-2", "pkg-0123456789abcdef", "2xx"): (1, 7),
    }
    assert _counted(site) == _logged(site) == expected
    assert await _stored_segments(site) == ()
    assert Path(summary.log).name == "CloudDP-cloud1.log"


async def test_collecting_twice_changes_nothing(site) -> None:
    point = await site.make_point()
    key, data = Gateway(point.point).segment([record(100)])
    await _put(site, (key, data))
    await site.services.collect("cloud1")
    await _put(site, (key, data))  # a gateway that crashed before noting that it had shipped
    summary = await site.services.collect("cloud1")
    assert summary.segments == 0
    assert _counted(site) == _logged(site)
    assert sum(sent for _, sent in _counted(site).values()) == 100
    assert await _stored_segments(site) == ()


async def test_a_segment_under_another_name_is_not_counted_again(site) -> None:
    point = await site.make_point()
    gateway = Gateway(point.point)
    await _put(site, gateway.segment([record(100)]))
    await site.services.collect("cloud1")
    moved = Gateway(point.point)
    await _put(site, moved.segment([record(100)], opened=(NOW + HOUR) * 1000))
    await site.services.collect("cloud1")
    assert sum(sent for _, sent in _counted(site).values()) == 100


async def test_late_records_give_their_hour_another_line(site) -> None:
    point = await site.make_point()
    gateway = Gateway(point.point)
    await _put(site, gateway.segment([record(100)]))
    await site.services.collect("cloud1")
    await _put(site, gateway.segment([record(30)]))
    await site.services.collect("cloud1")
    lines = (site.folder / "logs" / "CloudDP-cloud1.log").read_text().splitlines()
    assert [parse_summary(line).bytes for line in lines] == [100, 30]


async def test_a_missing_segment_is_reported_until_it_arrives(site) -> None:
    point = await site.make_point()
    gateway = Gateway(point.point)
    first, second, third = (gateway.segment([record(1)]) for _ in range(3))
    await _put(site, first, third)
    assert (await site.services.collect("cloud1")).gaps == ("gw-1",)
    alert = await site.database.read(alerts.find, type_="accounting_gap", subject=point.point)
    assert alert.alert.state is AlertState.ACTIVE
    await _put(site, second)
    assert (await site.services.collect("cloud1")).gaps == ()
    alert = await site.database.read(alerts.find, type_="accounting_gap", subject=point.point)
    assert (alert.alert.state, alert.alert.closed_by) == (AlertState.CANCELED, "SYSTEM")


async def test_a_replaced_predecessor_is_noticed(site) -> None:
    point = await site.make_point()
    honest, forged = Gateway(point.point), Gateway(point.point)
    honest.segment([record(10**9)])
    second = honest.segment([record(1)])
    await _put(site, forged.segment([record(1)]), second)
    assert (await site.services.collect("cloud1")).gaps == ("gw-1",)


async def test_a_damaged_segment_is_kept_aside_and_reported_and_the_rest_is_counted(site) -> None:
    point = await site.make_point()
    gateway = Gateway(point.point)
    key, data = gateway.segment([record(1)])
    await _put(site, (key, data[:-1] + bytes([data[-1] ^ 1])), gateway.segment([record(5)]))
    summary = await site.services.collect("cloud1")
    assert (summary.segments, summary.bytes, summary.gaps) == (1, 5, ("gw-1",))
    kept = list((site.folder / "logs" / "damaged").rglob("*.segment"))
    assert len(kept) == 1
    assert kept[0].read_bytes()[:-1] == data[:-1]
    assert await _stored_segments(site) == ()


async def test_what_is_no_segment_is_left_alone(site) -> None:
    await site.make_point()
    await _put(site, ("tx/readme.txt", b"hello"))
    assert (await site.services.collect("cloud1")).segments == 0
    assert await _stored_segments(site) == ("tx/readme.txt",)


async def test_many_segments_are_collected_page_by_page(site, monkeypatch) -> None:
    monkeypatch.setattr(collecting, "PAGE", 3)
    monkeypatch.setattr(collecting, "LINES_A_BATCH", 2)
    point = await site.make_point()
    gateway = Gateway(point.point)
    for number in range(10):
        await _put(site, gateway.segment([record(number, device=f"dev-{number}")]))
    summary = await site.services.collect("cloud1")
    assert (summary.segments, summary.gaps) == (10, ())
    assert len(_logged(site)) == 10
    assert await _stored_segments(site) == ()


async def test_a_store_that_stops_answering_loses_nothing(site) -> None:
    point = await site.make_point()
    gateway = Gateway(point.point)
    await _put(site, *(gateway.segment([record(10)]) for _ in range(6)))
    for name in ("list_documents", "get_document", "delete_document"):
        site.cloud.failures[name] = [UnavailableError("Down.")]
        with pytest.raises(UnavailableError):
            await site.services.collect("cloud1")
        assert "Down" in (await site.database.read(usage.stored_usage, point.point)).error
    summary = await site.services.collect("cloud1")
    assert summary.gaps == ()
    assert _counted(site) == _logged(site)
    assert sum(sent for _, sent in _counted(site).values()) == 60


async def test_two_processes_do_not_collect_at_once(site) -> None:
    point = await site.make_point()
    await site.database.write(
        usage.claim_collection, point.point, holder="elsewhere", now=NOW, until=int(site.clock()) + 1000
    )
    site.services.collector._alone = False
    with pytest.raises(ConflictError):
        await site.services.collect("cloud1")
    site.services.collector._alone = True
    await site.services.collect("cloud1")  # alone on an embedded database, an old claim is void


async def test_a_process_that_was_stopped_too_long_writes_nothing_beside_its_successor(site, monkeypatch) -> None:
    point = await site.make_point()
    await _put(site, Gateway(point.point).segment([record(100)]))
    holder = site.cloud.services["cloud1"].holder
    get = holder.get_document

    async def slow(key: str, limit: int = 1 << 24) -> bytes:
        data = await get(key, limit)
        site.clock.advance(HOUR)  # its claim ends, and somebody else begins
        now = int(site.clock())
        await site.database.write(usage.claim_collection, point.point, holder="successor", now=now, until=now + 600)
        return data

    monkeypatch.setattr(holder, "get_document", slow)
    site.services.collector._alone = False
    with pytest.raises(ConflictError):
        await site.services.collect("cloud1")
    assert _counted(site) == {}
    assert len(await _stored_segments(site)) == 1
    monkeypatch.undo()
    site.clock.advance(HOUR)
    await site.services.collect("cloud1")
    assert sum(sent for _, sent in _counted(site).values()) == 100
    assert _counted(site) == _logged(site)


async def test_killed_at_any_step_a_collection_counts_and_logs_exactly_once(site) -> None:
    point = await site.make_point()
    step, sent = 0, 0
    gateway = Gateway(point.point)
    while True:
        sent += 30
        await _put(site, gateway.segment([record(10)]), gateway.segment([record(20, device="dev-2")]))
        site.fuse.arm(step)
        crashed = False
        try:
            await site.services.collect("cloud1")
        except Crash:
            crashed = True
        site.fuse.arm(-1)
        site.boot()
        await site.services.collect("cloud1")
        assert _counted(site) == _logged(site)
        assert sum(total for _, total in _counted(site).values()) == sent
        assert await _stored_segments(site) == ()
        if not crashed:
            break
        step += 1
    assert step > 12


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_a_batch_is_in_the_log_once_however_much_of_it_was_written(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("logs")
    logs = LogFolder(folder)
    expected = b""
    for _ in range(data.draw(st.integers(1, 5))):
        batch = data.draw(st.binary(min_size=1, max_size=50))
        start = logs.length("a.log")
        for _ in range(data.draw(st.integers(0, 3))):  # killed after that much of it
            written = data.draw(st.integers(0, len(batch)))
            garbage = data.draw(st.booleans())
            torn = bytes(written) if garbage else batch[:written]  # zeros: power was lost before the data came
            logs.path("a.log").write_bytes(expected + torn)
        logs.write("a.log", start, batch)
        logs.write("a.log", start, batch)  # killed before the database knew
        expected += batch
        assert logs.path("a.log").read_bytes() == expected


def test_a_log_that_was_rotated_or_outlived_its_database_is_appended_to(tmp_path) -> None:
    logs = LogFolder(tmp_path)
    logs.write("a.log", 100, b"one\n")  # rotated: shorter than expected
    assert logs.path("a.log").read_bytes() == b"one\n"
    logs.path("a.log").write_bytes(b"0123456789abcdef\n")
    logs.write("a.log", 3, b"two\n")  # longer than start and batch: a later life wrote it
    assert logs.path("a.log").read_bytes() == b"0123456789abcdef\ntwo\n"


@pytest.mark.parametrize(
    "change",
    [
        {"sent": -1},
        {"sent": 2**50},
        {"status": 99},
        {"status": 600},
        {"device": "d" * 65},
        {"set_id": b"short"},
    ],
)
def test_a_segment_with_an_impossible_record_is_refused_whole(change) -> None:
    key, data = Gateway("pt-1").segment([record(1), record(**change)])
    with pytest.raises(FormatError, match="impossible"):
        tally_segment(key, data, point="pt-1", now=NOW)


@pytest.mark.parametrize(
    "key",
    [
        "tx/abc/gw-1/00000000",
        "tx/1774267200/gw-1/0",
        "tx/1774267200/gw-1",
        "tx/1774267200//00000000",
        "other/1774267200/gw-1/00000000",
        "tx/1774267200/gw-2/00000000",
        "tx/1774267200/gw-1/00000001",
        "tx/1774270800/gw-1/00000000",
    ],
)
def test_a_segment_under_a_wrong_key_is_refused(key) -> None:
    _, data = Gateway("pt-1").segment([record(1)])
    with pytest.raises(FormatError):
        tally_segment(key, data, point="pt-1", now=NOW)


def test_foreign_and_oversized_segments_are_refused() -> None:
    key, data = Gateway("pt-1").segment([record(1)])
    with pytest.raises(FormatError):
        tally_segment(key, data, point="pt-2", now=NOW)
    with pytest.raises(FormatError):
        tally_segment(key, data + bytes(MAX_SEGMENT_BYTES), point="pt-1", now=NOW)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_break_the_reader_of_segments(noise, in_place) -> None:
    key, data = Gateway("pt-1").segment([record(1), record(2)])
    broken = data[: len(data) - len(noise)] + noise if in_place else noise
    with contextlib.suppress(FormatError):
        tally_segment(key, broken, point="pt-1", now=NOW)


async def test_remembered_names_are_pruned_and_figures_stay(site) -> None:
    point = await site.make_point()
    await _put(site, Gateway(point.point).segment([record(100)]))
    await site.services.collect("cloud1")
    site.clock.advance(40 * 24 * HOUR)
    await site.services.collect("cloud1")
    names = await site.database.read(collection.known_segments, point.point, [segment_key(hour_of(NOW), "gw-1", 0)])
    assert names == set()
    assert sum(sent for _, sent in _counted(site).values()) == 100


async def test_after_a_collection_the_log_owes_nothing(site) -> None:
    point = await site.make_point()
    await _put(site, Gateway(point.point).segment([record(1, device=f"dev-{n}") for n in range(50)]))
    await site.services.collect("cloud1")
    assert await site.database.read(collection.pending_log_batches, point.point) == []
    with site.database.reading() as connection:
        owed = connection.execute(
            select(func.count()).select_from(transfer_bucket).where(transfer_bucket.c.unlogged.is_(True))
        ).scalar_one()
    assert owed == 0


def test_an_empty_segment_counts_nothing() -> None:
    header = SegmentHeader(point="pt-1", instance="gw-1", sequence=0, previous=bytes(32), opened=NOW * 1000)
    tally = tally_segment(segment_key(hour_of(NOW), "gw-1", 0), encode_header(header), point="pt-1", now=NOW)
    assert (tally.records, tally.sent, tally.figures) == (0, 0, {})
