"""A pack that no source delivers costs its own chunks, not the whole delta."""

from pathlib import Path
from typing import cast

from entrepot.client.cache import Cache
from entrepot.client.deltas import MAX_FAILED, DeltaSource
from entrepot.client.downloader import Downloader
from entrepot.client.trees import EarlierTree
from entrepot.content.delta.format import DeltaRoot, Patch, PlainRange
from entrepot.core.errors import UnavailableError
from entrepot.protocol import SealedRef
from entrepot.protocol.location import DeltaOffer, LocationReply


def ref(number: int) -> SealedRef:
    return SealedRef(bytes([number]) * 32, 10, 5, b"k" * 32, b"s" * 32)


class Nothing:
    """A downloader that no source answers."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def get(self, wanted: SealedRef, *_: object, **__: object) -> None:
        self.asked.append(wanted.object_id)
        raise UnavailableError("No source has it.")


class Tree:
    def plaintext(self, position: int, length: int) -> bytes:
        return bytes(length)


async def test_packs_that_fail_are_counted_once_each(tmp_path: Path) -> None:
    offer = DeltaOffer(from_version=1, root=ref(200), set_id=bytes(32), size=100)
    nothing = Nothing()
    source = DeltaSource(
        offer,
        cast("LocationReply", None),
        cast("EarlierTree", Tree()),
        cast("Downloader", nothing),
        Cache(tmp_path, 0),
        lambda document: document,
    )
    packs = tuple(ref(100 + number) for number in range(MAX_FAILED))
    source._root = cast("DeltaRoot", type("Root", (), {"packs": packs}))
    for number in range(MAX_FAILED):
        assert not source.problem
        chunks = [ref(10 * number + chunk) for chunk in range(1, 6)]
        patches = {chunk.object_id: Patch(chunk.object_id, number, 0, 5, (PlainRange(0, 5),)) for chunk in chunks}
        for chunk in chunks:
            assert await source.rebuild(chunk, patches) is None
    assert source.problem == "No source has it."
    assert nothing.asked == [pack.object_id for pack in packs]
    await source.close()
