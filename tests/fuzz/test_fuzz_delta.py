"""A short run of the delta's fuzzer, always the same: a fixed seed and a fixed number of inputs."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.process
def test_hostile_deltas_give_named_errors(tmp_path: Path) -> None:
    harness = Path(__file__).with_name("fuzz_delta.py")
    done = subprocess.run(
        [sys.executable, str(harness), "-seed=1", "-runs=20000", "-max_len=300", "-rss_limit_mb=1024"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 20000 runs" in done.stderr
