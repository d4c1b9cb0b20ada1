"""docs/alerts.md knows every type of alert: severity, title, when it opens and closes, what to do."""

import pytest

from entrepot.rules.alerts import ALERT_TYPES


@pytest.fixture(scope="module")
def documented(repository, sections):
    """Sections of the page, by the type that each is about."""
    page = (repository / "docs" / "alerts.md").read_text("utf-8")
    return {heading.strip("`"): text for heading, text in sections(page).items() if heading.startswith("`")}


def test_every_type_of_alert_is_documented_and_no_other(documented):
    assert sorted(documented) == sorted(ALERT_TYPES)


@pytest.mark.parametrize("key", sorted(ALERT_TYPES))
def test_its_title_its_severity_and_its_life_are_told(documented, key):
    text, kind = documented[key], ALERT_TYPES[key]
    assert f"**{kind.title}**, {kind.severity.value}." in text
    assert "\nOpens " in text
    assert "\nCloses " in text
    assert "\nWhat to do:" in text


@pytest.mark.parametrize("key", sorted(ALERT_TYPES))
def test_the_remedies_are_those_that_the_alert_shows(documented, key):
    flat = " ".join(documented[key].split())
    for remedy in ALERT_TYPES[key].remedies:
        assert f"- {remedy}" in flat
