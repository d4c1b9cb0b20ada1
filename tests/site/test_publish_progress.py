"""What a publish says of itself: its pace, and versions whose size leaps."""

import os

from entrepot.core.sizes import GIB, MIB
from entrepot.protocol.contentapi import ContentInfo
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.publishing import format_seconds, pace_text


def test_pace_and_time_left() -> None:
    assert pace_text(0, expected=GIB, seconds=5) == pace_text(MIB, expected=0, seconds=0.5) == ""
    assert pace_text(100_000_000, expected=0, seconds=10) == ", 10.0 MB/s"
    assert pace_text(100_000_000, expected=700_000_000, seconds=10) == ", 10.0 MB/s, about 1 min left"
    assert pace_text(200, expected=100, seconds=10) == ", 20 B/s"


def test_readable_durations() -> None:
    assert [format_seconds(each) for each in (1, 59, 61, 3600, 7500)] == [
        "1 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "2 h 5 min",
    ]


async def test_a_leap_in_size_is_warned_about(site, source) -> None:
    (source / "small").write_bytes(os.urandom(5 * MIB))
    first = (await site.publish("App", source)).versions[-1]
    (source / "large").write_bytes(os.urandom(40 * MIB))
    await site.call("POST", "/contents/App/versions", TaskInfo, {})
    await site.run_tasks()
    versions = (await site.call("GET", "/contents/App", ContentInfo)).versions
    second = next(each for each in versions if each.number == 2)
    assert not any("larger" in warning for warning in first.warnings)
    assert "much larger than the version before" in second.warnings[0]
