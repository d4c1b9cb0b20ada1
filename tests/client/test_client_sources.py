"""Which source a client uses, and what it does when one fails (R6, R32, R35)."""

import os
from pathlib import Path

import pytest

from entrepot.client.fetch import fetch
from entrepot.core.errors import IntegrityError, NotFoundError, TrustError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.protocol.location import TierKind


@pytest.fixture
def content(world, tmp_path: Path) -> Path:
    source = tmp_path / "app"
    source.mkdir()
    for number in range(6):
        (source / f"file-{number}").write_bytes(os.urandom(400_000))
    world.publish(source)
    return source


def by_name(result) -> dict[str, int]:
    return {one.name: one.bytes for one in result.used}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def codes(result, name: str) -> set[str]:
    return {failure.code for failure in result.failures if failure.name == name}


async def test_tiers_are_tried_in_the_given_order(world, content: Path, tools) -> None:
    world.point("near")
    far, cloud = world.point("far", TierKind.REMOTE), world.point("cloud", TierKind.CLOUD)
    result = await fetch(await world.client(), tools.content)
    assert set(by_name(result)) == {"near"}
    assert far.requests.total() == cloud.requests.total() == 0


async def test_the_cloud_serves_when_no_point_does(world, content: Path, tools) -> None:
    near = world.point("near")
    near.failing = UnavailableError("The point is being maintained.")
    world.point("cloud", TierKind.CLOUD)
    result = await fetch(await world.client(), tools.content)
    assert {(one.kind, one.name) for one in result.used} == {("cloud", "cloud")}
    assert codes(result, "near") == {"unavailable"}
    assert "maintained" in result.failures[0].reason
    assert near.requests.total() < 20  # left alone after it failed twice, not asked for each chunk
    assert tools.listing(result.folder) == tools.listing(content)


