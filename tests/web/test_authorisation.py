"""Tokens and the control document together: who may read what, now."""

import contextlib
import time

import msgspec
import pytest

from entrepot.core.errors import ForbiddenError, ReplayError, TrustError, UnauthenticatedError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR, MINUTE
from entrepot.protocol.control import ServiceState
from entrepot.trust.signing import SigningKey
from entrepot.web.authorise import TokenAuthoriser
from entrepot.web.control import Obeyed, cuts, serving, with_control, with_trust
from entrepot.web.sets import SetLibrary

POINT = "pt-0123456789abcdef"
ONE, TWO = ObjectId(b"\1" * 32), ObjectId(b"\2" * 32)


class Gate:
    """An authoriser with a state that tests change."""

    def __init__(self, site, shelf):
        self.now = time.time()
        self.site = site
        self.obeyed = Obeyed(pin=site.root.fingerprint, point=POINT)
        self.ask = TokenAuthoriser(
            lambda: self.obeyed,
            site="PS1",
            audience="points:PS1",
            point=POINT,
            sets=SetLibrary(shelf),
            clock=lambda: self.now,
        )

    def trust(self, **how):
        self.obeyed = with_trust(self.obeyed, self.site.trust(**how).encode(), now=self.now)
        return self

    def control(self, **how):
        self.obeyed = with_control(self.obeyed, self.site.control(**how).encode(), now=self.now)
        return self


@pytest.fixture
def gate(site, shelf):
    return Gate(site, shelf).trust().control()


async def test_a_token_opens_its_sets_and_nothing_else(gate, stock_set):
    set_id = stock_set(ONE)
    token = gate.site.content_token(set_id, device="dev-7", jti="j7")
    for _ in range(2):  # the second time from the cache of verified tokens
        grant = await gate.ask.client(token, ONE)
        assert (grant.device, grant.jti, grant.set_id) == ("dev-7", "j7", set_id)
        assert (await gate.ask.client(token, TWO)).set_id == b""


async def test_a_token_ends_when_it_says_also_when_it_was_verified_before(gate, stock_set):
    token = gate.site.content_token(stock_set(ONE))
    assert (await gate.ask.client(token, ONE)).set_id
    gate.now += 8 * HOUR - 60
    gate.control(lifetime=24 * HOUR)
    await gate.ask.client(token, ONE)
    gate.now += 61
    with pytest.raises(UnauthenticatedError, match="expired"):
        await gate.ask.client(token, ONE)


async def test_a_token_stays_known_after_its_minute_and_a_new_control_document_until_it_ends(gate, site, stock_set):
    """Whose address others abuse is still served, by all devices that were before."""
    token = site.content_token(stock_set(ONE))
    assert not gate.ask.knows(token)
    await gate.ask.client(token, ONE)
    gate.now += 2 * MINUTE
    gate.control()
    await gate.ask.client(site.content_token(stock_set(ONE), device="dev-2", jti="t2"), ONE)
    assert gate.ask.knows(token)
    gate.now += 9 * HOUR
    assert not gate.ask.knows(token)


async def test_an_idle_device_stays_known_however_many_control_documents_come(gate, site, stock_set, monkeypatch):
    monkeypatch.setattr("entrepot.web.authorise.CACHED_TOKENS", 3)
    first, second, third, last = (
        site.content_token(stock_set(ONE), device=f"dev-{name}", jti=name)
        for name in ("first", "second", "third", "last")
    )
    for other in (first, second, third):
        await gate.ask.client(other, ONE)
        gate.control()
    await gate.ask.client(last, ONE)
    assert all(gate.ask.knows(other) for other in (first, second, third))
    gate.control()
    await gate.ask.client(last, ONE)
    assert [gate.ask.knows(other) for other in (first, second, third, last)] == [False, True, True, True]


async def test_a_token_whose_key_was_withdrawn_is_not_known_once_it_was_refused(gate, site, stock_set):
    token = site.content_token(stock_set(ONE))
    await gate.ask.client(token, ONE)
    gate.control(kids=())
    with pytest.raises(UnauthenticatedError):
        await gate.ask.client(token, ONE)
    assert not gate.ask.knows(token)


