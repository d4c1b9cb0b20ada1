"""What the site sends is counted once, wherever it is killed (R25)."""

import threading

import pytest

from entrepot.core.times import hour_of
from entrepot.database import usage
from entrepot.site.cloud.metering import Meter

from .conftest import NOW, SITE, Crash


def a_meter(site, folder: str = "tallies") -> Meter:
    """The meter of a process that begins now."""
    return Meter(site.database, clock=site.clock, folder=site.folder / folder, site=SITE)


def counted(site) -> tuple[int, int, int]:
    """Bytes, writes and reads, as they are in the database."""
    with site.database.reading() as connection:
        sent = usage.totals_since(connection, "pt-1", 0).uploaded
        names = connection.exec_driver_sql("SELECT sum(site_writes), sum(site_reads) FROM usage_hour").one()
    return sent, names[0] or 0, names[1] or 0


def test_what_was_counted_before_a_kill_is_counted_after_it_once(site) -> None:
    killed = a_meter(site)
    killed.add("pt-1", 500, writes=1)
    killed.flush()
    killed.add("pt-1", 30)
    killed.add("pt-1", 4, reads=2)
    assert counted(site) == (500, 1, 0)
    for _ in range(2):
        a_meter(site).flush()
        assert counted(site) == (534, 1, 2)


def test_what_the_site_fetches_is_counted_apart_and_outlives_a_kill(site) -> None:
    killed = a_meter(site)
    killed.fetching("pt-1")(700)
    killed.add("pt-1", 5)
    a_meter(site).flush()
    with site.database.reading() as connection:
        totals = usage.totals_since(connection, "pt-1", 0)
    assert (totals.fetched, totals.uploaded, totals.sent) == (700, 5, 0)


def test_counts_that_an_earlier_version_left_are_counted(site) -> None:
    (site.folder / "tallies").mkdir(exist_ok=True)
    (site.folder / "tallies" / "0000000003.tally").write_bytes(f"pt-1 {hour_of(NOW)} 500 1 2\n".encode())
    a_meter(site).flush()
    assert counted(site) == (500, 1, 2)


@pytest.mark.parametrize("step", [0, 1])
def test_killed_while_it_writes_down_nothing_is_lost_or_doubled(site, step) -> None:
    killed = a_meter(site)
    killed.add("pt-1", 500)
    site.fuse.arm(step)  # before the transaction, or when it is committed and its files are still there
    with pytest.raises(Crash):
        killed.flush()
    next_life = a_meter(site)
    next_life.add("pt-1", 7)
    next_life.flush()
    assert counted(site)[0] == 507
    assert list((site.folder / "tallies").glob("*.tally")) == []


def test_processes_with_folders_of_their_own_drop_nothing_of_each_other(site) -> None:
    busy, killed = a_meter(site), a_meter(site, "elsewhere")
    killed.add("pt-1", 30)
    for _ in range(3):
        busy.add("pt-1", 500)
        busy.flush()
    a_meter(site, "elsewhere").flush()
    assert counted(site)[0] == 1530


def test_a_disk_that_refuses_is_told_once(site, capsys) -> None:
    (site.folder / "full").write_bytes(b"no folder")
    meter = a_meter(site, "full/below")
    capsys.readouterr()
    for _ in range(3):
        meter.add("pt-1", 500)
    assert capsys.readouterr().out.count("counts_not_kept") == 1
    meter.flush()
    assert counted(site)[0] == 1500


def test_a_torn_line_costs_no_other(site) -> None:
    a_meter(site).add("pt-1", 500)
    (file,) = (site.folder / "tallies").glob("*.tally")
    with file.open("ab") as more:
        more.write(f"pt-1 {hour_of(NOW)} 9".encode())
    a_meter(site).flush()
    assert counted(site)[0] == 500


def test_threads_that_count_while_others_write_down_lose_nothing(site) -> None:
    meter = a_meter(site)

    def count() -> None:
        for number in range(200):
            meter.add("pt-1", 1)
            if number % 50 == 0:
                meter.flush()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meter.flush()
    assert counted(site)[0] == 800
    assert list((site.folder / "tallies").glob("*.tally")) == []
