"""Log lines in the format that CMTrace reads (domain 7), written and parsed.

A line is ``<![LOG[text]LOG]!><time="14:30:00.000+000" date="03-23-2026" component="…" context="" type="1"
thread="…" file="…">``. The suffix of the time is Windows' *bias* in minutes: UTC = local time + bias, so UTC+2 is
written ``-120``. Public scripts disagree about the sign, so the reader is told which convention to use. Entrepôt writes
UTC (``+000``), where both agree. The site-server form, ``text  $$<COMPONENT><MM-DD-YYYY HH:MM:SS.mmm+bias><thread=225
(0xE1)>``, is read too.
"""

import re
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum

import msgspec

from entrepot.core.errors import FormatError

MAX_LINE = 16 * 1024

_CLIENT = re.compile(
    r"<!\[LOG\[(?P<text>.*?)\]LOG\]!>"
    r'<time="(?P<time>[^"<>]{1,32})" date="(?P<date>[^"<>]{1,16})" component="(?P<component>[^"<>]*)"'
    r'(?: context="[^"<>]*")? type="(?P<type>[0-3])"(?: thread="(?P<thread>[^"<>]{0,32})")?'
    r'(?: file="(?P<file>[^"<>]*)")?>\s*',
    re.DOTALL,
)
_SERVER = re.compile(
    r"~?(?P<text>.*?)\s*\$\$<(?P<component>[^<>]*)><(?P<date>\d{1,2}-\d{1,2}-\d{4}) (?P<time>[^<>]{1,32})>"
    r"<thread=(?P<thread>\d{1,10})(?: \(0x[0-9A-Fa-f]+\))?>\s*",
    re.DOTALL,
)
_TIME = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})\.(\d{1,7})([+-]\d{1,4})?")
_DATE = re.compile(r"(\d{1,2})-(\d{1,2})-(\d{4})")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_END = "]LOG]!>"


class LineType(IntEnum):
    """The ``type`` attribute; CMTrace colours by it."""

    INFORMATION = 1
    WARNING = 2
    ERROR = 3


class BiasSign(StrEnum):
    """How a time's suffix is meant: Windows' bias (UTC = local + suffix) or an ISO offset (UTC = local - suffix)."""

    WINDOWS = "windows"
    ISO = "iso"


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line. ``time`` in milliseconds since 1970 UTC."""

    time: int
    text: str
    component: str
    type: LineType = LineType.INFORMATION
    thread: int = 0
    file: str = ""


def format_line(line: LogLine) -> str:
    """The line in UTC, without a line end. Text that could end the line early or begin another is made harmless."""
    moment = datetime.fromtimestamp(line.time // 1000, UTC)
    text = _UNSAFE.sub(" ", line.text).replace(_END, "]LOG] !>")
    clock = f"{moment:%H:%M:%S}.{line.time % 1000:03d}+000"
    return (
        f'<![LOG[{text}{_END}<time="{clock}" date="{moment:%m-%d-%Y}" component="{_attribute(line.component)}" '
        f'context="" type="{int(line.type)}" thread="{line.thread}" file="{_attribute(line.file)}">'
    )


def _attribute(text: str) -> str:
    return re.sub(r'["<>]', "", _UNSAFE.sub(" ", text))


def parse_line(line: str, *, sign: BiasSign = BiasSign.WINDOWS) -> LogLine:
    """Read one line of either form.

    Args:
        line: without or with its line end, at most 16 KiB.
        sign: what the suffix of the time means; lines of Entrepôt are the same under both.

    Raises:
        FormatError: neither form, or an impossible date.
    """
    match = None if len(line) > MAX_LINE else _CLIENT.fullmatch(line) or _SERVER.fullmatch(line)
    if match is None:
        raise FormatError("This is not a line of a CMTrace log.")
    found = match.groupdict()
    kind = int(found.get("type") or 1)
    thread = found["thread"] or "0"
    return LogLine(
        time=_instant(found["date"], found["time"], sign),
        text=found["text"],
        component=found["component"],
        type=LineType(kind) if kind else LineType.INFORMATION,
        thread=int(thread) if thread.isascii() and thread.isdigit() else 0,
        file=found.get("file") or "",
    )


def _instant(date: str, time: str, sign: BiasSign) -> int:
    day, clock = _DATE.fullmatch(date), _TIME.fullmatch(time)
    if day is None or clock is None:
        raise FormatError("The log line has no readable date or time.")
    month, of_month, year = (int(part) for part in day.groups())
    hour, minute, second = (int(part) for part in clock.groups()[:3])
    try:
        local = datetime(year, month, of_month, hour, minute, second, tzinfo=UTC)
        bias = timedelta(minutes=int(clock[5] or 0))
        moment = local + bias if sign is BiasSign.WINDOWS else local - bias
    except (ValueError, OverflowError):
        raise FormatError("The log line has an impossible date or time.") from None
    milliseconds = int(clock[4][:3].ljust(3, "0"))
    return round(moment.timestamp()) * 1000 + milliseconds
