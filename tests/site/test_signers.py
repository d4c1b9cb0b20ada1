"""Rollover of signing keys: the root signs the next trust document, and nobody is cut off meanwhile."""

import functools
import secrets
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.core.encoding import from_json
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    NotFoundError,
    ReplayError,
    TrustError,
    UnauthenticatedError,
)
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.core.times import HOUR
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol.control import CONTROL_KEY, TRUST_KEY
from entrepot.protocol.keysapi import KeysInfo, RollRequest, RotationInfo, SignedTrust, TrustDraft
from entrepot.protocol.tokens import points_audience
from entrepot.protocol.trust import Role, TrustDocument
from entrepot.site.keys.loading import refresh
from entrepot.trust.root import RootKey
from entrepot.trust.signing import SigningKey
from entrepot.trust.tokens import mint_content_token, mint_site_token, verify_content_token
from entrepot.web.authorise import TokenAuthoriser
from entrepot.web.control import Cut, Obeyed, cuts, serving, with_control, with_trust
from entrepot.web.sets import SetLibrary

ALL = (Role.MANIFEST, Role.TOKEN, Role.POLICY, Role.CONTROL)


@functools.cache
def opened(pem: bytes) -> RootKey:
    """The root, opened once for all tests: its passphrase is made to cost what half a test does."""
    return RootKey.load(pem, Secret("a long passphrase"))


def root_of(site: Any) -> RootKey:
    return opened(site.home.root_key.read_bytes())


async def drafted(site: Any, *roles: Role, **how: Any) -> TrustDocument:
    made = await site.call("POST", "/keys/roll", TrustDraft, RollRequest(roles=roles, **how))
    return from_json(made.document, TrustDocument, "draft")


async def rolled(site: Any, *roles: Role, **how: Any) -> TrustDocument:
    document = await drafted(site, *roles, **how)
    await site.call("POST", "/keys/trust", KeysInfo, SignedTrust(document=root_of(site).sign_trust(document)))
    return document


async def states(site: Any) -> dict[Role, list[str]]:
    info = await site.call("GET", "/keys", KeysInfo)
    found: dict[Role, list[str]] = {}
    for key in info.signing:
        found.setdefault(key.role, []).append(key.state)
    return found


class ObeyingPoint:
    """A point's judgement of what the site brings it: who may bring documents, and what a client's token is worth."""

    def __init__(self, site: Any, point: str, *, pin: bytes) -> None:
        self.site = site
        self.point = point
        self.reachable = True
        self.cut: list[Cut] = []
        trust = site.keys.trust_document.encode()
        self.obeyed = with_trust(Obeyed(pin=pin, point=point), trust, now=site.clock())
        self.authorise = TokenAuthoriser(
            lambda: self.obeyed,
            site="PS1",
            audience=points_audience("PS1"),
            point=point,
            sets=SetLibrary(Shelf(MemoryStore())),
            clock=site.clock,
        )

    async def put_document(self, key: str, data: bytes) -> None:
        now = self.site.clock()
        token = mint_site_token(
            self.site.keys.token_for(self.point), site="PS1", audience=self.point, now=now, jti=secrets.token_hex(8)
        )
        if not self.reachable:
            raise UnauthenticatedError("away")
        await self.authorise.site(token)
        before = self.obeyed
        step = {TRUST_KEY: with_trust, CONTROL_KEY: with_control}[key]
        self.obeyed = step(before, data, now=now)
        ended = cuts(before, self.obeyed, now=now)
        if before.control is not None and (ended.everyone or ended.devices or ended.tokens):
            self.cut.append(ended)

    def admits(self, token: str) -> bool:
        now = self.site.clock()
        control, ring = serving(self.obeyed, now=now)
        try:
            verify_content_token(token, ring, "PS1", points_audience("PS1"), control.token_kids, now)
        except UnauthenticatedError:
            return False
        return True


@pytest.fixture
async def point(site: Any) -> ObeyingPoint:
    name = await site.enrolled_point("dp")
    made = ObeyingPoint(site, name, pin=root_of(site).fingerprint)
    await push(site, made)
    return made


async def push(site: Any, point: ObeyingPoint) -> None:
    await site.server.clouds.control.publish(point.point, point)
    with site.database.reading() as connection:
        refresh(connection, site.keys, now=site.clock())


