"""Connections to clouds are kept as long as they are needed, and no longer."""

import msgspec
import pytest

from entrepot.core.secret import Secret
from entrepot.core.times import DAY, HOUR
from entrepot.protocol.cloudapi import RenewManagementCertificate
from entrepot.site.cloud.states import CloudAction
from entrepot.trust.certificates import new_management

from .conftest import PASSWORD, SiteUnderTest


async def _tidy(site: SiteUnderTest) -> int:
    """How many connections have been closed by now."""
    await site.services.providers.tidy(await site.services.points())
    return site.cloud.closed


async def test_the_connection_of_a_point_stays_though_nothing_happens_for_days(site) -> None:
    point = await site.make_point()
    before = await site.services.providers.of(point)
    for _ in range(100):
        site.clock.advance(HOUR)
        assert await _tidy(site) == 0
    assert await site.services.providers.of(point) is before


async def test_what_a_replaced_certificate_opened_is_closed_when_nothing_uses_it_any_more(site) -> None:
    point = await site.make_point()
    before = await site.services.providers.of(point)
    pair = new_management("Test management", 300, "ec", now=site.clock())
    request = RenewManagementCertificate(pfx=pair.pfx(Secret(PASSWORD)), password=PASSWORD)
    await site.services.renewal.management("management", request)
    tried = site.cloud.closed
    assert tried == 1, "the renewal tried the new one on a connection of its own"
    assert await site.services.providers.of(await site.services.get("cloud1")) is not before
    site.clock.advance(HOUR)
    assert await _tidy(site) == tried, "a transfer may still be under way"
    site.clock.advance(DAY)
    assert await _tidy(site) == tried + 1


async def test_the_connection_of_a_deleted_point_is_closed(site) -> None:
    await site.make_point()
    await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    assert await site.services.points() == []
    site.clock.advance(DAY + HOUR)
    assert await _tidy(site) == 1


async def test_a_connection_that_does_not_close_keeps_no_other_open_and_none_is_handed_out_that_is_to_be_closed(
    site, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = site.services.providers
    account = await providers.account_of(await site.make_point())
    one, other = (msgspec.structs.replace(account, subscription=f"former-{number}") for number in (1, 2))
    stuck, unused = await providers.of_account(one), await providers.of_account(other)
    handed_out = []

    async def close() -> None:
        handed_out.append(await providers.of_account(other))
        raise OSError("connection reset")

    monkeypatch.setattr(stuck, "close", close)
    site.clock.advance(DAY + HOUR)
    assert await _tidy(site) == 1, "the other one"
    [fresh] = handed_out
    assert fresh is not unused
    assert await providers.of_account(other) is fresh
    site.clock.advance(HOUR)
    assert await _tidy(site) == 1
