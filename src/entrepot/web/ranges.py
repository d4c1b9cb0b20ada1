"""Conditional and range requests (RFC 9110 sections 13 and 14): pure decisions about one immutable representation."""

import re

import msgspec

from entrepot.core.errors import BadInputError

_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})")


class RangeNotSatisfiableError(BadInputError):
    """The requested range lies outside the object (416)."""

    code = "range_not_satisfiable"


class Span(msgspec.Struct, frozen=True, kw_only=True):
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
    whole = Span(start=0, length=size, partial=False)
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or (not match["first"] and not match["last"]):
        return whole
    if not match["first"]:
        length = min(int(match["last"]), size)
        if length == 0:
            raise RangeNotSatisfiableError(f"The last {match['last']} bytes of {size} cannot be sent.")
        return Span(start=size - length, length=length, partial=True)
    first = int(match["first"])
    last = min(int(match["last"]), size - 1) if match["last"] else size - 1
    if match["last"] and int(match["last"]) < first:
        return whole
    if first >= size:
        raise RangeNotSatisfiableError(f"There is no byte {first}: the object has {size} bytes.")
    return Span(start=first, length=last - first + 1, partial=True)


def etag_matches(header: str | None, etag: str) -> bool:
    """Tell whether an If-None-Match header names this entity tag (weak comparison)."""
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return etag in tags or "*" in tags