def token(site: Any, key: SigningKey | None = None) -> str:
    return mint_content_token(
        key or site.keys.token,
        site="PS1",
        device="dev-1",
        audience=points_audience("PS1"),
        sets=[ObjectId(b"s" * 32)],
        now=site.clock(),
        jti=secrets.token_hex(8),
    )


@pytest.fixture(autouse=True)
def same_clock(site: Any) -> None:
    site.keys._clock = site.clock  # the fixture's keys were loaded with the computer's


async def test_tokens_of_the_old_and_the_new_key_are_valid_at_once(site: Any, point: ObeyingPoint) -> None:
    old = token(site)
    await rolled(site, Role.TOKEN)
    between = token(site)
    assert point.admits(between)  # signed with the old key, for the point does not know the new one yet
    await push(site, point)
    new = token(site)
    assert site.keys.token.kid not in (old, between)
    assert all(point.admits(each) for each in (old, between, new))
    assert not point.cut
    assert (await states(site))[Role.TOKEN] == ["signing", "listed"]


async def test_the_new_token_key_waits_for_every_point_but_for_eight_hours_at_most(
    site: Any, point: ObeyingPoint
) -> None:
    await site.enrolled_point("away")
    old = site.keys.token.kid
    await rolled(site, Role.TOKEN)
    await push(site, point)
    assert site.keys.token.kid == old
    site.clock.advance(8 * HOUR + 1)  # whoever has not followed by now serves nobody
    assert site.keys.token.kid != old


async def test_a_week_later_the_old_key_ends_by_itself_and_nobody_is_cut_off(site: Any, point: ObeyingPoint) -> None:
    await rolled(site, Role.TOKEN, Role.CONTROL, Role.POLICY)
    await push(site, point)
    old = next(each for each in site.keys.now.signers[Role.TOKEN] if each.key.kid != site.keys.token.kid).key
    for _ in range(7 * 24 + 1):
        site.clock.advance(HOUR)
        await push(site, point)
    assert len(point.obeyed.control.token_kids) == 1  # type: ignore[union-attr]
    assert not point.admits(token(site, old))
    assert point.admits(token(site))
    assert not point.cut
    await site.login()  # the administrator's session has ended long ago
    assert (await states(site))[Role.TOKEN] == ["signing", "ended"]


@pytest.mark.parametrize("raise_epoch", [False, True])
async def test_every_key_can_be_rolled_over_at_once_without_a_gap(
    site: Any, point: ObeyingPoint, raise_epoch: bool
) -> None:
    before = token(site)
    document = await rolled(site, *ALL, raise_epoch=raise_epoch)
    assert document.epoch == 1 + raise_epoch
    await push(site, point)
    assert point.obeyed.trust is not None
    assert (point.obeyed.trust.number, point.obeyed.trust.epoch) == (2, document.epoch)
    assert point.admits(before)
    assert point.admits(token(site))
    assert not point.cut
    site.clock.advance(HOUR)
    await push(site, point)  # by now the point knows the new control key
    assert point.admits(token(site))
    assert not point.cut


async def test_what_was_signed_before_a_raised_epoch_is_not_fresh_any_more(site: Any, point: ObeyingPoint) -> None:
    old = point.obeyed.control_text
    await rolled(site, raise_epoch=True)
    await push(site, point)
    fresh_point = with_trust(
        Obeyed(pin=root_of(site).fingerprint, point=point.point), site.keys.trust_document.encode(), now=site.clock()
    )
    with pytest.raises(ReplayError):
        with_control(fresh_point, old, now=site.clock())


async def test_a_compromised_token_key_is_withdrawn_at_once_and_its_tokens_with_it(
    site: Any, point: ObeyingPoint
) -> None:
    stolen = site.keys.token
    await rolled(site, Role.TOKEN, withdraw=(stolen.kid,))
    assert site.keys.token.kid != stolen.kid
    await push(site, point)  # the last thing that the stolen key is good for
    assert not point.admits(token(site, stolen))
    assert point.admits(token(site))
    assert [each.everyone for each in point.cut] == [True]
    assert (await states(site))[Role.TOKEN] == ["signing", "withdrawn"]


