"""What one address may do: over a real socket, and the decisions behind it."""

import asyncio
import contextlib
import json

import pytest

from entrepot.core.errors import LimitedError, UnauthenticatedError
from entrepot.core.sizes import MIB
from entrepot.protocol.control import AddressLimits, GatewaySettings
from entrepot.web.addresses import FAILURE_BURST_SECONDS, AddressGate, forwarded_address, peer_address
from entrepot.web.readers import OpenFile
from entrepot.web.throttle import Throttle


async def refused(http, url, object_id, bearer):
    """A request that must be answered 429, with all that belongs to it."""
    answer = await http.request("GET", f"{url}/objects/{object_id.hex()}", bearer=bearer, accept=(429,))
    assert (answer.status, answer.headers["content-type"]) == (429, "application/problem+json")
    assert int(answer.headers["retry-after"]) >= 1
    problem = json.loads(answer.body)
    assert (problem["code"], problem["retryable"]) == ("limited", True)
    assert problem["next_step"]
    return problem["detail"]


async def test_an_address_that_asks_too_often_is_slowed_down_whatever_device_asks(plane, served, http, stock, records):
    object_id, _ = stock(10)
    plane.admission.gate.limits = AddressLimits(requests_per_second=0.001)
    async with served(plane) as url:
        await http.read_object(url, object_id, bearer="good")
        assert "one address" in await refused(http, url, object_id, "other")
    assert [record.status for record in records] == [200], "what a limit refused is counted, not recorded"
    assert plane.limited == 1


async def test_what_is_no_request_for_an_object_counts_for_its_address_but_the_site_gets_in(plane, served, http):
    plane.admission.gate.limits = AddressLimits(requests_per_second=1e-6)  # one, then none for days
    async with served(plane) as url:
        first = await http.request("GET", f"{url}/objects/zz", bearer="good", accept=(400,))
        assert first.status == 400
        for method, path in (
            ("GET", "/objects/zz"),
            ("POST", "/objects/" + "0" * 64),
            ("GET", "/nothing"),
            ("DELETE", "/documents/control"),
        ):
            assert (await http.request(method, url + path, bearer="good", accept=(429,))).status == 429
        assert (await http.request("GET", f"{url}/objects", bearer="site")).status == 200


async def test_a_request_counts_once_also_where_its_bytes_must_be_fetched_first(
    plane, served, http, stock, records, monkeypatch
):
    object_id, data = stock(10)
    async with served(plane) as url:
        await http.read_object(url, object_id, bearer="good")
        monkeypatch.setattr(OpenFile, "cached", lambda *_: None)  # as if the page cache had lost it
        plane.admission.gate.limits = AddressLimits(requests_per_second=1.0)  # two at once, the next in a second
        for _ in range(2):
            assert await http.read_object(url, object_id, bearer="good") == data
        await refused(http, url, object_id, "good")
    assert [record.status for record in records] == [200, 200, 200]


async def test_an_address_holds_no_more_downloads_than_it_may(plane, served, http, stock):
    object_id, _ = stock(32 * MIB)
    plane.admission.obey(GatewaySettings(addresses=AddressLimits(downloads=2)))
    async with served(plane) as url, contextlib.AsyncExitStack() as stack:
        for bearer in ("good", "other"):
            pieces = await stack.enter_async_context(
                contextlib.aclosing(http.get_object(url, object_id, bearer=bearer))
            )
            await anext(pieces)
        assert "2 downloads" in await refused(http, url, object_id, "good")
        await pieces.aclose()
        async with asyncio.timeout(60):
            while len(plane.downloads) > 1:  # noqa: ASYNC110  # the server's own task ends it
                await asyncio.sleep(0.01)
        pieces = await stack.enter_async_context(contextlib.aclosing(http.get_object(url, object_id, bearer="other")))
        assert await anext(pieces)


async def test_an_address_with_too_many_bad_tokens_is_refused_unread_but_known_devices_go_on(
    plane, served, http, stock, keyring
):
    """A NAT's other devices: whoever was served a moment ago still is."""
    object_id, data = stock(10)
    plane.admission.gate.limits = AddressLimits(failures_per_second=2 / FAILURE_BURST_SECONDS)
    keyring.known.add("good")
    async with served(plane) as url:
        for bearer in ("guess", None):
            with pytest.raises(UnauthenticatedError):
                await http.read_object(url, object_id, bearer=bearer)
        assert "failed requests" in await refused(http, url, object_id, "guess")
        assert "failed requests" in await refused(http, url, object_id, "other")
        assert await http.read_object(url, object_id, bearer="good") == data


async def test_the_sites_own_work_is_not_held_up_by_others_at_its_address(plane, served, http):
    plane.admission.gate.limits = AddressLimits(failures_per_second=1 / FAILURE_BURST_SECONDS)
    async with served(plane) as url:
        for _ in range(3):
            with pytest.raises(UnauthenticatedError):
                await http.request("GET", f"{url}/objects", bearer="guess")
        assert (await http.request("GET", f"{url}/objects", bearer="site")).status == 200


def test_failures_are_forgiven_with_time():
    gate = AddressGate(AddressLimits(failures_per_second=1.0))
    for _ in range(int(FAILURE_BURST_SECONDS)):
        gate.trust("a", now=0.0)
        gate.failed("a", now=0.0)
    with pytest.raises(LimitedError):
        gate.trust("a", now=0.5)
    gate.trust("b", now=0.5)
    gate.trust("a", now=1.1)


def test_limits_of_zero_limit_nothing():
    gate = AddressGate(AddressLimits(requests_per_second=0, failures_per_second=0, downloads=0))
    for _ in range(100_000):
        gate.enter("a", now=0.0)
        gate.failed("a", now=0.0)
        gate.trust("a", now=0.0)


def test_memory_does_not_grow_with_the_number_of_addresses():
    throttle = Throttle("one address", keys=100)
    for number in range(10_000):
        throttle.take(f"address {number}", rate=1.0, now=float(number))
        throttle.count(f"other {number}", rate=1.0, now=float(number))
    assert len(throttle) == 100


@pytest.mark.parametrize(
    ("peer", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_one_customer_counts_as_one_address(peer, counted_as):
    assert peer_address({"client": (peer, 1)}) == counted_as


def test_a_request_without_a_known_peer_has_an_address_of_its_own():
    assert peer_address({}) == ""


@pytest.mark.parametrize(
    ("headers", "counted_as"),
    [
        ([], "10.0.0.1"),
        ([(b"x-forwarded-for", b"192.0.2.7")], "192.0.2.7"),
        ([(b"x-forwarded-for", b"198.51.100.1, 192.0.2.7")], "192.0.2.7"),
        ([(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-for", b"192.0.2.7:5123")], "192.0.2.7"),
        ([(b"x-forwarded-for", b"[2001:db8:1:2::9]:443")], "2001:db8:1:2::/64"),
        ([(b"x-forwarded-for", b"")], "10.0.0.1"),
    ],
)
def test_behind_a_front_only_what_the_front_wrote_counts(headers, counted_as):
    assert forwarded_address({"client": ("10.0.0.1", 1), "headers": headers}) == counted_as
