"""When a cloud's figure and the site's own agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.rules.reconciling import SLACK, judge_sent, judge_stored

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
