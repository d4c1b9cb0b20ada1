"""The agent uses the client side on managed devices: no server library and no SQL may come with it."""

import subprocess
import sys

import pytest

HEAVY = ("litestar", "granian", "sqlalchemy", "prometheus_client", "sqlite3", "alembic", "psycopg", "obstore")


@pytest.mark.process
@pytest.mark.parametrize("module", ["http", "dataplane", "introduction", "problems", "failures", "tls"])
def test_the_client_side_loads_no_server_library(module):
    program = f"import sys, entrepot.web.{module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
