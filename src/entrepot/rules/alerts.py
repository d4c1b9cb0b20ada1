"""Alerts: their kinds, and what becomes of one (R22, R25, R37; domain page, section 5).

States: *never triggered*, *active*, *postponed*, *canceled*, *disabled*. An alert exists from the day its subject does,
one per type and subject. It opens when its condition turns bad and closes, by ``SYSTEM``, when it turns good.

- A new occurrence begins only when the condition *turns* bad. An alert that a person canceled while the condition was
  bad stays canceled until the condition was good once and turns bad again.
- A postponed alert is left alone until ``skip_until``; then the condition decides: bad opens the same occurrence again,
  good closes it.
- A disabled alert only keeps note of its condition; once enabled, a bad condition opens it.
- A condition that could not be evaluated changes nothing.
- In a maintenance window nothing opens; what is still bad afterwards opens then.
- A figure just below its threshold keeps the condition that it had (:func:`settled`): one that swings around the
  threshold opens its alert once and not again and again.
"""

from enum import StrEnum
from typing import Final

import msgspec

from entrepot.core.errors import BadInputError, ConflictError
from entrepot.core.times import iso
from entrepot.rules.alerttypes import ALERT_TYPES as ALERT_TYPES
from entrepot.rules.alerttypes import AlertType as AlertType
from entrepot.rules.alerttypes import Severity as Severity
from entrepot.rules.sentences import Said, Telling

SYSTEM: Final = "SYSTEM"
MAX_COMMENT: Final = 1024


class AlertState(StrEnum):
    """State of an alert."""

    NEVER_TRIGGERED = "never_triggered"
    ACTIVE = "active"
    POSTPONED = "postponed"
    CANCELED = "canceled"
    DISABLED = "disabled"


class Condition(StrEnum):
    """Outcome of evaluating an alert's rule."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


class Event(StrEnum):
    """What happened to an alert; the history keeps these."""

    OPENED = "opened"
    CLOSED = "closed"
    RESUMED = "resumed"
    POSTPONED = "postponed"
    CANCELED = "canceled"
    DISABLED = "disabled"
    ENABLED = "enabled"
    COMMENTED = "commented"


class Alert(Telling, frozen=True, kw_only=True):
    """One alert. Times in seconds since 1970; ``changed``: since when it is in its state; ``skip_until`` 0 when it is
    not postponed; ``condition`` is the last one that could be evaluated."""

    type: str
    subject: str
    state: AlertState = AlertState.NEVER_TRIGGERED
    condition: Condition = Condition.UNKNOWN
    occurrences: int = 0
    changed: int = 0
    skip_until: int = 0
    closed_by: str = ""
    comment: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An alert after something happened; ``event`` is None when nothing did that the history keeps, and ``at`` is
    when it did, in seconds since 1970."""

    alert: Alert
    event: Event | None = None
    at: int = 0


def settled(before: Condition, *, reached: bool, near: bool) -> Condition:
    """The condition of a figure against its threshold.

    Args:
        before: what it was at the last evaluation.
        reached: the threshold is reached or exceeded.
        near: it is not, but by so little that an open alert stays open.
    """
    if reached or (near and before is Condition.BAD):
        return Condition.BAD
    return Condition.GOOD


def evaluate(alert: Alert, condition: Condition, *, said: tuple[Said, ...], now: float, quiet: bool = False) -> Step:
    """Take in the outcome of a rule.

    Args:
        alert: as it was.
        condition: what the rule says now.
        said: the figures; kept while the condition is bad.
        now: seconds since 1970.
        quiet: a maintenance window covers this alert now: it may close, but not open.
    """
    if condition is Condition.UNKNOWN or (
        quiet and condition is Condition.BAD and alert.state is not AlertState.ACTIVE
    ):
        return Step(alert=alert)
    turned = alert.condition is not condition
    noted = msgspec.structs.replace(alert, condition=condition, said=said)
    if alert.state is AlertState.POSTPONED:
        return _after_pause(noted, now) if now >= alert.skip_until else Step(alert=noted)
    if alert.state is AlertState.ACTIVE and condition is Condition.GOOD:
        return _moved(noted, AlertState.CANCELED, Event.CLOSED, now, closed_by=SYSTEM)
    closed = alert.state in (AlertState.CANCELED, AlertState.NEVER_TRIGGERED)
    if closed and condition is Condition.BAD and turned:
        occurrences = alert.occurrences + 1
        return _moved(noted, AlertState.ACTIVE, Event.OPENED, now, closed_by="", comment="", occurrences=occurrences)
    return Step(alert=noted)


