"""Root's orders for a host that another account runs are carried out as that account."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cli.host.owner import owner_of
from entrepot.core.errors import StorageError

OWNER, GROUP = 12_345, 23_456
FOR_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
ORDERS = """
import os, sys
from pathlib import Path
from entrepot.cli.host import home as hosthome
from entrepot.cloud.host.setup import init_host
warm, home = Path(sys.argv[1]), Path(sys.argv[2])
init_host(warm, "127.0.0.1:0", now=1.8e9)  # everything is loaded: this installation may be root's alone
hosthome.administration(warm).add_subscription("warm")
hosthome.key_administration(warm).rotate(14)
assert os.geteuid() == 0, "its own home"
os.access = lambda path, mode, **how: (os.geteuid(), os.getegid(), os.getgroups()) == (12345, 23456, [23456])
hosthome.act_as_owner(home)
made = (os.getresuid(), os.getresgid(), os.getgroups())
assert made == ((12345,) * 3, (23456,) * 3, [23456]), made
print("another", flush=True)
for order in sys.argv[3:]:
    if order == "init":
        init_host(home, "127.0.0.1:0", now=1.8e9)
    if order == "orders":
        hosthome.administration(home).add_subscription(f"contoso {os.getpid()}")
        hosthome.key_administration(home).rotate(14)
        hosthome.key_administration(home).switch()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others may enter; those of pytest are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="entrepot-owner-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(place: Path) -> Path:
    """An empty home of another account."""
    folder = place / "host"
    folder.mkdir(mode=0o700)
    os.chown(folder, OWNER, GROUP)
    return folder


def ordered(place: Path, home: Path, *orders: str) -> subprocess.CompletedProcess[str]:
    """Give orders as root, in a process of their own: there is no way back."""
    command = [sys.executable, "-c", ORDERS, str(place / f"warm-{secrets.token_hex(4)}"), str(home), *orders]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@FOR_ROOT
@pytest.mark.process
def test_everything_that_root_makes_in_anothers_home_is_the_owners(place: Path, home: Path) -> None:
    ran = ordered(place, home, "init", "orders")
    assert ran.returncode == 0, ran.stderr
    made = [home, *home.rglob("*")]
    assert {path.name for path in made} >= {"host.toml", "host.sqlite", "audit.log", "key.pem", "lock"}
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in made} == {(OWNER, GROUP)}


@FOR_ROOT
@pytest.mark.process
@pytest.mark.parametrize("name", ["host.sqlite", "audit.log", "tls", "lock", "host.toml"])
def test_a_link_in_the_home_leads_to_no_file_of_roots(place: Path, home: Path, name: str) -> None:
    ran = ordered(place, home, "init", "orders")
    assert ran.returncode == 0, ran.stderr
    secret = place / "secret"
    shutil.copytree(home / name, secret) if (home / name).is_dir() else shutil.copy(home / name, secret)
    for path in (secret, *(secret.rglob("*") if secret.is_dir() else ())):
        os.chown(path, 0, 0)
        path.chmod(0o700)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_uid) for path in (secret, *secret.rglob("*"))}
    shutil.rmtree(home / name) if (home / name).is_dir() else (home / name).unlink()
    (home / name).symlink_to(secret)
    os.chown(home / name, OWNER, GROUP, follow_symlinks=False)
    ran = ordered(place, home, "orders")
    if name == "lock":
        assert ran.returncode == 0, ran.stderr  # orders do not take it
    else:
        assert (ran.returncode, ran.stdout) == (1, "another\n"), ran.stderr
    assert {path: (path.stat().st_mtime_ns, path.stat().st_uid) for path in before} == before


@FOR_ROOT
def test_a_home_of_two_accounts_is_refused_with_the_command_that_mends_it(home: Path) -> None:
    (home / "host.toml").write_text("")
    with pytest.raises(StorageError, match=r"12345, its host\.toml to root") as caught:
        owner_of(home, home.stat(), (home / "host.toml").lstat())
    assert f"chown -R root {home}" in caught.value.next_step
    os.chown(home / "host.toml", OWNER, GROUP)
    assert owner_of(home, home.stat(), (home / "host.toml").lstat()) == OWNER
    assert owner_of(home, home.stat(), None) == OWNER
