"""What ``docs/cost.md`` says of the lines of ``CloudDP-<service>.log`` is what the site writes."""

import re
from pathlib import Path

from entrepot.core.times import HOUR
from entrepot.database.collection import BucketRow
from entrepot.protocol.transactions import Record
from entrepot.site.cloud.cmtrace import parse_line
from entrepot.site.cloud.summary import parse_summary, summary_lines, transaction_lines

PAGE = (Path(__file__).parents[2] / "docs" / "cost.md").read_text("utf-8")
AT = 1_774_274_400  # 2026-03-23T14:00:00Z
DEVICE, CONTENT = "dev-0123456789abcdef", "pkg-0123456789abcdef"


def _fields(text: str) -> list[str]:
    return [word.partition("=")[0] for word in text.split()]


def _table(heading: str) -> set[str]:
    """The fields in the table that begins with this one."""
    rows = PAGE.partition(f"| `{heading}` |")[2].partition("\n\n")[0]
    return {heading, *re.findall(r"`(\w+)`", " ".join(row.partition(" | ")[0] for row in rows.split("\n")[1:]))}


def test_the_line_in_the_page_is_the_one_that_is_written() -> None:
    [line] = re.findall(r"^<!\[LOG\[hour=.*$", PAGE, re.MULTILINE)
    row = BucketRow(hour=AT, device=DEVICE, content=CONTENT, status="2xx", requests=12, bytes=3456)
    assert parse_summary(line) == row
    assert summary_lines([row], now=AT + HOUR + 7).decode() == line + "\r\n"
    assert _table("hour") == set(_fields(parse_line(line).text))


def test_the_page_tells_every_field_of_a_transaction() -> None:
    record = Record(AT * 1000 + 123, DEVICE, b"s", bytes.fromhex("5e1c"), 302, 0, 12, delivery="redirect", granted=7)
    written = parse_line(transaction_lines([record], lambda _: CONTENT).decode()).text
    [shown] = re.findall(r"^transaction=.*$", PAGE, re.MULTILINE)
    assert [*_fields(shown), "granted"] == _fields(written)
    assert _table("transaction") == set(_fields(written))
