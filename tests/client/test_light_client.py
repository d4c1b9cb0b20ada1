"""The agent loads neither SQL nor servers nor cloud SDKs, and works where POSIX-only calls are missing."""

import subprocess
import sys

FORBIDDEN = ("sqlite3", "sqlalchemy", "litestar", "granian", "obstore", "azure")


def test_the_agent_loads_nothing_of_a_server() -> None:
    program = (
        "import sys, entrepot.client.fetch, entrepot.client.enrol\n"
        f"print(*sorted({{name.partition('.')[0] for name in sys.modules}} & set({FORBIDDEN!r})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_nothing_of_posix_is_needed_at_import() -> None:
    """Windows has no fcntl, no O_NOFOLLOW, no folder descriptors: the modules that use them must not need them."""
    program = """
import os, sys
sys.modules["fcntl"] = sys.modules["pwd"] = sys.modules["grp"] = None
import types
locks = types.ModuleType("entrepot.durable.locks")  # has its own Windows branch, chosen when it is loaded
locks.HomeLock = object
sys.modules["entrepot.durable.locks"] = locks
for name in ("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK"):
    delattr(os, name)
os.supports_dir_fd.clear()
import entrepot.client.fetch, entrepot.client.enrol
from entrepot.client.safetree import HAS_DIR_FD
assert not HAS_DIR_FD
"""
    subprocess.run([sys.executable, "-c", program], check=True)
