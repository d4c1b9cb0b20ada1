"""The pages about formats cite golden vectors that exist, with the digests that they have."""

import hashlib
import re

import pytest

_VECTOR = re.compile(r"`(tests/[\w./-]*golden/[\w./-]*)`")
_DIGEST = re.compile(r"`([0-9a-f]{64})`")


@pytest.fixture(scope="module")
def pages(repository):
    """The pages about formats, by name."""
    return {page.name: page.read_text("utf-8") for page in (repository / "docs" / "formats").glob("*.md")}


def test_there_are_pages(pages):
    assert {"token.md", "delta.md", "trust-document.md", "control-document.md", "transaction-record.md"} <= set(pages)


def test_every_page_cites_a_golden_vector(pages):
    assert [name for name, text in pages.items() if not _VECTOR.search(text)] == []


def test_every_vector_that_is_cited_exists(pages, repository):
    for name, text in pages.items():
        for cited in _VECTOR.findall(text):
            path = repository / cited
            assert path.is_file() or any(path.glob("*")), f"{name} cites {cited}"


def test_every_digest_beside_a_vector_is_its_own(pages, repository):
    checked = 0
    for name, text in pages.items():
        for line in text.splitlines():
            vectors, digests = _VECTOR.findall(line), _DIGEST.findall(line)
            if len(vectors) == len(digests) == 1:
                assert hashlib.sha256((repository / vectors[0]).read_bytes()).hexdigest() == digests[0], (name, vectors)
                checked += 1
    assert checked > 10
