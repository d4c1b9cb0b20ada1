"""Evidence of what a cloud point's gateways sent and the site refused."""

import os

import pytest

from entrepot.core.times import DAY
from entrepot.site.cloud.damaged import MOST_DAMAGED, DamagedSegments

from .conftest import NOW


@pytest.fixture
def kept(tmp_path):
    return DamagedSegments(tmp_path)


def _of(tmp_path, point: str) -> set[bytes]:
    return {file.read_bytes() for file in (tmp_path / point).glob("*.segment")}


def test_who_floods_one_point_pushes_out_no_evidence_of_another(kept, tmp_path) -> None:
    kept.keep("pt-quiet", "tx/1/gw/0", b"evidence")
    for number in range(MOST_DAMAGED + 3):
        kept.keep("pt-flooded", f"tx/1/gw/{number}", b"%d" % number)
    assert _of(tmp_path, "pt-quiet") == {b"evidence"}
    assert _of(tmp_path, "pt-flooded") == {b"%d" % number for number in range(3, MOST_DAMAGED + 3)}


def test_one_that_another_process_drops_meanwhile_disturbs_nobody(kept, tmp_path) -> None:
    kept.keep("pt-1", "tx/1/gw/0", b"zero")
    (tmp_path / "pt-1" / "gone.segment").symlink_to(tmp_path / "nowhere")  # listed, and not there when looked at
    kept.keep("pt-1", "tx/1/gw/1", b"one")
    (tmp_path / "pt-1" / "gone.segment").unlink()
    assert _of(tmp_path, "pt-1") == {b"zero", b"one"}


def test_what_is_as_old_as_logs_become_goes_whoever_it_was_of(kept, tmp_path) -> None:
    for point, age in (("pt-deleted", 100 * DAY), ("pt-1", DAY)):
        kept.keep(point, "tx/1/gw/0", b"it")
        [file] = (tmp_path / point).glob("*.segment")
        os.utime(file, (NOW - age, NOW - age))
    assert kept.drop_old(NOW - 90 * DAY) == 1
    assert (_of(tmp_path, "pt-deleted"), _of(tmp_path, "pt-1")) == (set(), {b"it"})
