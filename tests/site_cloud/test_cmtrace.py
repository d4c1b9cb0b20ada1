"""Log lines can be read back, whatever the text, and both conventions of the bias are understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import FormatError
from entrepot.site.cloud.cmtrace import BiasSign, LineType, LogLine, format_line, parse_line

NOON = 1_774_267_200_000  # 2026-03-23T12:00:00Z


def test_a_line_has_the_form_that_cmtrace_reads() -> None:
    line = LogLine(time=NOON + 7, text="12 requests", component="CloudDP", thread=42, file="collection.py:1")
    assert format_line(line) == (
        '<![LOG[12 requests]LOG]!><time="12:00:00.007+000" date="03-23-2026" component="CloudDP" context="" type="1" '
        'thread="42" file="collection.py:1">'
    )


@given(
    time=st.integers(min_value=0, max_value=4_102_444_800_000),
    text=st.text(max_size=300),
    component=st.text(max_size=40),
    kind=st.sampled_from(LineType),
    thread=st.integers(min_value=0, max_value=2**32),
)
def test_whatever_is_written_is_one_line_and_reads_back(
    time: int, text: str, component: str, kind: LineType, thread: int
) -> None:
    line = LogLine(time=time, text=text, component=component, type=kind, thread=thread)
    written = format_line(line)
    assert len(written.splitlines()) == 1
    read = parse_line(written + "\n")
    assert (read.time, read.type, read.thread) == (time, kind, thread)
    assert format_line(read) == written


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Cs")), max_size=200))
def test_ordinary_text_survives_unchanged(text: str) -> None:
    expected = text.replace("]LOG]!>", "]LOG] !>")
    assert parse_line(format_line(LogLine(time=NOON, text=text, component="C"))).text == expected


@pytest.mark.parametrize(
    ("suffix", "sign", "utc_hour"),
    [
        ("-120", BiasSign.WINDOWS, 12),  # UTC+2 as Windows writes it
        ("+480", BiasSign.WINDOWS, 22),  # UTC-8
        ("+120", BiasSign.ISO, 12),
        ("-480", BiasSign.ISO, 22),
        ("+000", BiasSign.ISO, 14),
        ("", BiasSign.WINDOWS, 14),
    ],
)
def test_both_sign_conventions_of_the_bias_are_read(suffix: str, sign: BiasSign, utc_hour: int) -> None:
    time = f'time="14:00:00.000{suffix}" date="03-23-2026"'
    line = f'<![LOG[x]LOG]!><{time} component="X" context="" type="2" thread="1" file="">'
    assert parse_line(line, sign=sign).time == NOON + (utc_hour - 12) * 3_600_000


def test_the_site_server_form_is_read() -> None:
    line = "~Sent content  $$<SMS_DISTRIBUTION_MANAGER><03-23-2026 14:00:00.500-120><thread=225 (0xE1)>"
    read = parse_line(line)
    assert (read.text, read.component, read.thread) == ("Sent content", "SMS_DISTRIBUTION_MANAGER", 225)
    assert read.time == NOON + 500


@pytest.mark.parametrize(
    "line",
    [
        "",
        "plain text",
        "<![LOG[x]LOG]!>",
        '<![LOG[x]LOG]!><time="25:00:00.000+000" date="03-23-2026" component="" context="" type="1" thread="" file="">',
        '<![LOG[x]LOG]!><time="12:00:00.000+000" date="13-40-2026" component="" context="" type="1" thread="" file="">',
        '<![LOG[x]LOG]!><time="noon" date="03-23-2026" component="" context="" type="1" thread="" file="">',
        "x" * 20_000,
    ],
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(FormatError):
        parse_line(line)


@given(st.text(max_size=400))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        parse_line(text)
    except FormatError:
        return