async def test_a_token_that_made_room_for_another_is_verified_again(gate, stock_set, monkeypatch):
    monkeypatch.setattr("entrepot.web.authorise.CACHED_TOKENS", 1)
    first, second = (gate.site.content_token(stock_set(ONE), jti=jti) for jti in ("j1", "j2"))
    await gate.ask.client(first, ONE)
    assert gate.ask.at_once(first.encode(), ONE) is not None
    await gate.ask.client(second, ONE)
    assert gate.ask.at_once(second.encode(), ONE) is not None
    assert gate.ask.at_once(first.encode(), ONE) is None


async def test_a_known_token_is_judged_without_waiting_and_as_it_is_otherwise(gate, stock_set):
    token = gate.site.content_token(stock_set(ONE), device="dev-7", jti="j7")
    assert gate.ask.at_once(token.encode(), ONE) is None, "it was never verified"
    granted = await gate.ask.client(token, ONE)
    found = gate.ask.at_once(token.encode(), ONE)
    assert found is not None
    assert (found.device, found.jti, found.set_id) == (granted.device, granted.jti, granted.set_id)
    assert gate.ask.at_once(token.encode(), TWO) is None, "no set of it holds this object"
    assert gate.ask.at_once(b"other", ONE) is None


@pytest.mark.parametrize(
    "change",
    [
        {"devices": ("dev-7",)},
        {"tokens": ("j7",)},
        {"kids": ()},
        {"state": ServiceState.STOPPED},
        {},
        {"minutes": 2},
        {"minutes": 9 * 60},
        {"ends": True},
    ],
    ids=str,
)
async def test_what_is_judged_without_waiting_ends_with_the_state_that_it_was_judged_by(gate, stock_set, change):
    """Also where another client has asked since: then the state is known, and the token must not be good by it."""
    set_id = stock_set(ONE)
    token, other = gate.site.content_token(set_id, device="dev-7", jti="j7"), gate.site.content_token(set_id)
    await gate.ask.client(token, ONE)
    if "minutes" in change:
        gate.now += change["minutes"] * MINUTE
    elif "ends" in change:
        gate.obeyed = msgspec.structs.replace(gate.obeyed, ends=True)
    else:
        gate.control(**change)
    assert gate.ask.at_once(token.encode(), ONE) is None
    with contextlib.suppress(UnauthenticatedError, UnavailableError):
        await gate.ask.client(other, ONE)
    assert gate.ask.at_once(token.encode(), ONE) is None


@pytest.mark.parametrize("who", ["devices", "tokens"])
async def test_revocation_counts_at_once(gate, stock_set, who):
    token = gate.site.content_token(stock_set(ONE), device="dev-7", jti="j7")
    await gate.ask.client(token, ONE)
    gate.control(**{who: ("dev-7",) if who == "devices" else ("j7",)})
    with pytest.raises(ForbiddenError):
        await gate.ask.client(token, ONE)
    gate.control()
    await gate.ask.client(token, ONE)


async def test_a_withdrawn_token_key_counts_at_once(gate, stock_set):
    token = gate.site.content_token(stock_set(ONE))
    await gate.ask.client(token, ONE)
    gate.control(kids=())
    with pytest.raises(UnauthenticatedError, match="no longer in use"):
        await gate.ask.client(token, ONE)


async def test_tokens_for_others_by_others_and_of_other_kinds_are_refused(gate, stock_set):
    set_id = stock_set(ONE)
    site = gate.site
    other_key = SigningKey.generate()
    good, site.token_key = site.token_key, other_key
    forged = site.content_token(set_id)
    site.token_key = good
    for token in (
        site.content_token(set_id, audience=POINT),
        site.content_token(set_id, audience="points:PS2"),
        site.content_token(set_id, now=time.time() - 9 * HOUR),
        site.content_token(set_id, now=time.time() + HOUR),
        forged,
        site.site_token(),
        site.control(),
        "x.y.z",
        "",
    ):
        with pytest.raises(UnauthenticatedError):
            await gate.ask.client(token, ONE)
    for token in (site.content_token(set_id), site.site_token("pt-fedcba9876543210"), site.site_token(now=0), "x"):
        with pytest.raises(UnauthenticatedError):
            await gate.ask.site(token)
    await gate.ask.site(site.site_token())


