"""A site follows a cloud host that replaces its key, and never a stranger."""

import itertools

import msgspec
import pytest

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import BadInputError, ConflictError, ForbiddenError, FormatError, NotFoundError, TrustError
from entrepot.core.secret import Secret
from entrepot.database import alerts
from entrepot.protocol.cloudapi import AzureOptions
from entrepot.protocol.cloudhost import Subscription
from entrepot.rules.alerts import AlertState
from entrepot.site.cloud.hostpins import Pins, learned
from entrepot.trust.certificates import new_management

from .conftest import NOW, PASSWORD, SiteUnderTest

FIRST, SECOND, THIRD = "ab" * 32, "cd" * 32, "ef" * 32
TOLD = Subscription(
    id="sub-1",
    name="Test",
    state="active",
    region="here",
    storage_quota=1,
    instance_quota=1,
    certificate_expires=1,
)


def told(pin: str, following: str = "") -> Subscription:
    """What a host says of itself."""
    return msgspec.structs.replace(TOLD, pin=pin, next_pin=following)


def test_only_what_was_announced_before_ever_becomes_the_present_pin() -> None:
    pins = ("", FIRST, SECOND, THIRD)
    for present, following, pin, coming in itertools.product(pins[1:], pins, pins, pins):
        now = learned(Pins(present=present, following=following), told(pin, coming))
        assert now.present in {present, following} - {""}
        if pin not in (present, following) or not pin:
            assert now == Pins(present=present, following=following), "a stranger, or a host that tells nothing"


@pytest.mark.parametrize("said", ["cd" * 31, "zz" * 32, "CD" * 32, "cd" * 32 + "\n", "cd" * 33])
def test_what_is_no_pin_is_not_even_heard(said: str) -> None:
    whole = to_json(told(FIRST, SECOND))
    assert from_json(whole, Subscription, "answer") == told(FIRST, SECOND)
    for pins in ((said, ""), (FIRST, said)):
        with pytest.raises(FormatError):
            from_json(to_json(told(*pins)), Subscription, "answer")


async def _look(site: SiteUnderTest, pin: str, following: str = "") -> tuple[str, str]:
    """Let the host tell this, and look after the cloud point; its pins then."""
    site.cloud.pin, site.cloud.next_pin = pin, following
    point = await site.services.get("cloud1")
    await site.services.monitor.check(point.point)
    point = await site.services.get("cloud1")
    await site.services.providers.of(point)
    return point.host_pin, point.host_next_pin


async def test_the_next_pin_is_kept_and_in_the_end_takes_the_place_of_the_first(site) -> None:
    await site.make_point()
    assert await _look(site, FIRST) == (FIRST, "")
    assert await _look(site, FIRST, SECOND) == (FIRST, SECOND)
    assert (site.connections[-1].pin.hex(), site.connections[-1].next_pin.hex()) == (FIRST, SECOND)
    site.boot()  # kept durably
    assert await _look(site, SECOND) == (SECOND, "")
    assert (site.connections[-1].pin.hex(), site.connections[-1].next_pin) == (SECOND, b"")
    assert await _look(site, THIRD, FIRST) == (SECOND, "")


async def test_an_announcement_that_is_taken_back_is_forgotten(site) -> None:
    await site.make_point()
    await _look(site, FIRST, SECOND)
    assert await _look(site, FIRST) == (FIRST, "")


async def test_older_hosts_that_tell_no_pin_go_on_as_before(site) -> None:
    await site.make_point()
    assert await _look(site, "") == (FIRST, "")


async def test_a_site_that_was_away_says_what_to_do_and_goes_on_when_the_pin_was_accepted(site) -> None:
    point = await site.make_point()
    await site.make_point("cloud2", fqdn="cloud2.contoso.com")
    await site.make_point("cloud3", fqdn="cloud3.contoso.com", host_url="https://127.0.0.1:10")
    refusal = TrustError("The host presents another certificate.", next_step="accept-pin")
    site.cloud.failures["check"] = [refusal]
    site.cloud.failures["status"] = [refusal]
    await site.services.monitor.check(point.point)
    found = await site.database.read(alerts.find, type_="subscription_problem", subject=point.point)
    assert found.alert.state is AlertState.ACTIVE
    assert "accept-pin" in found.alert.message
    site.cloud.failures["check"] = [refusal]
    with pytest.raises(TrustError, match="Nothing was changed"):
        await site.services.pins.accept("cloud1", SECOND)
    assert (await site.services.get("cloud1")).host_pin == FIRST
    accepted = await site.services.pins.accept("cloud1", SECOND.upper())
    assert site.connections[-1].pin.hex() == SECOND, "it was tried"
    assert (accepted.before, accepted.pin, accepted.points) == (FIRST, SECOND, ("cloud1", "cloud2"))
    pins = [(await site.services.get(name)).host_pin for name in ("cloud1", "cloud2", "cloud3")]
    assert pins == [SECOND, SECOND, FIRST]


async def test_a_host_that_shows_the_certificate_and_then_refuses_the_site_has_proven_the_pin(site) -> None:
    await site.make_point()
    site.cloud.failures["check"] = [ForbiddenError("The certificate was revoked.")]
    assert (await site.services.pins.accept("cloud1", SECOND)).points == ("cloud1",)


async def test_a_pin_that_the_site_learns_while_another_is_tried_stays(site) -> None:
    point = await site.make_point()

    async def meanwhile(_: str) -> None:
        site.cloud.on_call = None
        await _look(site, FIRST, SECOND)
        await _look(site, SECOND)

    site.cloud.on_call = meanwhile
    with pytest.raises(ConflictError, match="changed meanwhile"):
        await site.services.pins.accept("cloud1", THIRD)
    assert (await site.services.get(point.point)).host_pin == SECOND
    accepted = await site.services.pins.accept("cloud1", THIRD.upper() + "\n")
    assert (accepted.pin, (await site.services.get("cloud1")).host_pin) == (THIRD, THIRD)


async def test_pins_are_accepted_for_cloud_points_at_hosts_only(site) -> None:
    with pytest.raises(NotFoundError):
        await site.services.pins.accept("cloud1", SECOND)
    options = AzureOptions(
        tenant="11111111-1111-1111-1111-111111111111",
        application="11111111-1111-1111-1111-111111111111",
        image="registry/gateway@sha256:0",
    )
    pair = new_management("azure", 365, "rsa", now=NOW)
    site.services.certificates.import_management("management", pair.pfx(Secret(PASSWORD)), Secret(PASSWORD))
    changes = {"provider": "azure", "host_url": "", "host_pin": "", "region": "westeurope", "azure": options}
    await site.make_point(**changes)
    with pytest.raises(BadInputError, match="no pin"):
        await site.services.pins.accept("cloud1", SECOND)
