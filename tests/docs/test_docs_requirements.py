"""docs/requirements.md covers R1 to R44, and what it cites exists."""

import ast
import re

import pytest

IDS = [f"R{number}" for number in range(1, 45)]
_CODE = re.compile(r"`([^`]+)`")


@pytest.fixture(scope="module")
def rows(repository, table_rows):
    """Rows of the table: id, requirement, where, proof, what is missing."""
    page = (repository / "docs" / "requirements.md").read_text("utf-8")
    return [row for row in table_rows(page) if re.fullmatch(r"R\d+", row[0])]


@pytest.fixture(scope="module")
def test_names(repository):
    """Gives the names of the test functions in a file."""
    known: dict[str, set[str]] = {}

    def names(path: str) -> set[str]:
        if path not in known:
            tree = ast.parse((repository / path).read_text("utf-8"))
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            known[path] = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
        return known[path]

    return names


def test_every_requirement_has_one_row_in_order(rows):
    assert [row[0] for row in rows] == IDS
    assert all(len(row) == 5 for row in rows)


def test_every_file_that_is_cited_exists(repository, rows):
    for name, _, where, proof, _ in rows:
        for cited in (*_CODE.findall(where), *_CODE.findall(proof)):
            path = cited.partition("::")[0]
            assert "/" in path, f"{name}: {cited} is no path"
            assert (repository / path).exists(), f"{name}: {cited}"


def test_every_test_that_is_cited_exists(rows, test_names):
    for name, _, _, proof, _ in rows:
        for cited in _CODE.findall(proof):
            path, _, test = cited.partition("::")
            assert test.startswith("test_"), f"{name}: {cited} names no test"
            assert test in test_names(path), f"{name}: {cited}"


def test_what_nothing_proves_is_said_to_be_missing(rows):
    for name, _, where, proof, missing in rows:
        if not (_CODE.findall(where) and _CODE.findall(proof)):
            assert missing.startswith("not yet:"), f"{name} cites no code or no test, and nothing is said to be missing"
        assert missing == "nothing" or missing.startswith(("not yet:", "partly:")), f"{name}: {missing}"
