"""Load drills in the database: one at a time for each cloud point, reported once."""

import msgspec
import pytest

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.database import drills, usage
from entrepot.database.drills import Drill

from .conftest import DRILL_REPORT

ONE = Drill(
    id="drill-1",
    point="pt-1",
    point_name="cloud-eu",
    by="anna",
    begun=1000,
    expires=1090,
    content_name="App",
    version=1,
    devices=5,
    bytes=10**9,
)


def test_the_next_drill_waits_for_the_report_or_the_end_of_the_tokens(database) -> None:
    second = msgspec.structs.replace(ONE, id="drill-2", begun=1089, expires=1200)
    with database.transaction() as connection:
        drills.begin(connection, ONE)
        drills.begin(connection, msgspec.structs.replace(ONE, id="drill-9", point="pt-2"))  # another cloud point
        with pytest.raises(ConflictError, match="under way"):
            drills.begin(connection, second)
        drills.begin(connection, msgspec.structs.replace(second, begun=1090))
    with database.transaction() as connection:
        drills.report(connection, "drill-2", DRILL_REPORT)
        drills.begin(connection, msgspec.structs.replace(ONE, id="drill-3", begun=1100, expires=1190))
    with database.reading() as connection:
        found = [(one.drill, one.report) for one in drills.listed(connection, "pt-1")]
    assert found == [("drill-3", None), ("drill-2", DRILL_REPORT), ("drill-1", None)]


def test_a_report_is_kept_once_and_for_as_long_as_figures_are(database) -> None:
    with database.transaction() as connection:
        drills.begin(connection, ONE)
        drills.report(connection, ONE.id, DRILL_REPORT)
        with pytest.raises(ConflictError, match="already"):
            drills.report(connection, ONE.id, DRILL_REPORT)
        with pytest.raises(NotFoundError):
            drills.report(connection, "drill-0", DRILL_REPORT)
        assert drills.prune(connection, before=ONE.begun) == 0
        assert drills.prune(connection, before=ONE.begun + 1) == 1


def test_what_drills_transferred_is_kept_beside_the_hour(database) -> None:
    with database.transaction() as connection:
        usage.add_to_hour(connection, "pt-1", 3600, sent=10, drilled=4)
        usage.add_to_hour(connection, "pt-1", 3600, sent=5)
        [hour] = usage.hours(connection, "pt-1", since=0, until=7200, limit=9)
        total = usage.totals_since(connection, "pt-1", 0)
    assert (hour.sent, hour.drilled) == (total.sent, total.drilled) == (15, 4)
