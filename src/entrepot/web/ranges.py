"""Conditional and range requests (RFC 9110 sections 13 and 14): pure decisions about one immutable representation."""

import re

import msgspec

from entrepot.core.errors import BadInputError

_RANGE = re.compile(r"bytes=(\d{0,100})-(\d{0,100})")


class RangeNotSatisfiableError(BadInputError):
    """The requested range lies outside the object (416)."""

    code = "range_not_satisfiable"


class UnmatchedError(BadInputError):
    """The object is not the one that the request is about (412)."""

    code = "precondition_failed"


class Span(msgspec.Struct, frozen=True, gc=False):
    """Which bytes to send: ``length`` from ``start``; ``partial`` makes it a 206."""

    start: int
    length: int
    partial: bool

    def content_range(self, size: int) -> bytes:
        """Value of the Content-Range header."""
        return b"bytes %d-%d/%d" % (self.start, self.start + self.length - 1, size)


def choose_span(header: str | None, size: int) -> Span:
    """Decide what a Range header asks of ``size`` bytes.

    Several ranges at once, other units and malformed headers are answered with everything, as the RFC allows.

    Raises:
        RangeNotSatisfiableError: the range begins beyond the end.
    """
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    from_text, to_text = match.groups() if match else ("", "")
    if not from_text and not to_text:
        return Span(0, size, partial=False)
    if not from_text:
        length = min(int(to_text), size)
        if length == 0:
            raise RangeNotSatisfiableError(f"The last {to_text} bytes of {size} cannot be sent.")
        return Span(size - length, length, partial=True)
    first = int(from_text)
    last = int(to_text) if to_text else size - 1
    if to_text and last < first:
        return Span(0, size, partial=False)
    if first >= size:
        raise RangeNotSatisfiableError(f"There is no byte {first}: the object has {size} bytes.")
    return Span(first, min(last + 1, size) - first, partial=True)


def require_match(header: str | None, etag: str) -> None:
    """Judge an If-Match header (strong comparison).

    Raises:
        UnmatchedError: it names other entity tags only.
    """
    if header is not None and not {"*", etag} & {tag.strip() for tag in header.split(",")}:
        raise UnmatchedError("The object has none of the entity tags that If-Match names.")


def etag_matches(header: str | None, etag: str) -> bool:
    """Tell whether an If-None-Match header names this entity tag (weak comparison)."""
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return etag in tags or "*" in tags
