"""Logs of cloud points: a line for each transaction where asked for, and rotation."""

import os

import pytest

from entrepot.core.times import DAY, HOUR
from entrepot.site.cloud.cmtrace import parse_line
from entrepot.site.cloud.collection import Collector
from entrepot.site.cloud.logfile import LogFolder, LogOptions
from entrepot.site.cloud.loops import CloudLoops
from entrepot.site.cloud.states import CloudAction

from .conftest import NOW, Crash, Gateway, SiteUnderTest, record


def _verbose(site: SiteUnderTest, options: LogOptions) -> None:
    site.services.collector = site.services.monitor._collector = Collector(
        site.database, site.folder / "logs", holder="test", clock=site.clock, options=options
    )


async def _ship(site: SiteUnderTest, gateway: Gateway, count: int) -> None:
    key, data = gateway.segment([record(1000 + number, time=NOW * 1000 + number) for number in range(count)])
    await site.cloud.services["cloud1"].holder.put_document(key, data)


def _lines(site: SiteUnderTest) -> list[str]:
    return (site.folder / "logs" / "CloudDP-cloud1.log").read_text("utf-8").splitlines()


async def test_at_verbose_level_every_transaction_has_a_line_of_its_own(site):
    point = await site.make_point()
    _verbose(site, LogOptions(verbose=True))
    await _ship(site, Gateway(point.point), 20)
    await site.services.collect("cloud1")
    found = [parse_line(line) for line in _lines(site)]
    single = [line for line in found if line.text.startswith("transaction=")]
    assert len(single) == 20
    assert [line.time for line in single] == [NOW * 1000 + number for number in range(20)]
    assert "status=200 bytes=1007 milliseconds=5 method=GET delivery=stream" in single[7].text
    assert sum("requests=20 bytes=20190" in line.text for line in found) == 1


@pytest.mark.parametrize("step", range(0, 40, 3))
async def test_killed_at_any_step_verbose_lines_are_written_exactly_once(site, step):
    point = await site.make_point()
    gateway = Gateway(point.point)
    for _ in range(3):
        await _ship(site, gateway, 4)
    _verbose(site, LogOptions(verbose=True))
    site.fuse.arm(step)
    try:
        await site.services.monitor.collect(point.point)
    except Crash:
        pass
    except BaseExceptionGroup as group:
        assert group.subgroup(Crash)
    site.fuse.arm(-1)
    site.boot()
    _verbose(site, LogOptions(verbose=True))
    await site.services.monitor.collect(point.point)
    texts = [parse_line(line).text for line in _lines(site)]
    assert sum(text.startswith("transaction=") for text in texts) == 12
    sums = [text for text in texts if text.startswith("hour=")]
    assert sum(int(text.partition("requests=")[2].split()[0]) for text in sums) == 12


def _dated(path, moment: float) -> None:
    os.utime(path, (moment, moment))


def test_a_log_is_rotated_when_its_day_is_over(tmp_path):
    logs = LogFolder(tmp_path)
    logs.write("CloudDP-x.log", 0, b"yesterday\r\n")
    _dated(tmp_path / "CloudDP-x.log", NOW - DAY)
    rotated = logs.rotate("CloudDP-x.log", now=NOW, options=LogOptions())
    assert rotated is not None
    assert rotated.name == "CloudDP-x-20260323T120000Z.log"
    assert rotated.read_bytes() == b"yesterday\r\n"
    assert logs.length("CloudDP-x.log") == 0
    logs.write("CloudDP-x.log", 0, b"today\r\n")
    _dated(tmp_path / "CloudDP-x.log", NOW)
    assert logs.rotate("CloudDP-x.log", now=NOW + 60, options=LogOptions()) is None


def test_a_log_that_is_too_large_is_rotated_at_once_and_never_over_another(tmp_path):
    logs = LogFolder(tmp_path)
    for _ in range(2):
        logs.write("CloudDP-x.log", 0, b"x" * 100)
        _dated(tmp_path / "CloudDP-x.log", NOW)
        assert logs.rotate("CloudDP-x.log", now=NOW, options=LogOptions(rotate_bytes=100)) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "CloudDP-x-20260323T120000Z-1.log",
        "CloudDP-x-20260323T120000Z.log",
    ]


async def test_logs_of_a_deleted_cloud_point_go_when_they_are_too_old(site):
    point = await site.make_point()
    loops, folder = CloudLoops(site.services), site.folder / "logs"
    await _ship(site, Gateway(point.point), 1)
    await site.services.collect("cloud1")
    await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    last, rotated = folder / "CloudDP-cloud1.log", folder / "CloudDP-cloud1-20260323T120001Z.log"
    rotated.write_text("x")
    os.utime(last, (NOW + 1, NOW + 1))
    for moment, there in ((NOW + 35 * DAY, True), (NOW + 35 * DAY + HOUR, False)):
        site.clock.now = moment
        await loops.collect_once()
        assert (last.exists(), rotated.exists()) == (there, there)


def test_logs_that_are_written_and_what_others_keep_beside_them_stay(tmp_path):
    names = {
        "CloudDP-here.log": True,
        "CloudDP-here-20250101T000000Z.log": True,  # it goes with its own log's next rotation
        "CloudDP-gone.log": False,
        "CloudDP-gone-20250101T000000Z-2.log": False,
        "CloudDP-gone-20260322T000000Z.log": True,
        "CloudDP-notes.log": True,
        "CloudMgr.log": True,
    }
    for name in names:
        (tmp_path / name).write_text("my notes" if "notes" in name else "<![LOG[a line]LOG]!>")
        os.utime(tmp_path / name, (NOW - 50 * DAY, NOW - 50 * DAY))
    LogFolder(tmp_path).drop_left({"CloudDP-here.log"}, now=NOW, options=LogOptions())
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_thirty_five_days_are_kept_and_no_other_file_is_touched(tmp_path):
    logs = LogFolder(tmp_path)
    names = {
        "CloudDP-x-20260216T115959Z.log": False,
        "CloudDP-x-20260216T120001Z.log": True,
        "CloudDP-x-20250101T000000Z-3.log": False,
        "CloudDP-xy-20250101T000000Z.log": True,
        "CloudDP-x-notes.log": True,
    }
    for name in names:
        (tmp_path / name).write_text("x")
    logs.rotate("CloudDP-x.log", now=NOW, options=LogOptions())
    assert {name: (tmp_path / name).exists() for name in names} == names
