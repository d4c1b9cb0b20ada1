"""Replies of the management point are believed only when they are this site's, to this device, now (architecture 3)."""

import time
from pathlib import Path

import msgspec
import pytest

from entrepot.client.fetch import fetch, locate
from entrepot.core.errors import ReplayError, TrustError
from entrepot.protocol import Freshness
from entrepot.protocol.location import LocationReply
from entrepot.protocol.trust import Role
from entrepot.trust.signing import SigningKey


@pytest.fixture
async def home(world, source: Path) -> Path:
    world.publish(source)
    world.point("near")
    return await world.client()


def altered(**fields: object):
    def alter(reply: LocationReply) -> LocationReply:
        return msgspec.structs.replace(reply, **fields)

    return alter


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"nonce": "another"}, "answers another request"),
        ({"site": "XX9"}, "another site, content or version"),
        ({"content": "pkg-ffffffffffffffff", "name": "other"}, "another site, content or version"),
        ({"device": "dev-ffffffffffffffff"}, "another device"),
    ],
)
async def test_a_reply_about_something_else_is_refused(world, tools, home: Path, fields, match: str) -> None:
    world.alter = altered(**fields)
    with pytest.raises(TrustError, match=match):
        await locate(home, tools.content)


async def test_a_reply_about_another_version_is_refused(world, tools, home: Path) -> None:
    world.alter = altered(version=9)
    with pytest.raises(TrustError, match="another site, content or version"):
        await locate(home, tools.content, version=1)


async def test_an_expired_reply_is_refused(world, tools, home: Path) -> None:
    now = int(time.time())
    world.alter = altered(fresh=Freshness(epoch=1, counter=99, issued=now - 100, expires=now - 1))
    with pytest.raises(ReplayError, match="expired"):
        await locate(home, tools.content)


async def test_a_reply_older_than_one_seen_is_refused(world, tools, home: Path) -> None:
    await locate(home, tools.content)
    await locate(home, tools.content)
    world.hierarchy.counter -= 2
    with pytest.raises(ReplayError, match="older"):
        await locate(home, tools.content)


async def test_a_higher_epoch_begins_counting_anew(world, tools, home: Path) -> None:
    await locate(home, tools.content)
    world.hierarchy.epoch, world.hierarchy.number, world.hierarchy.counter = 2, 2, 0
    assert (await locate(home, tools.content)).version == 1
    world.hierarchy.epoch = 1  # of the trust document still held by a stale server
    with pytest.raises(ReplayError):
        await locate(home, tools.content)


async def test_a_key_that_is_not_for_policy_is_refused(world, tools, home: Path) -> None:
    keys = world.hierarchy.keys
    honest = world.hierarchy.trust()
    world.hierarchy.trust = lambda: honest
    keys[Role.POLICY] = keys[Role.MANIFEST]
    with pytest.raises(TrustError, match="is for manifest, not for policy"):
        await locate(home, tools.content)


async def test_a_new_policy_key_is_learned_from_the_trust_document(world, tools, home: Path) -> None:
    world.hierarchy.keys[Role.POLICY] = SigningKey.generate()
    world.hierarchy.number += 1
    assert (await locate(home, tools.content)).version == 1


async def test_an_older_trust_document_is_refused(world, tools, home: Path) -> None:
    old = world.hierarchy.trust()
    world.hierarchy.number += 1
    await locate(home, tools.content)
    world.hierarchy.trust = lambda: old
    with pytest.raises(ReplayError):
        await locate(home, tools.content)


async def test_a_site_with_a_certificate_of_a_new_issuer_is_found_again(world, tools, home: Path, cloud: str) -> None:
    """The new issuer stands in a newer trust document, which proves itself even over a connection not yet trusted."""
    text = (home / "client.toml").read_text()
    moved = text.replace(world.url, cloud) + '[resolve]\n"service.example" = "127.0.0.1"\n'
    (home / "client.toml").write_text(moved)
    world.url = cloud
    with pytest.raises(TrustError, match="certificate"):
        await locate(home, tools.content)
    world.hierarchy.authority = world.hierarchy.cloud_authority
    world.hierarchy.number += 1
    assert (await locate(home, tools.content)).version == 1


async def test_a_server_that_only_looks_like_the_site_gets_no_request(world, tools, home: Path, cloud: str) -> None:
    text = (home / "client.toml").read_text()
    (home / "client.toml").write_text(text.replace(world.url, cloud) + '[resolve]\n"service.example" = "127.0.0.1"\n')
    before = len(world.locations)
    with pytest.raises(TrustError, match=r"certificate of service\.example"):
        await fetch(home, tools.content)
    assert len(world.locations) == before
