"""The small decisions of the web room: ranges, problems, bearer tokens, throttles, listening addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import (
    BadInputError,
    EntrepotError,
    LimitedError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
    error_classes,
)
from entrepot.web.asgi import query
from entrepot.web.bearer import bearer_token
from entrepot.web.downloads import IN_KERNEL, Download
from entrepot.web.problems import error_from_problem, problem_of
from entrepot.web.ranges import RangeNotSatisfiableError, UnmatchedError, choose_span, etag_matches, require_match
from entrepot.web.throttle import Throttle


@given(size=st.integers(1, 10**6), first=st.integers(0, 10**6), last=st.integers(0, 10**7))
def test_a_range_lies_within_the_object_or_is_refused(size, first, last):
    try:
        span = choose_span(f"bytes={first}-{last}", size)
    except RangeNotSatisfiableError:
        assert first >= size
        return
    assert span.start >= 0
    assert span.length > 0
    assert span.start + span.length <= size
    if span.partial:
        assert (span.start, span.start + span.length - 1) == (first, min(last, size - 1))


@given(size=st.integers(0, 10**6), text=st.text(max_size=60))
def test_no_header_of_any_kind_escapes_the_object(size, text):
    try:
        span = choose_span(text, size)
    except RangeNotSatisfiableError:
        return
    assert 0 <= span.start <= span.start + span.length <= size


@given(size=st.integers(1, 1000), wanted=st.integers(1, 2000))
def test_a_suffix_range_is_the_end(size, wanted):
    span = choose_span(f"bytes=-{wanted}", size)
    assert (span.start + span.length, span.length) == (size, min(size, wanted))


def test_entity_tags_match_weakly_and_in_lists():
    assert etag_matches('"a", W/"b"', '"b"')
    assert etag_matches("*", '"b"')
    assert not etag_matches('"a"', '"b"')
    assert not etag_matches(None, '"b"')


@pytest.mark.parametrize("header", [None, "*", '"b"', '"a", "b"'])
def test_whom_if_match_lets_pass(header):
    require_match(header, '"b"')


@pytest.mark.parametrize("header", ["", '"a"', 'W/"b"'])
def test_if_match_compares_strongly(header):
    with pytest.raises(UnmatchedError):
        require_match(header, '"b"')


@pytest.mark.parametrize("kind", list(error_classes().values()))
def test_every_error_survives_the_wire(kind):
    sent = kind("What happened.", next_step="What to do.")
    problem = problem_of(sent)
    came = error_from_problem(problem.status, problem.encode())
    assert (came.code, came.message, came.next_step) == (kind.code, "What happened.", "What to do.")
    assert problem.type == f"urn:entrepot:error:{kind.code}"


def test_foreign_errors_show_nothing_of_themselves():
    problem = problem_of(ValueError("secret=hunter2"))
    assert problem.status == 500
    assert b"hunter2" not in problem.encode()


@given(status=st.integers(300, 599), body=st.binary(max_size=300))
def test_any_answer_becomes_an_error(status, body):
    assert isinstance(error_from_problem(status, body), EntrepotError)


def test_answers_that_are_no_problem_documents_follow_their_status():
    assert isinstance(error_from_problem(503, b"<html>"), UnavailableError)
    assert isinstance(error_from_problem(401, b""), UnauthenticatedError)
    assert error_from_problem(502, b"x").retryable
    assert not error_from_problem(418, b"x").retryable


def test_texts_from_elsewhere_are_bounded_and_printable():
    body = problem_of(TrustError("a\x1b]0;owned\x07" + "b" * 5000)).encode()
    came = error_from_problem(502, body)
    assert len(came.message) <= 2000
    assert "\x1b" not in came.message
    assert "\x07" not in came.message


@pytest.mark.parametrize("value", [None, b"", b"Basic abc", b"Bearer", b"Bearer " + b"x" * 7000, b"\xff\xfe"])
def test_what_is_no_bearer_token_is_refused(value):
    headers = [] if value is None else [(b"authorization", value)]
    with pytest.raises(UnauthenticatedError):
        bearer_token({"headers": headers})


def test_a_bearer_token_is_found():
    assert bearer_token({"headers": [(b"authorization", b"bearer  abc.def ")]}) == "abc.def"


def test_a_throttle_counts_each_device_alone_and_forgives_with_time():
    throttle = Throttle(keys=2)
    for _ in range(4):
        throttle.take("a", rate=2, now=0.0)
    with pytest.raises(LimitedError):
        throttle.take("a", rate=2, now=0.0)
    throttle.take("b", rate=2, now=0.0)
    throttle.take("a", rate=2, now=0.5)
    with pytest.raises(LimitedError):
        throttle.take("a", rate=2, now=0.5)
    throttle.take("c", rate=2, now=0.5)
    throttle.take("x", rate=0, now=0.5)
    assert len(throttle._buckets) == 2


@given(rate=st.floats(1, 100), gaps=st.lists(st.floats(0, 2), max_size=200))
def test_no_pattern_of_requests_beats_the_rate(rate, gaps):
    throttle, now, allowed = Throttle(), 0.0, 0
    for gap in gaps:
        now += gap
        try:
            throttle.take("a", rate=rate, now=now)
        except LimitedError:
            continue
        allowed += 1
    assert allowed <= 2 * rate + now * rate + 1


def test_a_piece_must_be_taken_at_the_minimum_rate_after_what_the_kernel_holds():
    download = Download("dev", "jti", None)
    download.expect(80_000, minimum_rate=8_000, now=100.0)
    assert download.deadline == 100.0 + (80_000 + IN_KERNEL) / 8_000
    download.expect(1, minimum_rate=IN_KERNEL, now=100.0)
    assert download.deadline == 105.0


@pytest.mark.parametrize("raw", [b"a=1&a=2", b"b=1", b"a=1&" * 40, b"a=" + b"x" * 5000])
def test_query_parameters_that_are_not_wanted_are_bad_input(raw):
    with pytest.raises(BadInputError):
        query({"query_string": raw}, "a")
