import os
import random
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.content.manifest import EntryKind
from entrepot.content.objectset import ObjectSet
from entrepot.content.patterns import Excludes
from entrepot.content.reading import parts
from entrepot.content.snapshot import FileItem, Warnings, walk
from entrepot.content.sources import read_source
from entrepot.content.sweep import sweep
from entrepot.core.errors import CancelledError, FormatError, IntegrityError, NotFoundError, RefusedError
from entrepot.core.ids import ObjectId
from entrepot.core.paths import link_stays_inside
from entrepot.core.sizes import KIB, MIB
from entrepot.core.times import HOUR
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf, key_of

TreeOf = Callable[[Path], dict[str, tuple[str, int, bytes]]]

NAMES = st.one_of(
    st.sampled_from(
        [
            "a",
            "A",
            "b",
            "é",
            "e\u0301",
            "new\nline",
            "with space",
            " ",
            "-",
            "日本語",
            "a.txt",
            "x" * 255,
            "\\",
            ".h",
            "…",
        ]
    ),
    st.text(st.characters(blacklist_characters="/\x00", blacklist_categories=("Cs",)), min_size=1, max_size=12).filter(
        lambda name: name not in (".", "..")
    ),
)
TARGETS = NAMES.filter(lambda name: link_stays_inside("link", name))
CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.tuples(st.integers(0, 3), st.sampled_from([1, 1000, 256 * KIB - 1, 256 * KIB, 700 * KIB, 3 * MIB])),
)
LEAVES = st.one_of(st.tuples(st.just("file"), CONTENTS, st.booleans()), st.tuples(st.just("link"), TARGETS))
TREES = st.recursive(LEAVES, lambda below: st.dictionaries(NAMES, below, max_size=5), max_leaves=12).filter(
    lambda node: isinstance(node, dict) and len(node) > 0
)


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def make(where: Path, node: Any) -> None:
    """Make a generated tree on the disk."""
    if isinstance(node, dict):
        where.mkdir()
        for name, below in node.items():
            make(where / name, below)
    elif node[0] == "link":
        where.symlink_to(node[1])
    else:
        _, content, executable = node
        where.write_bytes(content if isinstance(content, bytes) else noise(*content))
        where.chmod(0o755 if executable else 0o640)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(node=TREES)
def test_what_is_published_is_restored_exactly(make_library: Any, tree_of: TreeOf, node: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        make(source, node)
        library = make_library()
        published = library.publish(source)
        library.restore(published, target)
        assert tree_of(target) == tree_of(source)
        again = library.publish(source)
        assert (again.root, again.set_id, again.new_objects) == (published.root, published.set_id, 0)
        other = library.publish(source, number=2)
        assert library.root(other).parts == library.root(published).parts
        assert other.new_objects == 2  # its own root and set


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "tool").write_bytes(noise(1, 3 * MIB))
    (folder / "bin" / "tool").chmod(0o755)
    (folder / "empty").mkdir()
    (folder / "readme.txt").write_text("Hello")
    (folder / "zero").write_bytes(b"")
    (folder / "latest").symlink_to("bin/tool")
    return folder


