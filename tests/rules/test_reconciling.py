"""When a cloud's figure and the site's own agree."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.times import DAY
from entrepot.rules.reconciling import (
    MOST_DAYS,
    SETTLED_AFTER,
    SLACK,
    awaited,
    days_to_compare,
    judge_sent,
    judge_stored,
    lasting,
)

GB = 10**9


@pytest.mark.parametrize(
    ("by_cloud", "by_site", "word", "named"),
    [
        (100 * GB, 100 * GB, "agrees", ""),
        (110 * GB, 100 * GB, "agrees", ""),  # heads, TLS, probes
        (97 * GB, 100 * GB, "agrees", ""),  # downloads that broke off
        (130 * GB, 100 * GB, "differs", "gaps in the records"),
        (60 * GB, 100 * GB, "differs", "lag behind"),
        (SLACK, 0, "agrees", ""),
        (SLACK + 1, 0, "differs", "anything else uses the service"),
        (None, 5, "unknown", "cloud does not tell"),
        (5, None, "unknown", "not counted yet"),
    ],
)
def test_what_left_the_cloud_is_held_against_the_records(by_cloud, by_site, word, named) -> None:
    verdict = judge_sent(by_cloud, by_site)
    assert verdict.word == word
    assert named in verdict.message


@pytest.mark.parametrize(
    ("by_cloud", "by_site", "word", "named"),
    [
        (104 * GB, 100 * GB, "agrees", ""),
        (96 * GB, 100 * GB, "agrees", ""),
        (120 * GB, 100 * GB, "differs", "more than the site's books"),
        (80 * GB, 100 * GB, "differs", "sent again"),
        (None, 5, "unknown", "cloud does not tell"),
        (5, None, "unknown", "not counted yet"),
    ],
)
def test_what_is_stored_is_held_against_the_books(by_cloud, by_site, word, named) -> None:
    verdict = judge_stored(by_cloud, by_site)
    assert verdict.word == word
    assert named in verdict.message


@given(st.integers(0, 10**15))
def test_equal_figures_agree_and_every_difference_has_a_message(figure) -> None:
    assert judge_sent(figure, figure).word == judge_stored(figure, figure).word == "agrees"
    for verdict in (judge_sent(2 * figure + 2 * SLACK, figure), judge_stored(2 * figure + 2 * SLACK, figure)):
        assert verdict.word == "differs"
        assert verdict.message


@given(
    moments=st.lists(st.integers(0, 20 * DAY), min_size=1, max_size=40),
    ready=st.integers(1, 3 * DAY),
    late=st.integers(0, 2 * DAY),
)
def test_every_whole_day_is_compared_once_and_none_before_its_figures_are_there(moments, ready, late) -> None:
    compared, seen = 0, []
    for now in sorted(moments):
        collected = max(0, now - late)
        days = days_to_compare(now, ready=ready, collected=collected, compared=compared)
        if days is not None:
            seen.append(days)
            compared = days[1]
            assert days[1] <= min(collected, now - SETTLED_AFTER)
            assert 0 < days[1] - days[0] <= MOST_DAYS * DAY
            assert days[1] % DAY == 0
    assert all(until <= since for (_, until), (since, _) in itertools.pairwise(seen)), "no hour is compared twice"


def test_only_what_differs_twice_on_end_lasts() -> None:
    now = [("sent", "differs"), ("stored", "differs"), ("links", "unknown")]
    assert lasting(now, differed={"sent", "links"}, lasted=set()) == ("sent",)
    assert lasting(now, differed=set(), lasted=set()) == ()


@given(st.lists(st.sampled_from(["differs", "agrees", "unknown"]), max_size=12))
def test_days_on_which_a_figure_is_not_told_count_neither_way(words) -> None:
    differed, lasted = set(), set()
    for word in words:
        now = [("sent", word)]
        lasted, waits = {*lasting(now, differed=differed, lasted=lasted)}, {*awaited(now, differed=differed)}
        differed = waits | ({"sent"} if word == "differs" else set())
    told = [word for word in words if word != "unknown"]
    assert bool(lasted) == (told[-2:] == ["differs", "differs"])
    assert bool(differed) == (told[-1:] == ["differs"])
