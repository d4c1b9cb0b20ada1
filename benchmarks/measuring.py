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


class Resident:
    """A process that goes on, as a server does, and takes orders: a line in, a line out when it is done.

    Args:
        command: it says ``ready`` when it may be given orders, and ``done`` after each.

    Attributes:
        start_seconds: from its start until it was ready.

    Raises:
        RuntimeError: it ended before it was ready.
    """

    def __init__(self, command: Sequence[str]) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._await("ready")
        self.start_seconds = time.perf_counter() - start

    def order(self, line: str) -> Run:
        """What it takes to do one thing, processes that it starts for that included.

        Raises:
            RuntimeError: the process ended before it was done.
        """
        assert self._process.stdin is not None
        os.sync()
        cpu, peak = self._cpu(), _Peak(self._process.pid)
        start = time.perf_counter()
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._await("done")
        seconds = time.perf_counter() - start
        return Run(seconds=seconds, cpu=self._cpu() - cpu, peak_rss_mib=peak.stop(), output="")

    def end(self) -> None:
        """End it and wait."""
        self._process.kill()
        self._process.communicate()

    def _await(self, word: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != f"{word}\n":
            self.end()
            raise RuntimeError(f"The process ended before it was {word}: {self._process.returncode}.")

    def _cpu(self) -> float:
        """User and system seconds of the process and of those that it started and that have ended."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


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
        while not self._ended.wait(0.1):
            self._look()

    def _look(self) -> None:
        """The last mark of each counts: until a new process runs its own program, it has its parent's memory."""
        for pid in _with_descendants(self._pid):
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
            self._kib[pid] = marks[-1] if marks else self._kib.get(pid, 0)

    def stop(self) -> float:
        """MiB of all together, as if each had its peak at the same time."""
        self._ended.set()
        self._thread.join()
        self._look()
        return round(sum(self._kib.values()) / 1024, 1)


def _with_descendants(pid: int) -> list[int]:
    found = [pid]
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            for child in each.read_text().split():
                found += _with_descendants(int(child))
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
