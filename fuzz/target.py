"""What a target is: a parser with good inputs, and the promises that it keeps for whatever it accepts."""

from collections.abc import Callable

import msgspec

from entrepot.core.errors import EntrepotError


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One parser: how its user calls it, and good inputs to change."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]

    def feed(self, data: bytes) -> bool:
        """Parse an input, or a good input changed by it (the first byte says which); whether it was accepted."""
        if not data:
            return False
        body = data[1:]
        if self.seeds and data[0] % 2:
            body = _changed(self.seeds[data[0] // 2 % len(self.seeds)], body)
        try:
            self.parse(body)
        except EntrepotError:
            return False
        return True


def _changed(good: bytes, changes: bytes) -> bytes:
    """Bytes put at places, three bytes each change; one byte left over cuts the end off."""
    data = bytearray(good)
    for at in range(0, len(changes) - 2, 3):
        data[int.from_bytes(changes[at : at + 2], "big") % len(data)] = changes[at + 2]
    return bytes(data[: len(data) - changes[-1] % len(data)] if len(changes) % 3 == 1 else data)


def promise(kept: bool, broken: str) -> None:
    """A defect, where it was not kept."""
    if not kept:
        raise AssertionError(broken)
