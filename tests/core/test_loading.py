"""Programs start and end without a look for garbage, and look for it in between."""

import gc
import subprocess
import sys

import pytest

from entrepot.core.loading import all_is_loaded

COUNTED = """
import atexit, gc, sys
from entrepot.core.loading import all_is_loaded, load_without_a_look
looks = []
gc.callbacks.append(lambda phase, _: looks.append(phase))
"""


def told(program: str) -> list[str]:
    command = [sys.executable, "-c", COUNTED + program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.process
def test_a_server_loads_without_a_look_and_looks_at_what_comes_later_only() -> None:
    program = """
usual = gc.get_threshold()
load_without_a_look()
import entrepot.site.serve
print(looks)
all_is_loaded()
print(gc.get_threshold() == usual, gc.get_freeze_count() > 100_000)
del looks[:]
later = [[number] for number in range(100_000)]
print("start" in looks)
"""
    assert told(program) == ["[]", "True True", "True"]


@pytest.mark.process
def test_a_command_answers_and_ends_without_a_look() -> None:
    program = """
sys.argv = ["entrepot", "content", "--help"]
atexit.register(lambda: print(looks, gc.get_freeze_count() > 10_000))
from entrepot.cli import main
main()
"""
    *shown, last = told(program)
    assert "publish" in " ".join(shown)
    assert last == "[] True"


def test_where_the_look_was_not_put_off_nothing_is_kept_from_it() -> None:
    before = gc.get_freeze_count(), gc.get_threshold()
    all_is_loaded()
    assert (gc.get_freeze_count(), gc.get_threshold()) == before
