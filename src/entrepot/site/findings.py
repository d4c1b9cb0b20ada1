"""Findings become alerts: what a rule says about a subject opens, closes or keeps the alert of that type."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from entrepot.database import alerts, maintenance
from entrepot.rules.alerts import Alert, Condition, Step, evaluate, settled
from entrepot.rules.sentences import Telling


class Finding(Telling, frozen=True, kw_only=True):
    """What a rule says about one type of alert. ``near``: a good condition that leaves an open alert open."""

    type: str
    condition: Condition
    near: bool = False


def condition_of(bad: bool) -> Condition:
    """What a rule that could be evaluated says."""
    return Condition.BAD if bad else Condition.GOOD


def judge(connection: Connection, subject: str, subject_name: str, findings: Sequence[Finding], now: float) -> None:
    """Let each finding open, close or keep its alert; in a maintenance window of the subject none opens."""
    windows = maintenance.windows_of(connection, subject)
    moves = {
        one.type: _deciding(one, now, quiet=any(window.covers(one.type, now) for window in windows)) for one in findings
    }
    alerts.decide(connection, subject, subject_name, moves, now=int(now))


def resume_postponed(connection: Connection, now: float) -> None:
    """Where a pause is over and nothing new is known, what was known last decides: an alert whose cloud does not
    answer, or that is looked at once a week, is not silent for longer than it was postponed."""
    for one in alerts.postponed(connection, until=int(now)):
        known = Finding(type=one.alert.type, condition=one.alert.condition, said=one.alert.said)
        judge(connection, one.alert.subject, one.subject_name, [known], now)


def _deciding(finding: Finding, now: float, *, quiet: bool) -> Callable[[Alert], Step]:
    def decide(alert: Alert) -> Step:
        condition = finding.condition
        if condition is Condition.GOOD:
            condition = settled(alert.condition, reached=False, near=finding.near)
        return evaluate(alert, condition, said=finding.said, now=now, quiet=quiet)

    return decide
