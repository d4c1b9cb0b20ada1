"""Compression: zstd as hard as the data is worth, the same for the same bytes, so that equal chunks give equal objects.

Most of what publishing costs is spent here, so it was measured on a gigabyte of installed software (see
``docs/benchmarks.md``). zstd's level 3 keeps tables of 768 KiB; with small tables, which stay in a core's cache, it
takes a quarter less time and gives four hundredths more bytes. Programs repeat what is near: a window of 256 KiB, which
stays there, too, and matches of 6 bytes take a sixth less time again, for two hundredths more bytes. Only text gains
from a second table at all, and whether something is text its bytes tell at once: to compress samples for that took
longer than what was gained.
"""

import threading
from enum import Enum
from typing import Final

import zstandard

from entrepot.core.sizes import KIB

DEFAULT_LEVEL: Final = 3
_SAMPLE: Final = KIB
_SAMPLES: Final = 8
_WORTH_A_SAMPLE: Final = 64 * KIB
_HOPELESS: Final = 0.96


class Effort(Enum):
    """How hard to try. The values are for :func:`_parameters`: strategy, logarithms of the window and of table sizes,
    shortest match."""

    NONE = None
    SAMPLE = (zstandard.STRATEGY_FAST, 21, 12, 12, 5)
    PROGRAM = (zstandard.STRATEGY_FAST, 18, 14, 15, 6)
    TEXT = (zstandard.STRATEGY_DFAST, 21, 14, 15, 5)


class Earlier(Enum):
    """How hard earlier versions tried: nothing new is compressed so, but what they sealed can be made again. Whoever
    changes an :class:`Effort` keeps what it was here, or no repair finds the objects of before again."""

    PROGRAM = (zstandard.STRATEGY_FAST, 21, 14, 15, 5)
    REPEATING = (zstandard.STRATEGY_FAST, 21, 14, 15, 6)
    TEXT = (zstandard.STRATEGY_DFAST, 21, 14, 15, 6)


Way = int | Effort | Earlier
"""One of zstd's levels, or an effort other than NONE."""


def effort_for(plain: bytes | memoryview) -> Effort:
    """What a plaintext is worth, by samples of it: nothing where they do not shrink (videos, archives)."""
    if len(plain) <= _WORTH_A_SAMPLE:
        return Effort.TEXT
    step = (len(plain) - _SAMPLE) // (_SAMPLES - 1)
    view = memoryview(plain)
    sample = b"".join(view[at * step : at * step + _SAMPLE] for at in range(_SAMPLES))
    if sample.isascii():
        return Effort.TEXT
    hopeless = len(compress(sample, Effort.SAMPLE)) >= _HOPELESS * len(sample)
    return Effort.NONE if hopeless else Effort.PROGRAM


class _Compressors(threading.local):
    """One compressor per thread and level: its tables take longer to make than a small chunk to compress."""

    def __init__(self) -> None:
        self.made: dict[Way, zstandard.ZstdCompressor] = {}


_compressors: Final = _Compressors()


def compress(plain: bytes | memoryview, level: Way) -> bytes:
    """A zstd frame with its content size, without checksum. The same thread reuses its compressor."""
    made = _compressors.made.get(level)
    if made is None:
        made = zstandard.ZstdCompressor(compression_params=_parameters(level))
        _compressors.made[level] = made
    return made.compress(plain)


def _parameters(level: Way) -> zstandard.ZstdCompressionParameters:
    if isinstance(level, int):
        return zstandard.ZstdCompressionParameters(compression_level=level, write_content_size=True)
    strategy, window_log, chain_log, hash_log, min_match = level.value
    return zstandard.ZstdCompressionParameters(
        strategy=strategy,
        window_log=window_log,
        chain_log=chain_log,
        hash_log=hash_log,
        search_log=1,
        min_match=min_match,
        target_length=0,
        write_content_size=True,
    )