async def test_a_flipped_bit_is_named_and_the_next_source_asked(world, content: Path, tools) -> None:
    near = world.point("near")
    world.point("other", TierKind.REMOTE)
    victim = world.library.a_chunk(1)

    def flip(object_id: bytes, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if object_id == victim else data

    near.damage = flip
    result = await fetch(await world.client(), tools.content)

    assert tools.listing(result.folder) == tools.listing(content)
    failure = result.failures[0]
    assert (failure.name, failure.code, failure.count) == ("near", "integrity", 1)
    assert victim.hex()[:16] in failure.reason
    assert "near" in by_name(result) and "other" in by_name(result)


@pytest.mark.parametrize("sent", ["cut short", "nothing", "more", "another", "a former root"])
async def test_whatever_a_source_sends_instead_is_named_and_the_next_one_asked(
    world, content: Path, tools, tmp_path: Path, sent: str
) -> None:
    """Truncated, oversized, swapped with a genuine object, replayed: no byte of it is used."""
    former = ObjectId(world.library.roots[1][0].object_id)
    (content / "new").write_bytes(b"of the second version")
    world.publish(content, 2)
    genuine = ObjectId(world.library.root(2).parts[0].object_id)
    victim = ObjectId(world.library.roots[2][0].object_id) if sent == "a former root" else world.library.a_chunk(1)
    near = world.point("near")
    world.point("other", TierKind.REMOTE)

    def instead(object_id: ObjectId, data: bytes) -> bytes:
        read = world.library.shelf.read_whole
        what = {
            "cut short": data[:-1],
            "nothing": b"",
            "more": data + bytes(100),
            "another": read(genuine),
            "a former root": read(former),
        }
        if object_id != victim:
            return data
        longer.append(len(what[sent]) > len(data))
        return what[sent]

    longer: list[bool] = []
    near.damage = instead
    home = await world.client()
    before = names_in(tmp_path)
    result = await fetch(home, tools.content)
    assert tools.listing(result.folder) == tools.listing(content)
    assert names_in(tmp_path) == before
    [failure] = result.failures
    assert (failure.name, failure.code) == ("near", "limited" if longer[0] else "integrity")
    assert longer[0] or victim.hex()[:16] in failure.reason


async def test_a_source_that_damages_everything_is_left_alone(world, content: Path, tools) -> None:
    near = world.point("near")
    world.point("other", TierKind.REMOTE)
    near.damage = lambda _, data: bytes(len(data))
    result = await fetch(await world.client(parallel=1), tools.content)
    assert near.requests.total() == 3
    assert set(by_name(result)) == {"other"}


async def test_damage_everywhere_is_an_error_that_names_the_object(world, content: Path, tools) -> None:
    near = world.point("near")
    victim = world.library.a_chunk(1)
    near.damage = lambda object_id, data: bytes(len(data)) if object_id == victim else data
    home = await world.client()
    with pytest.raises(UnavailableError, match=f"{victim.hex()[:16]}.*damaged"):
        await fetch(home, tools.content)
    assert not list((home / "content").iterdir())
    assert [report.outcome for report in world.reports] == ["failed"]


async def test_a_connection_that_breaks_is_tried_again(world, content: Path, tools) -> None:
    near = world.point("near")
    home = await world.client(parallel=1)
    broken = []

    def once(object_id: bytes, data: bytes) -> bytes:
        near.cut = False
        if len(broken) < 2:
            broken.append(object_id)
            near.cut = True
        return data

    near.damage = once
    result = await fetch(home, tools.content)
    assert len(broken) == 2
    assert codes(result, "near") == {"unavailable"}
    assert tools.listing(result.folder) == tools.listing(content)


async def test_an_expired_token_is_renewed_in_the_middle(world, content: Path, tools) -> None:
    near = world.point("near")
    home = await world.client()

    def expire(_: bytes, data: bytes) -> bytes:
        if near.requests.total() == 4:
            near.token = world.token = "token-2"
        return data

    near.damage = expire
    result = await fetch(home, tools.content)
    assert tools.listing(result.folder) == tools.listing(content)
    assert result.failures == ()
    assert len(world.locations) == 2


async def test_a_token_that_stays_invalid_is_an_error(world, content: Path, tools) -> None:
    world.point("near").token = "something else"
    with pytest.raises(UnavailableError, match="token has expired"):
        await fetch(await world.client(retries=0), tools.content)


async def test_an_object_that_a_source_lacks_comes_from_another(world, content: Path, tools) -> None:
    near = world.point("near")
    near.failing = NotFoundError("No such object.")
    world.point("other")
    result = await fetch(await world.client(), tools.content)
    assert set(by_name(result)) == {"other"}
    assert codes(result, "near") == {"not_found"}


async def test_name_way_and_certificate_are_told_apart(world, content: Path, tools, cloud: str) -> None:
    world.point("unknown-name", trust="system")
    world.urls["unknown-name"] = "https://no-such-host.invalid"
    world.point("refused")
    world.urls["refused"] = "https://127.0.0.1:9"
    world.point("untrusted", trust="system")
    world.urls["untrusted"] = f"{cloud}/untrusted"
    world.point("good")
    home = await world.client(resolve={"service.example": "127.0.0.1"})

    result = await fetch(home, tools.content)

    assert set(by_name(result)) == {"good"}
    assert codes(result, "unknown-name") == {"name_resolution"}
    assert codes(result, "refused") == {"unavailable"}
    assert codes(result, "untrusted") == {"trust"}
    reasons = {failure.name: failure.reason for failure in result.failures}
    assert "cannot be resolved" in reasons["unknown-name"]
    assert "refuses connections" in reasons["refused"]
    assert "certificate of service.example" in reasons["untrusted"]


async def test_a_cloud_service_is_used_once_its_issuer_is_trusted(
    world, content: Path, tools, cloud: str, tmp_path: Path
) -> None:
    world.point("service", TierKind.CLOUD, trust="system")
    world.urls["service"] = f"{cloud}/service"
    home = await world.client(resolve={"service.example": "127.0.0.1"}, service_ca=str(tmp_path / "cloud-ca.pem"))
    result = await fetch(home, tools.content)
    assert set(by_name(result)) == {"service"}


async def test_no_source_at_all_is_an_error_that_says_why(world, content: Path, tools) -> None:
    from entrepot.protocol.location import Withheld

    world.withheld = (Withheld(name="cloud", reason="The service is stopped."),)
    with pytest.raises(UnavailableError, match=r"offers no source.*service is stopped"):
        await fetch(await world.client(retries=0), tools.content)


async def test_a_service_that_is_stopped_meanwhile_is_an_error_that_tells_both(world, content: Path, tools) -> None:
    """R27: the connection ends, and the site, asked again, does not offer the service any more."""
    from entrepot.protocol.location import Withheld

    cloud = world.point("cloud", TierKind.CLOUD)

    def stop(_: bytes, data: bytes) -> bytes:
        if cloud.requests.total() == 4:
            cloud.failing = UnavailableError("The service was stopped.")
            world.tiers = []
            world.withheld = (Withheld(name="cloud", reason="An administrator stopped it."),)
        return data

    cloud.damage = stop
    with pytest.raises(UnavailableError, match=r"The service was stopped\. .*offers no source") as caught:
        await fetch(await world.client(), tools.content)
    assert "administrator stopped it" in caught.value.next_step


async def test_sources_that_come_back_are_used_after_a_pause(world, content: Path, tools) -> None:
    near = world.point("near")
    near.failing = UnavailableError("Starting.")
    home = await world.client(retries=2)

    def heal(reply):
        if len(world.locations) > 1:
            near.failing = None
        return reply

    world.alter = heal
    result = await fetch(home, tools.content)
    assert tools.listing(result.folder) == tools.listing(content)


async def test_a_manifest_that_lies_about_a_chunk_is_nobodys_fault(world, tools) -> None:
    from entrepot.content.manifest import Entry, EntryKind, Extent, Part
    from entrepot.content.sealing import Purpose
    from entrepot.protocol import SealedRef

    right = world.library.seal(b"content", Purpose.CHUNK)
    wrong = SealedRef(right.object_id, right.sealed_size, right.plain_size, right.key, b"x" * 32)
    entry = Entry(kind=EntryKind.FILE, path="file", size=7, digest=b"x" * 32, extents=(Extent(0, 0, 7),))
    world.library.forge([Part(version=2, chunks=(wrong,), entries=(entry,))])
    near = world.point("near")
    with pytest.raises(IntegrityError, match="other bytes than the manifest promises"):
        await fetch(await world.client(), tools.content)
    assert near.requests[right.object_id.hex()] == 1


async def test_a_manifest_signed_by_a_stranger_is_refused(world, content: Path, tools) -> None:
    from entrepot.trust.signing import SigningKey

    world.point("near")
    home = await world.client()
    stranger = SigningKey.generate()
    world.library.hierarchy.keys = dict(world.library.hierarchy.keys)
    honest = world.hierarchy.trust()
    for role in world.hierarchy.keys:
        if role == "manifest":
            world.hierarchy.keys[role] = stranger
    world.hierarchy.trust = lambda: honest
    world.publish(content, 2)
    with pytest.raises(TrustError, match="does not list"):
        await fetch(home, tools.content)
    assert not list((home / "content").iterdir())