class TestResult:
    def test_counts(self, library: Any, source: Path) -> None:
        published = library.publish(source)
        assert (published.files, published.folders, published.links) == (3, 2, 1)
        assert published.plain_size == 3 * MIB + 5
        assert published.warnings == ()
        stored = dict(library.shelf.page())
        chunks = {ref.object_id for part in library.parts(published) for ref in part.chunks}
        assert published.chunks == len(chunks)
        assert published.stored_size == sum(stored[ObjectId(each)] for each in chunks)
        assert (published.new_objects, published.new_bytes) == (len(stored), sum(stored.values()))

    def test_the_set_names_every_object_but_itself(self, library: Any, source: Path) -> None:
        published = library.publish(source)
        data = library.shelf.read_whole(published.set_id)
        named = list(ObjectSet(data))
        assert named == sorted({object_id for object_id, _ in library.shelf.page()} - {published.set_id})
        assert (len(data), len(named)) == (published.set_size, published.objects)

    def test_small_files_are_kept_once_in_however_many_folders_they_are(
        self, library: Any, tree_of: TreeOf, tmp_path: Path
    ) -> None:
        for number in range(300):
            data = noise(number, 4000 if number % 9 else 300_000)
            for release in ("tool-1.0", "tool-1.1", "tool-1.2"):
                folder = tmp_path / "source" / release / str(number % 3)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number}").write_bytes(data)
        published = library.publish(tmp_path / "source")
        small = 2 * sum(4000 for number in range(300) if number % 9)
        assert published.repeated == small
        assert published.plain_size == 3 * (small // 2 + 34 * 300_000)
        assert published.stored_size < 1.01 * published.plain_size / 3
        library.restore(published, tmp_path / "target")
        assert tree_of(tmp_path / "target") == tree_of(tmp_path / "source")

    def test_a_single_file(self, library: Any, source: Path) -> None:
        published = library.publish(source / "bin" / "tool")
        (entry,) = library.entries(published)
        assert (entry.path, entry.mode, entry.size) == ("tool", 0o755, 3 * MIB)
        assert published.folders == 0

    def test_a_source_that_is_a_link_is_followed(self, library: Any, source: Path) -> None:
        link = source.parent / "link"
        link.symlink_to(source)
        assert library.publish(link).files == 3

    def test_no_plaintext_is_in_the_store(self, library: Any, source: Path) -> None:
        (source / "secret.txt").write_text("the quick brown fox " * 100)
        library.publish(source)
        for object_id, _ in library.shelf.page():
            data = library.shelf.read_whole(object_id)
            assert b"quick" not in data
            assert b"readme.txt" not in data

    def test_a_new_version_stores_only_what_changed(self, library: Any, source: Path) -> None:
        for number in range(300):
            (source / f"file{number:03}").write_bytes(noise(number, 20 * KIB))
        first = library.publish(source)
        (source / "file150").write_bytes(noise(999, 20 * KIB))
        second = library.publish(source, number=2)
        assert second.new_bytes < 2.2 * MIB < 8 * MIB < first.new_bytes

    def test_equal_files_of_two_packages_are_one_object(self, library: Any, source: Path, tmp_path: Path) -> None:
        first = library.publish(source)
        other = tmp_path / "other"
        other.mkdir()
        (other / "renamed").write_bytes((source / "bin" / "tool").read_bytes())
        second = library.publish(other)
        assert second.new_objects == 3  # part, root, set
        chunks = [{ref.object_id for part in library.parts(each) for ref in part.chunks} for each in (first, second)]
        assert chunks[1] < chunks[0]

    def test_an_inserted_byte_moves_few_chunks(self, library: Any, tmp_path: Path) -> None:
        big = tmp_path / "big"
        data = noise(7, 24 * MIB)
        big.write_bytes(data)
        first = library.publish(big)
        big.write_bytes(data[: 9 * MIB] + b"!" + data[9 * MIB :])
        second = library.publish(big, number=2)
        assert first.chunks > 12
        assert second.new_objects <= 6

    def test_repeated_content_is_one_chunk(self, library: Any, tmp_path: Path, tree_of: TreeOf) -> None:
        folder = tmp_path / "zeros"
        folder.mkdir()
        (folder / "disk").write_bytes(bytes(40 * MIB))
        published = library.publish(folder)
        assert published.chunks <= 2
        library.restore(published, tmp_path / "back")
        assert tree_of(tmp_path / "back") == tree_of(folder)

    def test_many_small_files_make_several_parts_that_read_alone(self, library: Any, tmp_path: Path) -> None:
        folder = tmp_path / "many"
        folder.mkdir()
        for number in range(20_000):
            (folder / f"{number:05} with a name that is rather long, so that parts fill").write_bytes(b"%d" % number)
        published = library.publish(folder)
        root = library.root(published)
        assert len(root.parts) >= 2
        assert [entry.path for entry in library.entries(published)] == sorted(path.name for path in folder.iterdir())
        (folder / "09500 with a name that is rather long, so that parts fill").write_bytes(b"changed")
        second = library.root(library.publish(folder, number=2))
        assert len(set(second.parts) - set(root.parts)) <= 2 < len(root.parts)


class TestExcludes:
    def test_patterns_leave_out_files_and_whole_folders(self, library: Any, source: Path) -> None:
        (source / "bin" / "x.tmp").write_text("")
        (source / "cache").mkdir()
        (source / "cache" / "big").write_text("")
        published = library.publish(source, excludes=("*.tmp", "cache/", "bin/to*"))
        paths = [entry.path for entry in library.entries(published)]
        assert paths == ["bin", "empty", "latest", "readme.txt", "zero"]

    def test_what_is_excluded_need_not_be_publishable(self, library: Any, source: Path) -> None:
        os.mkfifo(source / "pipe")
        (source / "away").symlink_to("/etc/passwd")
        assert library.publish(source, excludes=("pipe", "away")).files == 3

    def test_excluding_everything_is_refused(self, library: Any, source: Path) -> None:
        with pytest.raises(RefusedError, match="exclude"):
            library.publish(source, excludes=("*",))

    def test_an_empty_source_is_refused(self, library: Any, tmp_path: Path) -> None:
        (tmp_path / "nothing").mkdir()
        with pytest.raises(RefusedError, match="empty"):
            library.publish(tmp_path / "nothing")


class TestRefusals:
    @pytest.mark.parametrize(
        ("target", "name"),
        [("/etc/passwd", "out"), ("../../x", "bin/out"), ("..", "out"), ("bin/../../y", "out"), ("a\\b", "out")],
    )
    def test_links_that_lead_out(self, library: Any, source: Path, target: str, name: str) -> None:
        (source / name).symlink_to(target)
        with pytest.raises(RefusedError, match=name):
            library.publish(source)

    def test_links_that_lead_out_through_another_link(self, library: Any, source: Path) -> None:
        (source / "deep" / "er").mkdir(parents=True)
        (source / "deep" / "er" / "up").symlink_to("../..")
        (source / "deep" / "er" / "out").symlink_to("up/..")
        with pytest.raises(RefusedError, match="deep/er/out"):
            library.publish(source)

    def test_links_that_stay_inside_may_be_broken_or_circular(
        self, library: Any, source: Path, tmp_path: Path, tree_of: TreeOf
    ) -> None:
        (source / "broken").symlink_to("no/such/file")
        (source / "circle").symlink_to("circle")
        (source / "bin" / "up").symlink_to("../readme.txt")
        library.restore(library.publish(source), tmp_path / "back")
        assert tree_of(tmp_path / "back") == tree_of(source)

    def test_fifos(self, library: Any, source: Path) -> None:
        os.mkfifo(source / "bin" / "pipe")
        with pytest.raises(RefusedError, match=r"'bin/pipe' is a FIFO"):
            library.publish(source)

    def test_sockets(self, library: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(source)  # socket addresses are short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("sock")
            with pytest.raises(RefusedError, match="'sock' is a socket"):
                library.publish(source)

    def test_devices(self, library: Any) -> None:
        with pytest.raises(RefusedError, match="device"):
            library.publish(Path("/dev/null"))

    def test_folders_too_deep_within_each_other(self, library: Any, source: Path) -> None:
        deep = source / "/".join("d" * 300)
        deep.mkdir(parents=True)
        (deep / "file").write_text("x")
        with pytest.raises(RefusedError, match="too deep"):
            library.publish(source)

    def test_names_that_are_not_utf8(self, library: Any, source: Path) -> None:
        Path(os.fsdecode(os.fsencode(source) + b"/bad\xff")).write_text("x")
        with pytest.raises(RefusedError, match="not valid UTF-8"):
            library.publish(source)

    def test_a_missing_source(self, library: Any, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="nowhere"):
            library.publish(tmp_path / "nowhere")

    def test_cancelling(self, library: Any, source: Path) -> None:
        with pytest.raises(CancelledError):
            library.publish(source, cancelled=lambda: True)

    def test_a_refused_publish_leaves_nothing_that_a_sweep_cannot_delete(
        self, make_library: Any, make_memory_ledgers: Any, source: Path, tmp_path: Path
    ) -> None:
        for number in range(100):
            (source / f"file{number:03}").write_bytes(noise(number, MIB))
        os.mkfifo(source / "zz-pipe")
        ledgers = make_memory_ledgers()
        library = make_library(Shelf(FolderStore(tmp_path / "store")))
        library.ledgers = ledgers.library
        with pytest.raises(RefusedError):
            library.publish(source)
        other = Shelf(FolderStore(tmp_path / "store"))  # as another process would see it
        assert len(other.page()) > 10
        for _ in range(2):
            ledgers.now += 2 * HOUR
            sweep(ledgers.sweeping, other, now=ledgers.now)
        library.shelf.flush()
        assert other.page() == []


def test_a_small_source_is_durable_by_one_flush_and_the_index_hears_of_it_after_that(
    tmp_path: Path, source: Path, make_library: Callable[..., Any]
) -> None:
    seen: list[tuple[int, int]] = []

    class Watched(FolderStore):
        def flush(self) -> None:
            super().flush()
            seen.append((len(there.page()), len(library.ledgers.index)))

    library = make_library(Shelf(Watched(tmp_path / "store")))
    there = Shelf(FolderStore(tmp_path / "store"))  # as another process sees it
    (source / "small").write_bytes(b"x" * 1000)
    (source / "big").write_bytes(noise(1, MIB))
    published = library.publish(source)
    assert seen[0] == (published.new_objects, 0), "chunks, a part, the root and the set"
    assert seen[-1][0] == published.new_objects
    assert len(library.ledgers.index) == published.new_objects - 1, "all but the set are found by their content"


class TestWindows:
    NAMES = ("aux.txt", "semi:colon", "trail.", "Bin")

    def test_names_it_cannot_store_are_warned_about(self, library: Any, source: Path) -> None:
        for name in self.NAMES:
            (source / name).write_text("x")
        published = library.publish(source)
        assert len(published.warnings) == len(self.NAMES)
        for name in self.NAMES:
            assert any(name in warning for warning in published.warnings)
        assert not library.root(published).windows_safe
        with pytest.raises(FormatError, match="Windows"):
            list(parts(library.root(published), library.fetch, for_windows=True))

    @pytest.mark.parametrize("name", NAMES)
    def test_or_refused_on_request(self, library: Any, source: Path, name: str) -> None:
        (source / name).write_text("x")
        with pytest.raises(RefusedError, match=name):
            library.publish(source, for_windows=True)

    def test_a_root_without_such_names_promises_it(self, library: Any, source: Path) -> None:
        assert library.root(library.publish(source, for_windows=True)).windows_safe

    def test_the_list_of_warnings_is_bounded(self, library: Any, source: Path) -> None:
        for number in range(150):
            (source / f"{number}:").write_text("")
        warnings = library.publish(source).warnings
        assert len(warnings) == 101
        assert "50 further" in warnings[-1]


class TestUnicodeForms:
    """One name may be written with other code points; macOS and its shares take these for the same name."""

    COMPOSED, APART = "caf\u00e9", "cafe\u0301"

    def test_names_that_only_macos_takes_for_one_are_warned_about(self, library: Any, source: Path) -> None:
        for name in (self.COMPOSED, self.APART, "caf\u00e8"):
            (source / name).write_text("x")
        published = library.publish(source, for_windows=True)  # Windows keeps them apart
        (warning,) = published.warnings
        assert r"'cafe\u0301'" in warning
        assert r"'caf\xe9'" in warning
        assert library.root(published).windows_safe

    @pytest.mark.parametrize("other", ["K\u037e", "CAFE\u0301"])
    def test_so_are_names_that_differ_in_case_besides_and_those_that_are_plain_ascii(
        self, library: Any, source: Path, other: str
    ) -> None:
        for name in ("K;", self.COMPOSED, other):
            (source / name).write_text("x")
        assert any(ascii(other) in warning for warning in library.publish(source).warnings)

    def test_the_same_name_in_two_folders_is_no_surprise(self, library: Any, source: Path) -> None:
        for folder, name in (("a", self.COMPOSED), ("b", self.APART)):
            (source / "new" / folder).mkdir(parents=True)
            (source / "new" / folder / name).write_text("x")
        assert library.publish(source).warnings == ()

    def test_the_list_of_them_is_bounded(self, library: Any, source: Path) -> None:
        for number in range(150):
            (source / f"{number}\u00e9").write_text("")
            (source / f"{number}e\u0301").write_text("")
        warnings = library.publish(source).warnings
        assert len(warnings) == 101
        assert "50 further pairs" in warnings[-1]


class TestDamage:
    def test_a_flipped_bit_anywhere_is_detected(self, library: Any, source: Path, tmp_path: Path) -> None:
        published = library.publish(source)
        for number, (object_id, size) in enumerate(library.shelf.page()):
            if object_id == published.set_id:
                continue  # read by points and gateways, not by a restore
            whole = library.shelf.read_whole(object_id)
            flipped = bytearray(whole)
            flipped[size // 2] ^= 0x10
            library.shelf.store.put(key_of(object_id), bytes(flipped))
            with pytest.raises(IntegrityError, match=object_id.hex()[:16]):
                library.restore(published, tmp_path / f"back{number}")
            library.shelf.store.put(key_of(object_id), whole)

    def test_an_object_that_the_library_lost_is_stored_again(self, library: Any, source: Path, tmp_path: Path) -> None:
        first = library.publish(source)
        for object_id, _ in library.shelf.page():
            library.shelf.delete(object_id)
        second = library.publish(source)
        assert (second.root, second.set_id) == (first.root, first.set_id)
        library.restore(second, tmp_path / "back")


def test_entries_are_in_path_order_across_kinds(library: Any, tmp_path: Path) -> None:
    folder = tmp_path / "order"
    for name in ("a/x", "a-b/x", "a.b", "B", "a0/y", "\uff5e", "\U00010400"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "a" / "z").mkdir()
    entries = library.entries(library.publish(folder))
    assert [entry.path for entry in entries] == ["B", "a/x", "a/z", "a-b/x", "a.b", "a0/y", "\uff5e", "\U00010400"]
    assert [entry.kind for entry in entries].count(EntryKind.FOLDER) == 1


def test_a_single_file_may_be_named_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"content")
    (tmp_path / "latest.bin").symlink_to("real.bin")
    [item] = walk(tmp_path / "latest.bin", Excludes(()), Warnings(for_windows=False))
    assert isinstance(item, FileItem)
    assert (item.path, read_source(item)) == ("latest.bin", b"content")


def test_an_object_set_that_was_cut_short_is_written_again(library: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    published = library.publish(tmp_path / "file")
    library.shelf.store.put(key_of(published.set_id), b"")

    again = library.publish(tmp_path / "file")

    assert again.set_id == published.set_id
    assert len(library.shelf.read_whole(published.set_id)) == published.set_size
