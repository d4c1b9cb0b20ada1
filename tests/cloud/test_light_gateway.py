"""There may be many instances of a gateway on one machine: each loads what it serves with, and nothing else."""

import subprocess
import sys

import pytest

HEAVY = ("litestar", "pydantic", "pygments", "rich", "sqlalchemy", "typer")


@pytest.mark.process
def test_an_instance_loads_no_command_line_no_sql_and_nothing_that_prints_in_colour() -> None:
    program = f"""
import sys
from entrepot.cloud.gateway.__main__ import main
sys.argv = ["gateway", "/nowhere/gateway.json"]
try:
    main()
except SystemExit as told:
    print(told)
print([name for name in {HEAVY!r} if sys.modules.get(name)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told, loaded = done.stdout.splitlines()
    assert "/nowhere/gateway.json" in told
    assert loaded == "[]"


@pytest.mark.process
def test_an_instance_without_its_file_says_what_is_missing() -> None:
    done = subprocess.run([sys.executable, "-m", "entrepot.cloud.gateway"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "configuration file" in done.stderr
    assert "Traceback" not in done.stderr
