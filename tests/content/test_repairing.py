"""Whatever version of this program sealed an object, a repair can make it again: each way is held fast by an id."""

import random

import pytest

from entrepot.content.compressing import Earlier, Effort, Way
from entrepot.content.repairing import WAYS, sealed_as
from entrepot.content.sealing import Generation, Purpose, seal
from entrepot.core.secret import Secret

GENERATION = Generation(1, Secret(bytes(32)))
SHIPPED: dict[Way, str] = {
    0: "d8a2cd8b06ceb7edcf3154bc94780fb215dfcceaac1b6990e3ce03222bf931c6",
    3: "61ea578a51b48314c3e9d4637590669116b49b4b2aef44ab1361e52d2dfb96e2",
    Effort.PROGRAM: "6a057d20c6fc25635938eae7b88a7fe6b8c3e3f24ac6e6bf7432e6b423b25eb5",
    Effort.TEXT: "8e6e835b6a4425625c2db054418d7a735b918c148c63fc8e31907bcd86fb0647",
    Earlier.TEXT: "d24e77a217588fbc88211d6f277dc5f887552c2a2cbd98055fb46158f5f9daae",
}
"""A zstd that compresses otherwise fails here, and should: what it sealed before could no longer be made again."""


def text() -> bytes:
    """The same 60 KB of words everywhere, on which all ways differ."""
    dice = random.Random(3)
    words = [bytes(dice.choices(b"etaoinshrdlu", k=dice.randint(3, 9))) for _ in range(2000)]
    return b" ".join(dice.choices(words, k=10_000))


@pytest.mark.parametrize("way", SHIPPED, ids=str)
def test_each_way_that_was_ever_shipped_still_makes_the_same_object_and_a_repair_finds_it(way: Way) -> None:
    sealed = seal(text(), purpose=Purpose.CHUNK, generation=GENERATION, level=way)
    assert sealed.ref.object_id.hex() == SHIPPED[way]
    assert sealed_as(text(), sealed.ref) == sealed.data


def test_no_effort_is_forgotten() -> None:
    assert {*Effort, *Earlier} - {Effort.NONE, Effort.SAMPLE} <= set(WAYS)
