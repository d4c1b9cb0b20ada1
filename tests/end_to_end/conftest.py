"""Runs the demonstration once, as a newcomer would, and gives its JSON document to the tests."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

PATIENCE = 1200


class Told(msgspec.Struct, frozen=True):
    """What a run left: its JSON document, what it printed, its folder, and who was still alive afterwards."""

    code: int
    document: dict[str, Any]
    printed: str
    folder: Path
    survivors: tuple[str, ...]

    def step(self, number: int) -> dict[str, Any]:
        """One step of the document."""
        step: dict[str, Any] = self.document["steps"][number - 1]
        assert step["number"] == number
        return step

    def figures(self, number: int) -> dict[str, Any]:
        """The figures of one step."""
        figures: dict[str, Any] = self.step(number)["figures"]
        return figures


def processes_below(folder: Path) -> tuple[str, ...]:
    """Command lines of running processes that name a path below the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if str(folder) in line:
                    found.append(line)
    return tuple(found)


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory, no_way_out: Callable[[str], dict[str, str]]) -> Told:
    """The demonstration, told to its end. Neither its cloud host nor a gateway is able to open a connection (R7)."""
    folder = tmp_path_factory.mktemp("demo")
    out = folder.parent / f"{folder.name}.json"
    environment = no_way_out("host serve") | {"COLUMNS": "160"}
    command = [sys.executable, "-m", "entrepot", "demo", "--folder", str(folder), "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)
    printed = done.stdout + done.stderr
    if done.returncode != 0:
        logs = "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in sorted((folder / "logs").glob("*.log")))
        pytest.fail(f"The demonstration ended with {done.returncode}:\n{printed}\n{logs}")
    document = json.loads(out.read_text())
    return Told(done.returncode, document, printed, folder, processes_below(folder))
