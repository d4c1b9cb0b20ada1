"""The DNS record of a cloud point: shown, and checked (R6)."""

import pytest

from entrepot.site.cloud.dns import Resolved, host_of, problem_with, record_for, system_resolver

NAMES = {
    "good.contoso.com": Resolved(canonical="SVC.cloud.example.", addresses=("192.0.2.1",)),
    "flat.contoso.com": Resolved(canonical="flat.contoso.com", addresses=("192.0.2.1", "192.0.2.9")),
    "both.contoso.com": Resolved(canonical="both.contoso.com", addresses=("192.0.2.1", "2001:db8::1")),
    "stale.contoso.com": Resolved(canonical="old.cloud.example", addresses=("198.51.100.7",)),
    "svc.cloud.example": Resolved(canonical="svc.cloud.example", addresses=("192.0.2.1",)),
}


async def _resolver(name: str) -> Resolved:
    return NAMES.get(name, Resolved(canonical="", addresses=()))


@pytest.mark.parametrize(
    ("address", "host", "kind"),
    [
        ("svc.cloud.example:443", "svc.cloud.example", "CNAME"),
        ("192.0.2.1:8443", "192.0.2.1", "A"),
        ("[2001:db8::1]:443", "2001:db8::1", "AAAA"),
    ],
)
def test_the_record_to_create_leads_to_the_clouds_address(address, host, kind) -> None:
    record = record_for("cloud1.contoso.com", address)
    assert record is not None
    assert (host_of(address), record.value, record.type, record.name) == (host, host, kind, "cloud1.contoso.com")


@pytest.mark.parametrize("fqdn", ["good.contoso.com", "flat.contoso.com"])
async def test_an_alias_or_the_same_address_is_good(fqdn) -> None:
    assert await problem_with(fqdn, "svc.cloud.example:443", _resolver) == ""


async def test_a_missing_record_is_told_with_what_to_create() -> None:
    problem = await problem_with("new.contoso.com", "svc.cloud.example:443", _resolver)
    assert "CNAME svc.cloud.example" in problem


async def test_a_record_that_leads_elsewhere_is_told() -> None:
    problem = await problem_with("stale.contoso.com", "svc.cloud.example:443", _resolver)
    assert "198.51.100.7" in problem
    assert "svc.cloud.example" in problem


async def test_an_address_record_is_compared_with_the_address() -> None:
    assert await problem_with("good.contoso.com", "192.0.2.1:8443", _resolver) == ""
    assert await problem_with("stale.contoso.com", "192.0.2.1:8443", _resolver) != ""


async def test_an_address_beside_the_right_one_is_told() -> None:
    """One that clients would be sent to in turn; an address of the other family may be the same machine's."""
    problem = await problem_with("flat.contoso.com", "192.0.2.1:8443", _resolver)
    assert "192.0.2.9" in problem
    assert "Remove" in problem
    assert await problem_with("both.contoso.com", "192.0.2.1:8443", _resolver) == ""


async def test_before_the_cloud_gave_an_address_nothing_is_claimed() -> None:
    assert record_for("good.contoso.com", "") is None
    assert "not given" in await problem_with("good.contoso.com", "", _resolver)


async def test_the_systems_resolver_knows_this_computer() -> None:
    assert "127.0.0.1" in (await system_resolver("localhost")).addresses
    assert (await system_resolver("no-such-host.invalid")).addresses == ()
