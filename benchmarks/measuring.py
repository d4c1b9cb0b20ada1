"""Runs whole commands in turn and reads what the kernel says of them."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec


class Run(msgspec.Struct, frozen=True):
    """One finished command: wall and processor seconds, peak resident MiB of all its processes."""

    seconds: float
    cpu: float
    peak_rss_mib: float
    output: str


def run(command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> Run:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    os.sync()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, text=True)
    peak = _Peak(process.pid)
    output, _ = process.communicate()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Run(seconds=seconds, cpu=cpu, peak_rss_mib=peak.stop(), output=output)


class _Peak:
    """Follows the high-water marks of a process and of those it starts, which the children's total would hide behind an
    earlier command's."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._kib: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            for pid in (self._pid, *_children(self._pid)):
                try:
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                except OSError:
                    continue
                marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
                self._kib[pid] = max([self._kib.get(pid, 0), *marks])

    def stop(self) -> float:
        """MiB of all together, as if each had its peak at the same time."""
        self._ended.set()
        self._thread.join()
        return round(sum(self._kib.values()) / 1024, 1)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += map(int, each.read_text().split())
    return found


def forget_peak() -> None:
    """Begin to measure this process's own peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def own_peak() -> float:
    """Peak resident MiB of this process since :func:`forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024, 1)


def fresh(folder: Path) -> Path:
    """An absent folder in an existing parent."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def report(figures: dict[str, Any], details: str) -> None:
    """Print the JSON line, and with a terminal's reader in mind the details before it."""
    if "--json" not in sys.argv:
        print(details)
    print(json.dumps(figures))
