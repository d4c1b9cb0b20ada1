"""Boundaries: ranges, addresses, groups."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError
from entrepot.rules.boundaries import BoundaryGroup, Range, Speed, groups_of, parse_addresses, parse_range, reach


def inside(text, address):
    return parse_range(text).holds(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("text", "within", "without"),
    [
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0", "::a00:1"]),
        ("10.0.0.1-10.0.0.9", ["10.0.0.1", "10.0.0.9"], ["10.0.0.0", "10.0.0.10"]),
        (" 10.0.0.1 - 10.0.0.9 ", ["10.0.0.5"], []),
        ("10.0.0.7", ["10.0.0.7"], ["10.0.0.6", "10.0.0.8"]),
        ("2001:db8::/32", ["2001:db8::1", "2001:db8:ffff:ffff::"], ["2001:db9::", "10.0.0.1"]),
        ("2001:db8::1-2001:db8::9", ["2001:db8::5"], ["2001:db8::a"]),
        ("0.0.0.0/0", ["255.255.255.255"], ["::1"]),
    ],
)
def test_ranges_hold_their_ends_and_nothing_beyond(text, within, without):
    assert all(inside(text, address) for address in within)
    assert not any(inside(text, address) for address in without)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0",
        "10.0.0.0/33",
        "10.0.0.9-10.0.0.1",
        "10.0.0.1-::1",
        "1-2",
        "a-b",
        "10.0.0.1-",
        "-",
        "x" * 200,
        "fe80::1%eth0",
    ],
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(BadInputError):
        parse_range(text)


def test_a_subnet_with_host_bits_gets_a_suggestion():
    with pytest.raises(BadInputError, match=r"Did you mean 10\.0\.0\.0/24\?"):
        parse_range("10.0.0.5/24")


def test_what_clients_name_is_read_as_far_as_it_goes():
    found = parse_addresses(["10.0.0.1", "junk", "::ffff:10.0.0.2", "fe80::1%eth0", "", "x" * 10_000])
    assert [str(address) for address in found] == ["10.0.0.1", "10.0.0.2", "fe80::1"]


def test_a_client_cannot_make_us_look_at_endless_addresses():
    assert len(parse_addresses(f"10.0.{number // 256}.{number % 256}" for number in range(10_000))) == 64


def group(name, ranges, **points):
    return BoundaryGroup(id=name, ranges=tuple(map(parse_range, ranges)), points=tuple(points.items()))


GROUPS = [
    group("berlin", ["10.1.0.0/16", "2001:db8:1::/48"], a=Speed.FAST, b=Speed.SLOW),
    group("lab", ["10.1.7.0/24"], b=Speed.FAST, c=Speed.SLOW),
    group("empty", [], d=Speed.FAST),
]


def test_where_groups_overlap_a_client_gets_the_points_of_all_with_the_best_speed():
    assert reach(parse_addresses(["10.1.7.5"]), GROUPS) == {"a": Speed.FAST, "b": Speed.FAST, "c": Speed.SLOW}
    assert reach(parse_addresses(["10.1.8.5"]), GROUPS) == {"a": Speed.FAST, "b": Speed.SLOW}
    assert reach(parse_addresses(["2001:db8:1::9"]), GROUPS) == {"a": Speed.FAST, "b": Speed.SLOW}
    assert reach(parse_addresses(["192.0.2.1"]), GROUPS) == {}
    assert reach([], GROUPS) == {}


def test_the_order_of_groups_does_not_matter():
    addresses = parse_addresses(["10.1.7.5"])
    assert reach(addresses, GROUPS) == reach(addresses, GROUPS[::-1])


addresses = st.ip_addresses()


@given(addresses, addresses, addresses)
def test_an_interval_holds_exactly_what_lies_between(first, last, asked):
    if first.version != last.version or last < first:
        with pytest.raises(BadInputError):
            parse_range(f"{first}-{last}")
        return
    expected = asked.version == first.version and first <= asked <= last
    assert inside(f"{first}-{last}", str(asked)) == expected


@given(addresses, st.integers(0, 128))
def test_a_subnet_agrees_with_the_standard_library(address, bits):
    prefix = min(bits, address.max_prefixlen)
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    assert parse_range(str(network)).holds(address)
    assert parse_range(str(network)) == Range(
        version=address.version, first=int(network.network_address), last=int(network.broadcast_address)
    )


@given(st.text(max_size=150))
def test_foreign_text_raises_an_error_of_ours_or_is_a_range(text):
    with contextlib.suppress(BadInputError):
        assert parse_range(text).first <= parse_range(text).last
    parse_addresses([text])


def test_a_group_is_found_by_any_of_its_clients_addresses():
    found = groups_of(parse_addresses(["192.0.2.1", "10.1.7.5"]), GROUPS)
    assert [one.id for one in found] == ["berlin", "lab"]
