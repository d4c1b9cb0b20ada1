"""A site server starts as soon as it can: what only some sites need is loaded when it is needed."""

import subprocess
import sys

import pytest

LATER = ("alembic", "azure", "dns", "pydantic")


@pytest.mark.process
def test_a_site_is_ready_without_what_asks_dns_migrates_or_knows_other_models() -> None:
    program = f"""
import sys
import entrepot.site.serve
from entrepot.site.api.app import build_app
build_app(None, open_routes=[], routes=[])
print([name for name in {LATER!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
