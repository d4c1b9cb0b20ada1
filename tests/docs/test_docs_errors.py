"""docs/errors.md knows every error code of the product, with the status and the exit code that callers see."""

import re

import pytest

from entrepot.core.errors import EntrepotError, Family


@pytest.fixture(scope="module")
def documented(repository, table_rows):
    """Rows of the page's table of codes, by code."""
    page = (repository / "docs" / "errors.md").read_text("utf-8")
    rows = [row for row in table_rows(page) if len(row) == 6]
    codes = {row[0].strip("`"): row for row in rows}
    assert len(codes) == len(rows), "a code stands twice"
    return codes


@pytest.fixture(scope="module")
def existing(modules):
    """Every code, with the error class nearest the root that has it."""
    assert modules
    found: dict[str, type[EntrepotError]] = {}
    waiting: list[type[EntrepotError]] = [EntrepotError]
    while waiting:
        kind = waiting.pop(0)
        if kind.__module__.startswith("entrepot."):
            found.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return found


def test_every_error_code_is_documented_and_no_other(documented, existing):
    assert sorted(documented) == sorted(existing)


def test_family_status_and_exit_code_are_those_of_the_code(documented, existing):
    for code, kind in existing.items():
        _, family, status, exit_code, _, _ = documented[code]
        assert family == kind.family.name.lower().replace("_", " "), code
        assert re.match(r"\d+", status), code
        assert int(re.match(r"\d+", status)[0]) == kind.family.status, code
        assert int(exit_code) == kind.family.exit_code, code


def test_every_error_says_what_it_means_and_what_to_do(documented):
    for code, (*_, meaning, advice) in documented.items():
        assert len(meaning) > 20, code
        assert len(advice) > 10, code


def test_every_family_has_an_exit_code_in_the_page(repository, table_rows):
    page = (repository / "docs" / "errors.md").read_text("utf-8")
    rows = {tuple(row[:3]) for row in table_rows(page) if len(row) == 4}
    for family in Family:
        assert (family.name.lower().replace("_", " "), str(family.exit_code), str(family.status)) in rows
