"""The library's alert: it opens when validation finds damage, and closes when everything that is needed is sound."""

from typing import Final

from sqlalchemy import Connection

from entrepot.database import alerts, librarychecks, maintenance
from entrepot.rules.alerts import Condition, evaluate
from entrepot.rules.alerttypes import LIBRARY_DAMAGE
from entrepot.rules.verdicts import Verdict

SUBJECT: Final = "library"


def judge_library(connection: Connection, now: float) -> None:
    """Open, close or keep the alert, as the verdicts stand now; before the first validation nothing is known.

    Raises:
        EntrepotError: by the database.
    """
    counted = librarychecks.verdicts(connection)
    missing, damaged = counted.get(Verdict.MISSING, 0), counted.get(Verdict.DAMAGED, 0)
    condition = Condition.BAD if missing or damaged else Condition.GOOD
    if condition is Condition.GOOD and not librarychecks.validated(connection):
        condition = Condition.UNKNOWN
    message = "Everything that was validated is sound."
    if condition is Condition.BAD:
        message = f"Objects that contents need: {missing} missing, {damaged} damaged."
    alerts.ensure(connection, type_=LIBRARY_DAMAGE, subject=SUBJECT, subject_name=SUBJECT, now=int(now))
    kept = alerts.find(connection, type_=LIBRARY_DAMAGE, subject=SUBJECT)
    quiet = any(window.covers(LIBRARY_DAMAGE, now) for window in maintenance.windows_of(connection, SUBJECT))
    alerts.change(connection, kept.id, lambda alert: evaluate(alert, condition, message=message, now=now, quiet=quiet))
