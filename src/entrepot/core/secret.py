"""A secret that never prints itself."""

from typing import Final


class Secret:
    """Bytes that must not reach logs, URLs, process lists or error texts.

    ``repr`` and ``str`` give ``***``; it cannot be pickled; ``reveal`` is the only way in.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value: Final = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """The bytes. Keep them in the smallest scope that works."""
        return self._value

    def reveal_text(self) -> str:
        """The bytes as UTF-8 text."""
        return self._value.decode()

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        raise TypeError("compare secrets with hmac.compare_digest")

    __hash__ = None  # type: ignore[assignment]  # a secret is no dictionary key

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")
