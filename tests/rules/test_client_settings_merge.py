"""Client settings: which set decides (R5, R43)."""

from hypothesis import given
from hypothesis import strategies as st

from entrepot.protocol.policy import ClientSettings
from entrepot.rules.settings import SettingsSet, merge

DEFAULT = {"allow_cloud": False, "poll_minutes": 60}


def custom(name, priority, **values):
    return SettingsSet(name=name, priority=priority, values=values)


def test_r5_the_default_is_no():
    assert ClientSettings().allow_cloud is False
    assert merge(DEFAULT, []).values["allow_cloud"] is False


def test_the_default_decides_what_nobody_else_does():
    found = merge(DEFAULT, [custom("laptops", 1, allow_cloud=True)])
    assert found.values == {"allow_cloud": True, "poll_minutes": 60}
    assert found.decided_by == {"allow_cloud": "laptops", "poll_minutes": "default"}


def test_r43_the_lowest_priority_number_wins_value_by_value():
    found = merge(
        DEFAULT,
        [
            custom("b", 2, allow_cloud=True, poll_minutes=10),
            custom("a", 1, allow_cloud=False),
            custom("c", 3, poll_minutes=5),
        ],
    )
    assert found.values == {"allow_cloud": False, "poll_minutes": 10}
    assert found.decided_by == {"allow_cloud": "a", "poll_minutes": "b"}


def test_a_set_that_says_nothing_leaves_the_decision():
    assert (
        merge(DEFAULT, [custom("a", 1, allow_cloud=None), custom("b", 2, allow_cloud=True)]).values["allow_cloud"]
        is True
    )


def test_settings_that_nobody_knows_are_ignored():
    assert merge(DEFAULT, [custom("a", 1, colour="red")]).values == DEFAULT


@given(st.lists(st.tuples(st.integers(1, 9999), st.none() | st.booleans()), unique_by=lambda one: one[0]), st.randoms())
def test_order_of_listing_does_not_matter_and_the_lowest_that_decides_wins(sets, random):
    made = [custom(f"s{priority}", priority, allow_cloud=value) for priority, value in sets]
    expected = next((value for _, value in sorted(sets, key=lambda one: one[0]) if value is not None), False)
    shuffled = made[:]
    random.shuffle(shuffled)
    assert merge(DEFAULT, made) == merge(DEFAULT, shuffled)
    assert merge(DEFAULT, made).values["allow_cloud"] is expected
