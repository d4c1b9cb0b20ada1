"""The summary lines of ``CloudDP-<service>.log``: one an hour, device, content and class of status, and collection.

The text is ``hour=2026-03-23T14:00:00Z device=dev-… content=pkg-… status=2xx requests=12 bytes=3456``; ``-`` stands
for nothing, other characters than letters, digits and ``._-`` are percent-encoded. Lines add up: records that arrive
late give their hour another line. Lines of failed requests are warnings, of server errors errors, so that CMTrace
colours them.

At verbose level every transaction has a line before them: ``transaction=2026-03-23T14:00:00.123Z device=… content=…
object=… status=200 bytes=… milliseconds=… method=GET delivery=stream``; one that was answered with a link to the store
has ``delivery=redirect`` and at its end ``granted=…``, the bytes that the client may fetch there. In the sums those are
the bytes of ``status=3xx``.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from entrepot.core.errors import FormatError
from entrepot.core.times import iso
from entrepot.database.collection import BucketRow
from entrepot.protocol.transactions import Record
from entrepot.site.cloud.cmtrace import BiasSign, LineType, LogLine, format_line, parse_line

COMPONENT = "CloudDP"

_TYPES = {"4xx": LineType.WARNING, "5xx": LineType.ERROR}
_TEXT = re.compile(
    r"hour=(?P<hour>\d{4}-\d\d-\d\dT\d\d:00:00Z) device=(?P<device>[\w.%~-]{1,800}) "
    r"content=(?P<content>[\w.%~-]{1,800}) status=(?P<status>[1-5]xx) "
    r"requests=(?P<requests>\d{1,19}) bytes=(?P<bytes>\d{1,19})",
    re.ASCII,
)


def log_name(service: str) -> str:
    """The name of a cloud point's log (R26)."""
    return f"CloudDP-{service}.log"


def summary_lines(rows: Sequence[BucketRow], *, now: float) -> bytes:
    """Whole lines, UTF-8, CRLF as CMTrace's own logs have."""
    lines = (
        format_line(
            LogLine(
                time=int(now) * 1000,
                text=_text(row),
                component=COMPONENT,
                type=_TYPES.get(row.status, LineType.INFORMATION),
            )
        )
        for row in rows
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def transaction_lines(records: Iterable[Record], contents: Callable[[bytes], str]) -> bytes:
    """A line for each record, at its own time. ``contents`` names the content of an object set."""
    lines = (
        format_line(
            LogLine(
                time=record.time,
                text=(
                    f"transaction={iso(record.time // 1000)[:-1]}.{record.time % 1000:03d}Z "
                    f"device={_word(record.device)} content={_word(contents(record.set_id))} "
                    f"object={record.object_id.hex() or '-'} status={record.status} bytes={record.sent} "
                    f"milliseconds={record.duration} method={_word(record.method)} delivery={_word(record.delivery)}"
                    f"{f' granted={record.granted}' if record.granted else ''}"
                ),
                component=COMPONENT,
                type=_TYPES.get(f"{record.status // 100}xx", LineType.INFORMATION),
            )
        )
        for record in records
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def _text(row: BucketRow) -> str:
    return (
        f"hour={iso(row.hour)} device={_word(row.device)} content={_word(row.content)} status={row.status} "
        f"requests={row.requests} bytes={row.bytes}"
    )


def _word(text: str) -> str:
    # A lone hyphen means nothing, so a name that is one is encoded.
    return "%2D" if text == "-" else quote(text, safe="") or "-"


def _unword(word: str) -> str:
    return "" if word == "-" else unquote(word)


def parse_summary(line: str, *, sign: BiasSign = BiasSign.WINDOWS) -> BucketRow:
    """Read a summary line back.

    Raises:
        FormatError: another kind of line.
    """
    match = _TEXT.fullmatch(parse_line(line, sign=sign).text)
    if match is None:
        raise FormatError("This is not a summary line of a cloud distribution point.")
    try:
        hour = datetime.strptime(match["hour"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise FormatError("The summary line names an impossible hour.") from None
    return BucketRow(
        hour=int(hour.timestamp()),
        device=_unword(match["device"]),
        content=_unword(match["content"]),
        status=match["status"],
        requests=int(match["requests"]),
        bytes=int(match["bytes"]),
    )
