"""Deltas that the site's own key signed and that lie: the full objects remain, and a lie costs next to nothing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.client.deltas import MAX_COST
from entrepot.client.fetch import FetchResult, fetch
from entrepot.content.delta.format import (
    VERSION,
    DeltaPart,
    DeltaRoot,
    Patch,
    PlainRange,
    decode_delta_part,
    decode_delta_root,
)
from entrepot.content.sealing import Purpose
from entrepot.core.encoding import pack
from entrepot.core.sizes import MIB
from entrepot.protocol import SealedRef, SignedType
from entrepot.protocol.location import DeltaOffer
from entrepot.protocol.trust import Role
from entrepot.trust.signing import take_apart

FILES, SIZE = 4, 300_000


class Forge:
    """Version 1 is on the client, version 2 and its honest delta at a point; any other delta is signed as a site would.

    Attributes:
        root: of the honest delta.
        patches: of its only part.
    """

    def __init__(self, world: Any, tools: Any, source: Path) -> None:
        self._world, self._tools, self._source = world, tools, source
        self.point = world.point("near")
        self.home = Path()
        self.size = 0

    async def begin(self) -> None:
        files = [bytearray(os.urandom(SIZE)) for _ in range(FILES)]
        self._publish(files, 1)
        self.home = await self._world.client()
        await fetch(self.home, self._tools.content)
        for data in files:
            data[1000:1004] = b"\0\1\2\3"
        self._publish(files, 2)
        made = self._world.offer_delta(1, 2)
        self.size = made.size
        document = self._world.library.read(made.root)
        self.root: DeltaRoot = decode_delta_root(take_apart(document, typ=SignedType.DELTA).payload)
        [part] = self.root.parts
        self.patches = decode_delta_part(self._world.library.read(part), self.root).patches

    def _publish(self, files: list[bytearray], number: int) -> None:
        for name, data in enumerate(files):
            (self._source / f"library-{name}").write_bytes(data)
        self._world.publish(self._source, number)

    def seal(self, plain: bytes, purpose: Purpose) -> SealedRef:
        ref: SealedRef = self._world.library.seal(plain, purpose)
        return ref

    def part(self, *patches: Patch) -> SealedRef:
        return self.seal(pack(DeltaPart(VERSION, patches)), Purpose.DELTA_PART)

    def parts(self, **changes: Any) -> dict[str, tuple[SealedRef, ...]]:
        """The honest patches with other fields, in one part."""
        return {"parts": (self.part(*(msgspec.structs.replace(patch, **changes) for patch in self.patches)),)}

    def offer(self, *, typ: SignedType = SignedType.DELTA, **changes: Any) -> None:
        """Sign a root with other fields, and offer it as if it were as small as the honest one."""
        root = msgspec.structs.replace(self.root, **changes)
        document = self._world.hierarchy.sign(pack(root), typ, Role.MANIFEST).encode()
        ref = self.seal(document, Purpose.DELTA_ROOT)
        self._world.deltas[:] = [DeltaOffer(from_version=1, root=ref, set_id=b"s" * 32, size=self.size)]

    async def update(self) -> tuple[FetchResult, int]:
        """Fetch version 2; the result, and what the point sent."""
        before = self.point.served
        result = await fetch(self.home, self._tools.content)
        assert self._tools.listing(result.folder) == self._tools.listing(self._source)
        return result, self.point.served - before


@pytest.fixture
async def forge(world: Any, tools: Any, tmp_path: Path) -> Forge:
    source = tmp_path / "app"
    source.mkdir()
    made = Forge(world, tools, source)
    await made.begin()
    return made


def junk(forge: Forge) -> dict[str, Any]:
    """Each patch in a pack of its own, as large as packs may be."""
    packs = tuple(forge.seal(os.urandom(8 * MIB), Purpose.DELTA_PACK) for _ in forge.patches)
    patches = (msgspec.structs.replace(patch, pack=number) for number, patch in enumerate(forge.patches))
    return {"packs": packs, "parts": (forge.part(*patches),)}


def exchanged(forge: Forge) -> dict[str, Any]:
    """Each chunk gets the patch of the next."""
    others = (*forge.patches[1:], forge.patches[0])
    patches = (
        msgspec.structs.replace(patch, offset=other.offset, length=other.length)
        for patch, other in zip(forge.patches, others, strict=True)
    )
    return {"parts": (forge.part(*patches),)}


LIES: dict[str, tuple[Callable[[Forge], dict[str, Any]], str]] = {
    "another base": (lambda _: {"old_root": b"x" * 32}, "leads between other versions"),
    "another content": (lambda _: {"content": "pkg-ffffffffffffffff"}, "leads between other versions"),
    "a later version": (lambda _: {"new_number": 3}, "leads between other versions"),
    "a manifest's type": (lambda _: {"typ": SignedType.MANIFEST}, "document of another type"),
    "a pack that is not listed": (lambda forge: forge.parts(pack=2**40), "names no chunk or no pack"),
    "a range beyond the end": (lambda forge: forge.parts(ranges=(PlainRange(FILES * SIZE - 9, 10),)), ""),
    "a range beyond any integer": (lambda forge: forge.parts(ranges=(PlainRange(2**64 - 1, 10),)), ""),
    "lengths that overflow": (lambda forge: forge.parts(ranges=(PlainRange(0, 2**64 - 1),) * 2), "impossible ranges"),
    "a part time and again": (lambda forge: {"parts": forge.root.parts * 1000}, "makes a chunk twice"),
    "a chunk twice": (lambda forge: {"parts": (forge.part(*forge.patches[:1] * 1000),)}, "makes a chunk twice"),
    "a part as a pack": (lambda forge: {"packs": forge.root.parts}, "outside its pack"),
    "another size of the packs": (
        lambda forge: {"packs": tuple(msgspec.structs.replace(ref, plain_size=MIB) for ref in forge.root.packs)},
        "",
    ),
    "another key of the packs": (
        lambda forge: {"packs": tuple(msgspec.structs.replace(ref, key=b"k" * 32) for ref in forge.root.packs)},
        "",
    ),
    "patches of other chunks": (exchanged, ""),
    "packs of junk": (junk, "costs more than it was offered for"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_costs_no_more_than_the_full_objects_and_what_was_offered(forge: Forge, lie: str) -> None:
    tell, problem = LIES[lie]
    forge.offer(**tell(forge))
    result, served = await forge.update()
    assert problem in result.delta_problem
    assert result.delta_chunks == 0
    assert served < FILES * SIZE + 20_000 + MAX_COST * forge.size


async def test_the_forged_delta_without_a_lie_serves(forge: Forge) -> None:
    forge.offer()
    result, served = await forge.update()
    assert (result.delta_chunks, result.delta_problem) == (FILES, "")
    assert served < 2 * forge.size
