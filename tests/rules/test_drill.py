"""What a load drill's figures mean."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.protocol.drillapi import drill_device, drill_of, is_drill
from entrepot.rules.drill import Load, Times, clients_per_day, conclusions

FINE = Load(
    devices=50,
    rate=0,
    bytes_per_second=116_000_000,
    steady_seconds=30,
    requests=1000,
    whole=1000,
    failed=0,
    damaged=0,
    limited=0,
    unavailable=0,
    refused=0,
    instances=2,
    instance_cpu=(40.0, 35.0),
    own_cpu=50,
    own_delay=1.5,
)


def words(**changes: object) -> str:
    return " ".join(conclusions(msgspec.structs.replace(FINE, **changes)))


@given(st.lists(st.floats(0.02, 1e6), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_right_within_the_width_of_a_class(taken, share) -> None:
    times = Times()
    for one in taken:
        times.add(one)
    exact = sorted(taken)[max(0, -(-len(taken) * int(share * 100) // 100) - 1)]
    assert exact / 1.05 <= times.within(share) <= exact * 1.05
    assert (times.count, times.most) == (len(taken), max(taken))


def test_without_any_time_there_is_no_percentile() -> None:
    assert Times().within(0.5) == 0


def test_the_reference_products_load_is_the_yardstick() -> None:
    assert clients_per_day(58_000_000) == 50_112
    assert "about 100,224 clients at 100 MB in 24 hours, 50,112 per instance: 2.0 times the 50,000" in words()
    assert "29 % of the 50,000" in words(bytes_per_second=17_000_000, instances=1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rate": 2_400_000}, "held to their rate and got it: the service can do more"),
        ({"own_cpu": 97}, "This machine was the bottleneck"),
        ({"own_delay": 80}, "too busy to keep up (a tenth of what it was to do came 80 ms late or later)"),
        ({"instance_cpu": (99.0, 20.0)}, "An instance used 99 % of a core: the service was the bottleneck"),
        ({"limited": 3}, "Limits of the gateways held the load back"),
        ({}, "Neither this machine nor an instance was known to be busy"),
        ({"instance_cpu": ()}, "Neither this machine nor an instance was known to be busy"),
        ({"damaged": 2}, "2 objects were not what their name says"),
        ({"refused": 5}, "5 of 50 devices were refused"),
        ({"failed": 10}, "10 of 1,000 requests failed (1.0 %)"),
        ({"unavailable": 4}, "4 requests met a service that had no room or was stopped (503)"),
        ({"bytes_per_second": 0, "whole": 0}, "Nothing was measured"),
        ({"steady_seconds": 2}, "lasted 2.0 s only"),
    ],
)
def test_what_held_the_load_back_is_said(changes, said) -> None:
    assert said in words(**changes)


def test_synthetic_devices_are_told_from_others_and_counted_as_one() -> None:
    device = drill_device("drill-0123456789abcdef", 17)
    assert (device, drill_of(device)) == ("drill-0123456789abcdef-0017", "drill-0123456789abcdef")
    assert is_drill(device)
    assert is_drill(drill_of(device))
    assert drill_of("dev-0123456789abcdef") == "dev-0123456789abcdef"
    assert not is_drill("dev-0123456789abcdef")
