"""A short run of the fuzzer of archives, always the same: a fixed seed and a fixed number of inputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.process
def test_hostile_archives_are_refused_by_name_and_write_nothing_outside(tmp_path: Path) -> None:
    harness = Path(__file__).with_name("fuzz_archives.py")
    done = subprocess.run(
        [sys.executable, str(harness), "-seed=1", "-runs=5000", "-max_len=1024", "-rss_limit_mb=1024"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 5000 runs" in done.stderr