def _after_pause(alert: Alert, now: float) -> Step:
    if alert.condition is Condition.BAD:
        return _moved(alert, AlertState.ACTIVE, Event.RESUMED, now)
    return _moved(alert, AlertState.CANCELED, Event.CLOSED, now, closed_by=SYSTEM)


def postpone(alert: Alert, until: float, *, comment: str, now: float) -> Step:
    """Look away until a moment; only an active alert can be postponed.

    Raises:
        ConflictError: it is not active.
        BadInputError: the moment is past, or the comment too long.
    """
    if alert.state is not AlertState.ACTIVE:
        raise _wrong_state(alert, "postponed", "Only an active alert can be postponed.")
    if until <= now:
        raise BadInputError(f"An alert can be postponed to a later moment only, not to {iso(max(0, until))}.")
    changes = {"skip_until": int(until), "comment": _comment(comment) or alert.comment}
    return _moved(alert, AlertState.POSTPONED, Event.POSTPONED, now, **changes)


def cancel(alert: Alert, *, by: str, comment: str, now: float) -> Step:
    """Close an active or postponed alert by hand; it opens again only when its condition turns bad anew.

    Raises:
        ConflictError: it is not open.
        BadInputError: the comment is too long.
    """
    if alert.state not in (AlertState.ACTIVE, AlertState.POSTPONED):
        raise _wrong_state(alert, "canceled", "Only an active or postponed alert can be canceled.")
    text = _comment(comment) or alert.comment
    return _moved(alert, AlertState.CANCELED, Event.CANCELED, now, closed_by=by, comment=text)


def disable(alert: Alert, *, by: str, comment: str, now: float) -> Step:
    """Stop an alert from opening.

    Raises:
        ConflictError: it is disabled already.
        BadInputError: the comment is too long.
    """
    if alert.state is AlertState.DISABLED:
        raise _wrong_state(alert, "disabled", "It is disabled already.")
    text = _comment(comment) or alert.comment
    return _moved(alert, AlertState.DISABLED, Event.DISABLED, now, closed_by=by, comment=text)


def enable(alert: Alert, *, comment: str, now: float) -> Step:
    """Let a disabled alert open again; a condition that is bad at the next evaluation opens it.

    Raises:
        ConflictError: it is not disabled.
        BadInputError: the comment is too long.
    """
    if alert.state is not AlertState.DISABLED:
        raise _wrong_state(alert, "enabled", "It is enabled already.")
    state = AlertState.CANCELED if alert.occurrences else AlertState.NEVER_TRIGGERED
    changes = {"condition": Condition.UNKNOWN, "comment": _comment(comment) or alert.comment}
    return _moved(alert, state, Event.ENABLED, now, **changes)


def annotate(alert: Alert, *, comment: str, now: float) -> Step:
    """Replace the comment, in any state, which it is in as long as before.

    Raises:
        BadInputError: the comment is too long.
    """
    noted = msgspec.structs.replace(alert, comment=_comment(comment))
    return Step(alert=noted, event=Event.COMMENTED, at=int(now))


def _moved(alert: Alert, state: AlertState, event: Event, now: float, **changes: object) -> Step:
    fields: dict[str, object] = {"skip_until": 0, **changes}
    moved = msgspec.structs.replace(alert, state=state, changed=int(now), **fields)
    return Step(alert=moved, event=event, at=moved.changed)


def _comment(text: str) -> str:
    if len(text) > MAX_COMMENT:
        raise BadInputError(f"A comment has at most {MAX_COMMENT} characters.")
    return text.strip()


def _wrong_state(alert: Alert, verb: str, next_step: str) -> ConflictError:
    return ConflictError(f"The alert is {alert.state.replace('_', ' ')} and cannot be {verb}.", next_step=next_step)
