"""What alerts say is told in the subscriber's language, with the same figures."""

import re
import string

import pytest

from entrepot.core.sizes import GB
from entrepot.core.times import DAY, HOUR, iso
from entrepot.database.budgets import Scope
from entrepot.database.usage import StoredUsage
from entrepot.protocol.alertapi import AlertMessage, Language, Severity
from entrepot.protocol.cloudapi import Comparison, Reconciled
from entrepot.protocol.cloudhost import RunState, ServiceStatus
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.rules import sentences
from entrepot.rules.budgets import WORDS
from entrepot.rules.forecast import Crossing, Forecast
from entrepot.rules.reconciling import judge_sent
from entrepot.rules.sentences import ENGLISH, Said, in_words, quoted, say
from entrepot.rules.thresholds import StorageLimits, TransferLimits, assess_storage, assess_transfer
from entrepot.site.certificatealert import findings_of
from entrepot.site.cloud.health import Look, settled_state
from entrepot.site.cloud.judging import _age, _collected, _measured, certificate_finding, comparison_finding
from entrepot.site.cost.forecasting import expected
from entrepot.site.notifications.texts import catalogue, worded

from ..site_cloud.bare import bare_point
from .conftest import NOW

OTHERS = [Language.GERMAN, Language.FRENCH]
KEPT = StoredUsage(stored_bytes=1, stored_at=NOW - DAY, counted_bytes=1, counted_at=NOW, collected=NOW - 5 * HOUR)
STATUS = ServiceStatus(
    name="cloud1",
    point="pt-1",
    fqdn="",
    state=RunState.DEGRADED,
    address="",
    wanted=2,
    instances=(),
    stored_bytes=None,
    stored_objects=0,
    certificate_expires=0,
)
TOLD_ENGLISH = re.compile(r"\b(stored|free|sent|days?|measured|counted|the|of|is|expires|latest|cloud's)\b")


def _foreseen(latest: int) -> tuple[Said, ...]:
    crossing = Crossing(name="critical", level=1, at=NOW + 6 * DAY, earliest=NOW + 5 * DAY, latest=latest)
    told = expected(Forecast(present=0, days=30, crossings=(crossing,)), NOW)[2]
    assert told is not None
    return (told,)


def _compared(reason: str) -> tuple[Said, ...]:
    verdict = judge_sent(8 * GB, 0)
    figure = Reconciled(
        figure="sent to clients",
        by_cloud=8 * GB,
        by_site=0,
        verdict=verdict.word,
        message=verdict.message,
        reason=reason,
    )
    return comparison_finding(
        Comparison(at=NOW, since=NOW - DAY, until=NOW, figures=(figure,), lasting=(figure.figure,))
    ).said


TOLD = {
    "storage": (*assess_storage(1900 * GB, StorageLimits()).said, _measured(KEPT, KEPT.stored_at)),
    "without a bound": (*assess_storage(5, StorageLimits(quota=0)).said, _measured(KEPT, NOW)),
    "transfers": (*assess_transfer(9100 * GB, TransferLimits()).said, _collected(KEPT)),
    "uploads": assess_transfer(9100 * GB, TransferLimits(), by_site=True).said,
    "stale": _age(bare_point("pt-1"), KEPT, NOW).said,
    "forecast": _foreseen(NOW + 9 * DAY),
    "open forecast": _foreseen(0),
    "certificate": certificate_finding(bare_point("pt-1"), NOW + DAY, NOW).said,
    "server": findings_of("dp-berlin", NOW + 9 * DAY, NOW)[0].said,
    "comparison": _compared(judge_sent(8 * GB, 0).reason),
    "service": settled_state(bare_point("pt-1"), Look(status=STATUS))[1],
}


def _places(words: str) -> set[tuple[str | None, str | None]]:
    return {(name, kind) for _, name, kind, _ in string.Formatter().parse(words) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_is_in_every_language_with_the_same_figures(language: Language) -> None:
    words = catalogue(language)
    wanted = {key: _places(english) for key, english in ENGLISH.items() if key != sentences.QUOTED}
    assert {key: _places(words[key]) for key in wanted if key in words} == wanted
    assert not [key for key, english in ENGLISH.items() if words.get(key) == english]


@pytest.mark.parametrize("language", OTHERS)
def test_every_word_that_stands_in_a_sentence_is_in_every_language(language: Language) -> None:
    said = {*WORDS.values(), *(state.value for state in RunState), *(one.value.replace("-", " ") for one in Scope)}
    said |= {"Sent to clients", "Granted by links", "Stored", "service certificate", "management certificate"}
    assert sorted(said - set(catalogue(language))) == []


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("name", TOLD)
def test_what_is_found_is_told_in_the_language_with_the_same_figures(name: str, language: Language) -> None:
    english, told = in_words(TOLD[name]), in_words(TOLD[name], catalogue(language))
    assert TOLD_ENGLISH.search(english)
    assert not TOLD_ENGLISH.search(told)
    assert sorted(re.findall(r"\d+", told)) == sorted(re.findall(r"\d+", english))


def test_a_german_reads_when_it_was_collected() -> None:
    assert in_words(TOLD["transfers"], catalogue(Language.GERMAN)) == (
        "9.1 TB von 10.0 TB in 30 Tagen an Clients gesendet: 91.0 %; Warnung bei 50 %, kritisch bei 90 %. "
        f"Abgeholt um {iso(NOW - 5 * HOUR)}."
    )


def test_english_is_what_is_told_where_nothing_else_is_wanted() -> None:
    assert bare_point("pt-1").state is CloudPointState.READY
    assert in_words(TOLD["service"]) == "The service is degraded at the cloud: no instance runs."
    assert in_words(TOLD["service"], catalogue(Language.ENGLISH)) == in_words(TOLD["service"])


def test_what_a_comparison_of_an_earlier_version_found_is_quoted() -> None:
    told = in_words(_compared(""), catalogue(Language.GERMAN))
    assert told.startswith("An Clients gesendet: 8.0 GB nach der Cloud, 0 B nach dem Standort. More left the cloud")


@pytest.mark.parametrize("language", list(Language))
def test_what_somebody_else_said_is_quoted_whatever_is_in_it(language: Language) -> None:
    words = "The store answered 403: {size} of <b> was {0.__class__} refused."
    assert in_words(quoted(words), catalogue(language)) == words
    refused = say(sentences.STORE_REFUSES, error=words)
    assert in_words((refused,), catalogue(language)).endswith(words)


def test_a_sentence_of_a_later_version_tells_its_figures() -> None:
    assert in_words((Said(key="disk.full", figures={"free": 5, "path": "/srv"}),)) == "disk.full: free 5, path /srv"
    assert "?" in in_words((Said(key=sentences.COLLECTED),)), "one whose figure has another name is told all the same"


def test_a_message_of_an_earlier_version_is_sent_with_the_words_that_it_has() -> None:
    named = {"id": "msg-1", "alert": "alert-1", "type": "storage_warning", "subject": "pt-1", "subject_name": "cloud1"}
    old = AlertMessage(severity=Severity.WARNING, event="opened", message="95 % used.", at=1, occurrences=1, **named)
    assert worded(old, (), Language.GERMAN) == old
