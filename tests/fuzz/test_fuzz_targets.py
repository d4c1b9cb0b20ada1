"""Every target of ``fuzz`` for a moment: hostile bytes are read or refused by name, and promises hold."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS

# Of a changed seed: two bytes say where, one what stands there then; one left over cuts the end off.
CHANGES = st.lists(st.binary(min_size=3, max_size=3), max_size=4).map(b"".join)
INPUTS = st.one_of(
    st.builds(lambda body: b"\x00" + body, st.binary(max_size=400)),
    st.builds(
        lambda seed, changes, cut: bytes([seed]) + changes + cut, st.integers(0, 255), CHANGES, st.binary(max_size=1)
    ),
)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_hostile_bytes_are_read_or_refused_by_name(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(INPUTS)
    def feed(data: bytes) -> None:
        target.feed(data)

    feed()


@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"trust_document"}))
def test_the_seeds_are_good_so_that_changes_reach_deep(name: str) -> None:
    target = TARGETS[name]
    assert target.seeds
    assert [target.feed(bytes([1 + 2 * number])) for number in range(len(target.seeds))] == [True] * len(target.seeds)


@pytest.mark.process
@pytest.mark.parametrize("name", ["delta_patch", "manifest_part", "transaction_segment"])
def test_guided_by_coverage_for_a_fixed_number_of_inputs(name: str, tmp_path: Path) -> None:
    """The driver of ``make fuzz``, with a fixed seed."""
    arguments = [sys.executable, "-m", "fuzz", name, "-seed=1", "-runs=20000", "-max_len=300", "-rss_limit_mb=1024"]
    done = subprocess.run(
        [*arguments, f"-artifact_prefix={tmp_path}/"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 20000 runs" in done.stderr
