"""What an error of a download tells people to do: another source, an update or publishing again, where it helps."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.client.fetch import fetch
from entrepot.content.digests import digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.content.sealing import Purpose
from entrepot.core.errors import FormatError, IntegrityError, UnavailableError, UnsupportedError
from entrepot.core.ids import ObjectId
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import SealedRef

DATA = b"what a newer program sealed"


def store(world, data: bytes, key: bytes) -> SealedRef:
    """An object as it is, with a right name."""
    name = object_id_of(data)
    world.library.shelf.put_sealed(ObjectId(name), data)
    return SealedRef(object_id=name, sealed_size=len(data), plain_size=len(DATA), key=key, digest=digest_of(DATA))


def forge(world, ref: SealedRef, **fields: object) -> None:
    """A manifest of one file, made of this object."""
    entry = Entry(
        kind=EntryKind.FILE,
        path="file",
        mode=0o644,
        size=len(DATA),
        digest=digest_of(DATA),
        extents=(Extent(0, 0, len(DATA)),),
    )
    world.library.forge([Part(version=fields.pop("part_version", 2), chunks=(ref,), entries=(entry,))], **fields)  # type: ignore[arg-type]


async def test_an_object_of_a_newer_program_asks_for_an_update(world, tools) -> None:
    key = bytes(range(32))
    near, far = world.point("near"), world.point("far")
    forge(world, store(world, AESGCM(key).encrypt(bytes(12), b"\x07" + DATA, None), key))
    home = await world.client(retries=0)
    with pytest.raises(UnsupportedError, match="compression 7") as caught:
        await fetch(home, tools.content)
    assert "Update" in caught.value.next_step
    assert "publish" not in caught.value.next_step
    assert near.requests.total() + far.requests.total() == 3  # root, part, chunk: no other source could help


@pytest.mark.parametrize("totals", [{"version": 3}, {"part_version": 3}])
async def test_a_manifest_of_a_newer_program_asks_for_an_update(world, tools, totals: dict[str, object]) -> None:
    world.point("near")
    forge(world, world.library.seal(DATA, Purpose.CHUNK), **totals)
    with pytest.raises(UnsupportedError, match="version 3") as caught:
        await fetch(await world.client(), tools.content)
    assert "Update" in caught.value.next_step


async def test_a_key_that_does_not_fit_asks_to_publish_again(world, tools) -> None:
    world.point("near")
    forge(world, store(world, AESGCM(bytes(32)).encrypt(bytes(12), b"\x00" + DATA, None), b"k" * 32))
    with pytest.raises(IntegrityError, match="does not open") as caught:
        await fetch(await world.client(), tools.content)
    assert "publish it again" in caught.value.next_step


async def test_a_manifest_that_breaks_a_rule_asks_to_publish_again(world, tools) -> None:
    world.point("near")
    forge(world, world.library.seal(DATA, Purpose.CHUNK), files=7)
    with pytest.raises(FormatError, match="do not add up") as caught:
        await fetch(await world.client(), tools.content)
    assert "publish it again" in caught.value.next_step


async def test_a_source_that_answers_anything_is_passed_over(world, source: Path, tools) -> None:
    world.publish(source)
    world.point("near").failing = UnsupportedError("I am too old for this.")
    world.point("far")
    result = await fetch(await world.client(), tools.content)
    assert tools.listing(result.folder) == tools.listing(source)
    assert [failure.name for failure in result.failures] == ["near"]


async def test_damage_at_the_only_source_asks_to_validate_it(world, source: Path, tools) -> None:
    world.publish(source)
    near = world.point("near")
    near.damage = lambda _, data: bytes([data[0] ^ 1]) + data[1:]
    with pytest.raises(UnavailableError, match="does not match its id") as caught:
        await fetch(await world.client(retries=0), tools.content)
    assert "Validate the content on near" in caught.value.next_step