async def test_without_a_valid_control_document_nobody_is_served_but_the_site_gets_in(site, shelf, stock_set):
    gate = Gate(site, shelf)
    token = site.content_token(stock_set(ONE))
    with pytest.raises(UnavailableError):
        await gate.ask.client(token, ONE)
    with pytest.raises(UnavailableError):
        await gate.ask.site(site.site_token())
    gate.trust()
    with pytest.raises(UnavailableError):
        await gate.ask.client(token, ONE)
    await gate.ask.site(site.site_token())
    gate.control(state=ServiceState.STOPPED)
    with pytest.raises(UnavailableError, match="stopped"):
        await gate.ask.client(token, ONE)
    await gate.ask.site(site.site_token())
    gate.control(lifetime=60)
    await gate.ask.client(token, ONE)
    gate.now += 61
    with pytest.raises(UnavailableError, match="expired"):
        await gate.ask.client(token, ONE)
    await gate.ask.site(site.site_token(now=gate.now))


def test_documents_never_go_back_in_time_and_never_come_from_others(site, shelf):
    gate = Gate(site, shelf)
    with pytest.raises(TrustError):
        gate.control()
    gate.trust(number=5).control(counter=50)
    held = gate.obeyed
    for bad in (lambda: gate.trust(number=4), lambda: gate.control(counter=49), lambda: gate.control(lifetime=-1)):
        with pytest.raises(ReplayError):
            bad()
    with pytest.raises(ReplayError, match="two different"):
        gate.control(counter=50, devices=("dev-1",))
    with pytest.raises(TrustError, match="not for this one"):
        gate.control(counter=51, point="pt-fedcba9876543210")
    with pytest.raises(TrustError):
        gate.control(counter=51, key=site.token_key)
    with pytest.raises(TrustError):
        gate.control(counter=51, key=SigningKey.generate())
    with pytest.raises(TrustError):
        with_trust(gate.obeyed, type(site)().trust(number=6).encode(), now=gate.now)
    assert gate.obeyed is held
    assert serving(held, now=gate.now)[0].fresh.counter == 50


def test_a_change_cuts_exactly_those_it_concerns(site, shelf):
    gate = Gate(site, shelf).trust().control(devices=("dev-1",))
    before = gate.obeyed
    assert not cuts(before, before, now=gate.now).everyone
    gate.control(devices=("dev-1", "dev-2"), tokens=("t-9",))
    cut = cuts(before, gate.obeyed, now=gate.now)
    assert (cut.everyone, cut.devices, cut.tokens) == (False, {"dev-2"}, {"t-9"})
    assert cuts(before, before, now=gate.now + 9 * HOUR).everyone
    gate.control(state=ServiceState.STOPPED)
    assert cuts(before, gate.obeyed, now=gate.now).everyone


def test_an_instance_that_is_shut_down_serves_nobody_and_does_not_pretend_to_begin(site, shelf):
    gate = Gate(site, shelf).trust().control()
    ending = msgspec.structs.replace(gate.obeyed, control_text=b"", control=None, ends=True)
    assert cuts(gate.obeyed, ending, now=gate.now).everyone
    with pytest.raises(UnavailableError, match="is being shut down"):
        serving(ending, now=gate.now)


async def test_while_a_budget_is_active_a_token_without_an_allowance_is_refused(gate, stock_set):
    token = gate.site.content_token(stock_set(ONE))
    await gate.ask.client(token, ONE)
    control = msgspec.structs.replace(gate.obeyed.control, bounded=True)
    gate.obeyed = msgspec.structs.replace(gate.obeyed, control=control)
    with pytest.raises(UnauthenticatedError, match="budget"):
        await gate.ask.client(token, ONE)
