"""The alert state machine."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError, ConflictError
from entrepot.protocol import alertapi
from entrepot.rules.alerts import (
    ALERT_TYPES,
    SYSTEM,
    Alert,
    AlertState,
    Condition,
    Event,
    Severity,
    annotate,
    cancel,
    disable,
    enable,
    evaluate,
    postpone,
)
from entrepot.rules.sentences import quoted

FRESH = Alert(type="storage_warning", subject="pt-1")


def after(alert, *conditions, start=100):
    for offset, condition in enumerate(conditions):
        alert = evaluate(alert, condition, said=quoted(f"{condition} figures"), now=start + offset).alert
    return alert


BAD, GOOD, UNKNOWN = Condition.BAD, Condition.GOOD, Condition.UNKNOWN


def test_an_alert_opens_when_its_condition_turns_bad():
    step = evaluate(FRESH, BAD, said=quoted("95 %"), now=100)
    assert step.event is Event.OPENED
    assert (step.alert.state, step.alert.occurrences, step.alert.message) == (AlertState.ACTIVE, 1, "95 %")
    assert step.alert.changed == 100


def test_a_condition_that_stays_bad_only_updates_the_figures():
    active = after(FRESH, BAD)
    step = evaluate(active, BAD, said=quoted("96 %"), now=200)
    assert step.event is None
    assert (step.alert.occurrences, step.alert.message, step.alert.changed) == (1, "96 %", 100)


def test_it_closes_by_system_when_the_condition_turns_good():
    step = evaluate(after(FRESH, BAD), GOOD, said=quoted("50 %"), now=200)
    assert step.event is Event.CLOSED
    assert (step.alert.state, step.alert.closed_by) == (AlertState.CANCELED, SYSTEM)


def test_each_new_turn_is_a_new_occurrence():
    alert = after(FRESH, BAD, GOOD, BAD, GOOD, BAD)
    assert (alert.state, alert.occurrences, alert.closed_by) == (AlertState.ACTIVE, 3, "")


def test_what_was_never_bad_has_never_triggered():
    assert after(FRESH, GOOD, UNKNOWN, GOOD).state is AlertState.NEVER_TRIGGERED


@pytest.mark.parametrize("alert", [FRESH, after(FRESH, BAD), after(FRESH, BAD, GOOD)])
def test_a_condition_that_could_not_be_evaluated_changes_nothing(alert):
    assert evaluate(alert, UNKNOWN, said=quoted("?"), now=900).alert == alert


def test_an_unknown_condition_in_between_makes_no_new_occurrence():
    assert after(FRESH, BAD, UNKNOWN, BAD).occurrences == 1


def test_an_alert_canceled_by_hand_stays_so_while_the_condition_lasts():
    step = cancel(after(FRESH, BAD), by="anna", comment="known", now=200)
    assert (step.event, step.alert.closed_by, step.alert.comment) == (Event.CANCELED, "anna", "known")
    still = after(step.alert, BAD, BAD)
    assert still.state is AlertState.CANCELED
    again = after(still, GOOD, BAD)
    assert (again.state, again.occurrences) == (AlertState.ACTIVE, 2)


def test_a_postponed_alert_is_left_alone_until_its_moment():
    postponed = postpone(after(FRESH, BAD), 500, comment="later", now=200).alert
    assert (postponed.state, postponed.skip_until) == (AlertState.POSTPONED, 500)
    for condition in (BAD, GOOD):
        step = evaluate(postponed, condition, said=quoted("x"), now=499)
        assert (step.event, step.alert.state) == (None, AlertState.POSTPONED)


def test_then_the_condition_decides():
    postponed = postpone(after(FRESH, BAD), 500, comment="", now=200).alert
    resumed = evaluate(postponed, BAD, said=quoted("x"), now=500)
    assert (resumed.event, resumed.alert.state) == (Event.RESUMED, AlertState.ACTIVE)
    assert (resumed.alert.occurrences, resumed.alert.skip_until) == (1, 0)
    closed = evaluate(postponed, GOOD, said=quoted("x"), now=500)
    assert (closed.event, closed.alert.state, closed.alert.closed_by) == (Event.CLOSED, AlertState.CANCELED, SYSTEM)


def test_only_an_active_alert_can_be_postponed_and_only_to_later():
    for alert in (FRESH, after(FRESH, BAD, GOOD), disable(FRESH, by="a", comment="", now=1).alert):
        with pytest.raises(ConflictError, match="cannot be postponed"):
            postpone(alert, 500, comment="", now=200)
    with pytest.raises(BadInputError, match="later moment"):
        postpone(after(FRESH, BAD), 200, comment="", now=200)


def test_only_an_open_alert_can_be_canceled():
    postponed = postpone(after(FRESH, BAD), 500, comment="", now=200).alert
    assert cancel(postponed, by="a", comment="", now=300).alert.skip_until == 0
    with pytest.raises(ConflictError):
        cancel(FRESH, by="a", comment="", now=300)


def test_a_disabled_alert_does_not_open_until_it_is_enabled():
    disabled = disable(after(FRESH, BAD), by="anna", comment="noise", now=200).alert
    assert after(disabled, BAD, GOOD, BAD).state is AlertState.DISABLED
    enabled = enable(after(disabled, BAD), comment="", now=300)
    assert (enabled.event, enabled.alert.state) == (Event.ENABLED, AlertState.CANCELED)
    assert after(enabled.alert, BAD).state is AlertState.ACTIVE
    never = enable(disable(FRESH, by="a", comment="", now=1).alert, comment="", now=2).alert
    assert never.state is AlertState.NEVER_TRIGGERED


def test_disabling_and_enabling_twice_is_a_conflict():
    disabled = disable(FRESH, by="a", comment="", now=1).alert
    with pytest.raises(ConflictError):
        disable(disabled, by="a", comment="", now=2)
    with pytest.raises(ConflictError):
        enable(FRESH, comment="", now=2)


def test_a_comment_can_be_replaced_and_is_bounded():
    step = annotate(FRESH, comment=" hello ", now=5)
    assert (step.alert.comment, step.event, step.at) == ("hello", Event.COMMENTED, 5)
    with pytest.raises(BadInputError):
        annotate(FRESH, comment="x" * 1025, now=5)


def test_a_comment_does_not_change_since_when_an_alert_is_open():
    opened = evaluate(FRESH, Condition.BAD, said=quoted("m"), now=100).alert
    assert annotate(opened, comment="asked finance", now=500).alert.changed == 100


def test_every_type_has_a_title_and_something_to_do():
    wanted = {
        "storage_warning",
        "storage_critical",
        "transfer_warning",
        "transfer_critical",
        "service_not_active",
        "service_degraded",
        "subscription_problem",
        "certificate_problem",
    }
    assert wanted <= set(ALERT_TYPES)
    for key, kind in ALERT_TYPES.items():
        assert kind.key == key
        assert kind.title
        assert kind.remedies
    for key in ("transfer_warning", "transfer_critical"):
        text = " ".join(ALERT_TYPES[key].remedies)
        assert all(word in text for word in ("Stop the service", "Remove content", "who may use it"))  # R25


def test_the_words_are_those_of_the_protocol():
    assert {state.value for state in AlertState} <= {state.value for state in alertapi.AlertState}
    assert {severity.value for severity in Severity} == {severity.value for severity in alertapi.Severity}


moves = st.lists(
    st.one_of(
        st.tuples(st.just("evaluate"), st.sampled_from(Condition)),
        st.tuples(st.sampled_from(["postpone", "cancel", "disable", "enable"]), st.integers(1, 5)),
    ),
    max_size=30,
)


@given(moves)
def test_whatever_happens_an_alert_stays_consistent(sequence):
    alert, now, opened = FRESH, 1000, 0
    for verb, argument in sequence:
        now += 1
        before = alert
        try:
            if verb == "evaluate":
                step = evaluate(alert, argument, said=quoted("m"), now=now)
            elif verb == "postpone":
                step = postpone(alert, now + argument, comment="", now=now)
            elif verb == "enable":
                step = enable(alert, comment="", now=now)
            else:
                step = {"cancel": cancel, "disable": disable}[verb](alert, by="anna", comment="", now=now)
        except ConflictError:
            continue
        alert = step.alert
        opened += step.event is Event.OPENED
        assert alert.occurrences == opened
        assert (step.event is None) == (alert.state is before.state)
        assert (alert.state is AlertState.POSTPONED) == (alert.skip_until > 0)
        if alert.state is AlertState.NEVER_TRIGGERED:
            assert alert.occurrences == 0
        if alert.state is AlertState.ACTIVE:
            assert alert.closed_by == ""
            assert alert.condition is BAD
        assert msgspec.json.decode(msgspec.json.encode(alert), type=Alert) == alert
