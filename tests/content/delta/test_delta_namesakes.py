"""Which old file a new one grew from, also where very many share a name."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.content.delta.folding import fold
from entrepot.content.delta.plaintext import OldFile, OldPlaintext
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.protocol import SealedRef

REF = SealedRef(object_id=b"o" * 32, sealed_size=1017, plain_size=1000, key=b"k" * 32, digest=b"s" * 32)


def old_version(files: dict[str, int], scratch: Path) -> OldPlaintext:
    """A version with files of these sizes; what is in them does not matter."""
    entries = [
        Entry(
            kind=EntryKind.FILE,
            path=path,
            size=size,
            mode=0o644,
            digest=b"h" * 32,
            extents=(Extent(chunk=0, offset=0, length=size),) if size else (),
        )
        for path, size in sorted(files.items())
    ]
    return OldPlaintext([Part(version=1, entries=tuple(entries), chunks=(REF,))], lambda _: b"", scratch)


def as_documented(files: dict[str, int], path: str, size: int) -> tuple[str, int] | None:
    """Same path, same but for numbers, moved, moved and renumbered; of several the nearest size, then the path."""

    def name(text: str) -> str:
        return text.rsplit("/", 1)[-1]

    for key in (str, fold, name, lambda text: fold(name(text))):
        found = [(abs(had - size), old, had) for old, had in files.items() if had and key(old) == key(path)]
        if found:
            return min(found)[1:]
    return None


paths = st.builds("{}{}/{}{}.{}".format, *[st.sampled_from(each) for each in ("ab", "12", "xy", "123", "cd")])


@given(files=st.dictionaries(paths, st.integers(0, 6), max_size=40), path=paths, size=st.integers(1, 7))
def test_the_nearest_of_the_best_namesakes_is_found(files: dict[str, int], path: str, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        old = old_version(files, Path(folder))
        found = old.find_file(path, size)
        old.close()
    wanted = as_documented(files, path, size)
    position = 0
    for each, had in sorted(files.items()):
        if wanted is not None and each == wanted[0]:
            assert found == OldFile(position=position, size=had)
        position += had
    assert (found is None) == (wanted is None)


@pytest.mark.parametrize("alike", [True, False])
def test_finding_one_takes_a_few_steps_however_many_there_are(tmp_path: Path, alike: bool) -> None:
    """Folders of hashed names fold to one name: looking through all for each would take hours."""
    files = {f"objects/{number:040x}": 7 if alike else 1 + number for number in range(20_000)}
    old = old_version(files, tmp_path)
    steps = [0]

    def count() -> None:
        steps[0] += 1

    old._db.set_progress_handler(count, 10)
    for number in range(100):
        assert old.find_file(f"objects/{1 << 150 | number:040x}", 5000 + number) is not None
    old._db.set_progress_handler(None, 0)
    old.close()
    assert steps[0] * 10 < 100 * 1000, "instructions of the database, for a hundred files"
