"""The library's alert: it opens when validation finds damage, and closes when everything that is needed is sound."""

from typing import Final

from sqlalchemy import Connection

from entrepot.database import librarychecks
from entrepot.rules import sentences
from entrepot.rules.alerts import Condition
from entrepot.rules.alerttypes import LIBRARY_DAMAGE
from entrepot.rules.sentences import say
from entrepot.rules.verdicts import Verdict
from entrepot.site.findings import Finding, condition_of, judge

SUBJECT: Final = "library"


def judge_library(connection: Connection, now: float) -> None:
    """Open, close or keep the alert, as the verdicts stand now; before the first validation nothing is known.

    Raises:
        EntrepotError: by the database.
    """
    counted = librarychecks.verdicts(connection)
    missing, damaged = counted.get(Verdict.MISSING, 0), counted.get(Verdict.DAMAGED, 0)
    condition = condition_of(bool(missing or damaged))
    if condition is Condition.GOOD and not librarychecks.validated(connection):
        condition = Condition.UNKNOWN
    told = say(sentences.LIBRARY_SOUND)
    if condition is Condition.BAD:
        told = say(sentences.LIBRARY_DAMAGED, missing=missing, damaged=damaged)
    finding = Finding(type=LIBRARY_DAMAGE, condition=condition, said=(told,))
    judge(connection, SUBJECT, SUBJECT, [finding], now)
