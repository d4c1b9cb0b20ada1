"""What the tests of the documentation share: the repository, its pages, its tables, and every module of the product."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import entrepot

ROOT = Path(__file__).parents[2]
NOT_OURS = {"build", "dist", "node_modules"}
_NOT_IMPORTABLE = re.compile(r"\.__main__$|\.migrations\b")
"""Entry points run when they are imported; Alembic's scripts want its own context."""


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return ROOT


def markdown_pages() -> list[Path]:
    """Every markdown page of the repository, not those of environments and of what is measured."""
    return sorted(_pages(ROOT))


def _pages(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in NOT_OURS:
            yield from _pages(entry)
        elif entry.suffix == ".md" and entry.is_file():
            yield entry


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each page to tests that ask for a ``page``."""
    if "page" in metafunc.fixturenames:
        pages = markdown_pages()
        metafunc.parametrize("page", pages, ids=[page.relative_to(ROOT).as_posix() for page in pages])


@pytest.fixture(scope="session")
def modules() -> list[ModuleType]:
    """Every module of the product, imported: what a module defines is found without being listed anywhere."""
    names = [found.name for found in pkgutil.walk_packages(entrepot.__path__, "entrepot.")]
    return [importlib.import_module(name) for name in names if not _NOT_IMPORTABLE.search(name)]


@pytest.fixture(scope="session")
def table_rows() -> Callable[[str], list[list[str]]]:
    """Cells of all table rows in a markdown text, headings and rulers left out."""

    def rows(text: str) -> list[list[str]]:
        found: list[list[str]] = []
        lines = text.splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            heading = following.startswith("|") and not set(following) - set("|-: ")
            ruler = not set(line) - set("|-: ")
            if line.startswith("|") and not heading and not ruler:
                found.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        return found

    return rows


@pytest.fixture(scope="session")
def sections() -> Callable[[str], dict[str, str]]:
    """The text below each second-level heading of a page, by heading."""

    def split(text: str) -> dict[str, str]:
        parts = re.split(r"^## +(.+)$", text, flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    return split
