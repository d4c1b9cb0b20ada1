"""Hostile deltas: a named error, never wrong bytes, never more memory than promised."""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.content.delta.format import (
    DeltaPart,
    DeltaRoot,
    Patch,
    PlainRange,
    decode_delta_part,
    decode_delta_root,
)
from entrepot.content.delta.patching import apply_patch, check_header, looks_hopeless, make_patch
from entrepot.content.delta.plaintext import OldPlaintext
from entrepot.content.digests import digest_of
from entrepot.content.manifest import Part
from entrepot.core.encoding import pack
from entrepot.core.errors import FormatError, IntegrityError
from entrepot.protocol import SealedRef

NOISE = random.Random(7)
OLD = NOISE.randbytes(50_000)
NEW = OLD[:20_000] + b"inserted" + OLD[20_100:]
PATCH = make_patch(OLD, NEW)
SHA = digest_of(NEW)


def ref(plain: int = 1000) -> SealedRef:
    return SealedRef(bytes(32), plain + 17, plain, bytes(32), bytes(32))


def root(**changes: object) -> DeltaRoot:
    fields: dict[str, object] = {
        "version": 1,
        "content": "pkg-1",
        "old_number": 1,
        "new_number": 2,
        "old_root": bytes(32),
        "new_root": bytes(32),
        "patches": 1,
        "parts": (ref(),),
        "packs": (ref(5000),),
    }
    return DeltaRoot(**{**fields, **changes})  # type: ignore[arg-type]  # the test breaks fields on purpose


def test_a_good_patch_applies() -> None:
    assert apply_patch(OLD, PATCH, size=len(NEW), digest=SHA) == NEW


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_patches_give_named_errors_or_the_right_bytes(data: st.DataObject) -> None:
    mutated = bytearray(PATCH)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError, IntegrityError):
        assert apply_patch(OLD, bytes(mutated), size=len(NEW), digest=SHA) == NEW


def test_an_old_version_that_cannot_be_read_leaves_no_file_open(tmp_path: Path) -> None:
    def parts() -> Iterator[Part]:
        yield Part(version=1, chunks=(), entries=())
        raise IntegrityError("damaged")

    with pytest.raises(IntegrityError) as failed:  # kept: what it refers to must not hold the database open
        OldPlaintext(parts(), lambda _: b"", tmp_path)
    holders = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert failed.value.message == "damaged"
    assert not [link for link in holders if link.exists() and link.readlink().is_relative_to(tmp_path)]


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_patch(data: bytes) -> None:
    with pytest.raises(FormatError):
        check_header(data, old_size=10, new_size=10)


def test_a_header_that_promises_a_gigabyte_is_refused() -> None:
    huge = b"HDIFF13&\x00" + b"\x84\x80\x80\x80\x00" + PATCH[12:]
    with pytest.raises(FormatError):
        apply_patch(OLD, huge, size=len(NEW), digest=SHA)


def test_a_truncated_patch_is_refused() -> None:
    for cut in (3, 12, 20, len(PATCH) - 1):
        with pytest.raises((FormatError, IntegrityError)):
            apply_patch(OLD, PATCH[:cut], size=len(NEW), digest=SHA)


def test_a_patch_for_other_old_bytes_is_refused() -> None:
    with pytest.raises(IntegrityError):
        apply_patch(OLD[::-1], PATCH, size=len(NEW), digest=SHA)


@pytest.mark.parametrize(
    "patch",
    [
        Patch(bytes(31), 0, 0, 10, ()),
        Patch(bytes(32), 1, 0, 10, ()),
        Patch(bytes(32), -1, 0, 10, ()),
        Patch(bytes(32), 0, 4995, 10, ()),
        Patch(bytes(32), 0, 0, 0, ()),
        Patch(bytes(32), 0, 0, 10, (PlainRange(-1, 5),)),
        Patch(bytes(32), 0, 0, 10, (PlainRange(0, 0),)),
        Patch(bytes(32), 0, 0, 10, (PlainRange(0, 9 * 1024 * 1024),)),
        Patch(bytes(32), 0, 0, 10, tuple(PlainRange(n, 1) for n in range(5))),
    ],
)
def test_impossible_patches_are_refused(patch: Patch) -> None:
    with pytest.raises(FormatError):
        decode_delta_part(pack(DeltaPart(1, (patch,))), root())


def test_unknown_versions_say_so() -> None:
    with pytest.raises(FormatError, match="version 3"):
        decode_delta_root(pack(root(version=3)))
    with pytest.raises(FormatError, match="version 9"):
        decode_delta_part(pack(DeltaPart(9, ())), root())


def test_oversized_packs_and_parts_are_refused() -> None:
    with pytest.raises(FormatError, match="pack is too large"):
        decode_delta_root(pack(root(packs=(ref(9 * 1024 * 1024),))))
    with pytest.raises(FormatError, match="part is too large"):
        decode_delta_root(pack(root(parts=(ref(2 * 1024 * 1024),))))


@given(st.binary(max_size=300))
def test_foreign_bytes_are_no_root_and_no_part(data: bytes) -> None:
    for read in (decode_delta_root, lambda raw: decode_delta_part(raw, root())):
        with pytest.raises(FormatError):
            read(data)


def test_the_probe_skips_strangers_and_keeps_relatives() -> None:
    assert looks_hopeless(NOISE.randbytes(50_000), NEW)
    assert not looks_hopeless(OLD, NEW)
    assert not looks_hopeless(bytes(50_000), bytes(50_000))
