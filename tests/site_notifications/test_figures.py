"""The sentences that rules make about figures are told in the subscriber's language."""

import re

import pytest

from entrepot.core.sizes import GB
from entrepot.core.times import DAY, HOUR, iso
from entrepot.database.usage import StoredUsage
from entrepot.protocol.alertapi import Language
from entrepot.rules.forecast import Crossing, Forecast
from entrepot.rules.thresholds import StorageLimits, TransferLimits, assess_storage, assess_transfer
from entrepot.site.cloud.judging import _age, _collected, _measured
from entrepot.site.cost.forecasting import expected
from entrepot.site.notifications.figures import figures_in

from ..site_cloud.bare import bare_point
from .conftest import NOW

KEPT = StoredUsage(stored_bytes=1, stored_at=NOW - DAY, counted_bytes=1, counted_at=NOW, collected=NOW - 5 * HOUR)
ENGLISH = re.compile(
    r"\b(stored|free|level|sent|days?|warning at|collected|measured|counted|figures|trend|latest)\b", re.IGNORECASE
)


def _foreseen(latest: int) -> str:
    crossing = Crossing(name="critical", level=1, at=NOW + 6 * DAY, earliest=NOW + 5 * DAY, latest=latest)
    return expected(Forecast(present=0, days=30, crossings=(crossing,)), NOW)[2]


MESSAGES = [
    f"{assess_storage(1900 * GB, StorageLimits()).message} {_measured(KEPT, KEPT.stored_at)}",
    f"{assess_storage(5, StorageLimits(quota=0)).message} {_measured(KEPT, NOW)}",
    _measured(StoredUsage(counted_at=NOW), NOW),
    f"{assess_transfer(9100 * GB, TransferLimits()).message} {_collected(KEPT)}",
    assess_transfer(9100 * GB, TransferLimits(), what="sent by the site").message,
    assess_transfer(9100 * GB, TransferLimits(quota=0)).message,
    _age(bare_point("pt-1"), KEPT, NOW).message,
    _foreseen(NOW + 9 * DAY),
    _foreseen(0),
]


@pytest.mark.parametrize("language", [Language.GERMAN, Language.FRENCH])
@pytest.mark.parametrize("message", MESSAGES)
def test_sentences_about_thresholds_are_told_in_the_language_with_the_same_figures(message, language) -> None:
    told = figures_in(message, language)
    assert ENGLISH.search(message)
    assert not ENGLISH.search(told)
    assert sorted(re.findall(r"\d+", told)) == sorted(re.findall(r"\d+", message))


def test_english_and_what_is_not_known_stay_as_they_are() -> None:
    for message in MESSAGES:
        assert figures_in(message, Language.ENGLISH) == message
    unknown = "The store answered 403: {size} of <b> was refused."
    assert figures_in(unknown, Language.GERMAN) == unknown


def test_a_german_reads_when_it_was_collected() -> None:
    assert figures_in(MESSAGES[3], Language.GERMAN) == (
        "9.1 TB von 10.0 TB in 30 Tagen an Clients gesendet: 91.0 %; Warnung bei 50 %, kritisch bei 90 %. "
        f"Abgeholt um {iso(NOW - 5 * HOUR)}."
    )