async def test_a_point_that_fetched_the_trust_document_by_itself_is_reached_all_the_same(
    site: Any, point: ObeyingPoint
) -> None:
    stolen = site.keys.token
    await rolled(site, Role.TOKEN, withdraw=(stolen.kid,))
    point.obeyed = with_trust(point.obeyed, site.keys.trust_document.encode(), now=site.clock())
    site.clock.advance(9 * HOUR)  # its control document has expired meanwhile
    await push(site, point)
    assert point.admits(token(site))


class LatePoint(ObeyingPoint):
    """A point that takes so long that the server looks at the database meanwhile, and remembers what it saw before."""

    async def put_document(self, key: str, data: bytes) -> None:
        await super().put_document(key, data)
        if key == CONTROL_KEY:
            self.site.keys.confirm(self.point, 1)


async def test_what_a_point_confirmed_stays_known_although_an_older_look_at_the_database_comes_later(site: Any) -> None:
    point = LatePoint(site, await site.enrolled_point("dp"), pin=root_of(site).fingerprint)
    await push(site, point)
    await rolled(site, Role.TOKEN, withdraw=(site.keys.token.kid,))  # so that the trust document goes first
    await push(site, point)
    assert (await site.call("GET", "/keys", KeysInfo)).behind == ()


async def test_a_withdrawn_manifest_key_is_replaced_by_sealing_anew(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    old = site.keys.manifest.kid
    with pytest.raises(ConflictError, match="has signed 1 versions"):
        await drafted(site, Role.MANIFEST, withdraw=(old,))
    await rolled(site, Role.MANIFEST, withdraw=(old,), force=True)
    info = await site.call("POST", "/keys/reseal", RotationInfo)
    assert (info.to_reseal, info.generation) == (1, 1)
    stored = len(site.server.shelf.page(limit=100_000))
    await site.run_tasks()
    assert len(site.server.shelf.page(limit=100_000)) - stored == 2  # another root, another set: no content
    keys = await site.call("GET", "/keys", KeysInfo)
    assert keys.to_reseal == 0
    assert [(key.state, key.versions) for key in keys.signing if key.role is Role.MANIFEST] == [
        ("signing", 1),
        ("withdrawn", 0),
    ]
    assert content.id


async def test_asking_again_gives_the_same_pending_keys(site: Any) -> None:
    first, second = await drafted(site, Role.TOKEN), await drafted(site, Role.TOKEN)
    assert {each.kid for each in first.keys} == {each.kid for each in second.keys}
    assert (await states(site))[Role.TOKEN] == ["signing", "pending"]
    before = site.keys.token.kid
    await rolled(site)  # signed without the pending key: nothing changes
    assert site.keys.token.kid == before


async def test_what_the_site_cannot_live_with_is_refused(site: Any, point: ObeyingPoint) -> None:
    root = root_of(site)

    async def publish(document: TrustDocument, by: RootKey = root) -> None:
        await site.call("POST", "/keys/trust", KeysInfo, SignedTrust(document=by.sign_trust(document)))

    document = await drafted(site, Role.TOKEN)
    with pytest.raises(TrustError, match="another root"):
        await publish(document, RootKey.generate())
    with pytest.raises(ReplayError, match="not newer"):
        await publish(msgspec.structs.replace(document, number=1))
    with pytest.raises(ConflictError, match="without a key for policy"):
        await publish(
            msgspec.structs.replace(document, keys=tuple(e for e in document.keys if e.role is not Role.POLICY))
        )
    stranger = SigningKey.generate()
    foreign = msgspec.structs.replace(document.keys[0], kid=stranger.kid, public=stranger.public)
    with pytest.raises(TrustError, match="does not have"):
        await publish(msgspec.structs.replace(document, keys=(*document.keys, foreign)))
    with pytest.raises(NotFoundError, match="lists no key"):
        await drafted(site, withdraw=("nobody",))
    with pytest.raises(ConflictError, match="without a key for token"):
        await drafted(site, withdraw=(site.keys.token.kid,))
    assert site.keys.hierarchy.trust_number == 1


@pytest.mark.parametrize("document", ["", "no document"])
async def test_what_is_no_trust_document_is_the_callers_mistake(site, document: str) -> None:
    with pytest.raises(BadInputError, match="compact JWS"):
        await site.call("POST", "/keys/trust", KeysInfo, SignedTrust(document=document))
