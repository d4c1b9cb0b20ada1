"""A site, one distribution point and one device as an administrator sets them up: real commands, processes and TLS."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.measuring import Run, run
from entrepot.cli.demo.processes import Servers, entrepot, run_command
from entrepot.web.ports import lasting_port

_PASSWORD: Final = "of a site that lasts for one measurement"
_POINT: Final = "dp-benchmark"
_ADDRESS: Final = "10.1.0.7"


class Rollout:
    """What stands below a folder; open it with :func:`rolled_out`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment: Final = {**os.environ, "ENTREPOT_CONFIG_DIR": str(folder / "config")}

    def home(self, role: str) -> str:
        """The folder of a role."""
        return str(self._folder / role)

    def short(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that takes seconds; what it printed."""
        log = self._folder / "commands.log"
        return run_command(arguments, environment=self.environment, log=log, stdin=stdin).stdout

    def measured(self, *arguments: str) -> Run:
        """Run a command that takes its time, and measure its process."""
        return run(entrepot(*arguments), env=self.environment)

    def set_up(self, servers: Servers) -> None:
        """Make site, point and device, and have the first two serve."""
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(_PASSWORD + "\n")
        url, secret = f"https://127.0.0.1:{lasting_port('127.0.0.1')}", ("--password-file", str(password))
        made = self.short("site", "init", "--home", self.home("site"), "--name", "Benchmark", "--url", url,
                          "--passphrase-file", str(password), *secret, "--json")  # fmt: skip
        servers.launch("site", "site", "serve", "--home", self.home("site")).await_ready()
        self.short("login", url, "--fingerprint", json.loads(made)["fingerprint"], *secret)
        code = self.short("point", "add", _POINT)
        self.short("point", "init", "--home", self.home("point"), "--code-stdin", "--listen", "127.0.0.1:0", stdin=code)
        servers.launch("point", "point", "serve", "--home", self.home("point")).await_ready()
        self.short("boundary", "add", "Here", "--range", f"{_ADDRESS}/32", "--point", _POINT)
        device = Path(self.home("device"))
        device.mkdir(mode=0o700)
        (device / "client.toml").write_text(f'addresses = ["{_ADDRESS}"]\n')
        code = self.short("device", "code")
        self.short("client", "enrol", "--home", str(device), "--code-stdin", stdin=code)

    def distribute(self, source: Path, name: str) -> None:
        """Publish a folder, bring it to the point, and let the device have it."""
        self.measured("content", "publish", str(source), "--name", name)
        self.measured("content", "distribute", name, "--to", _POINT)
        self.short("deploy", "add", name)

    def fetch(self, name: str) -> Run:
        """Fetch on the device, as ``entrepot client fetch`` does; the output is its JSON document."""
        return self.measured("client", "fetch", name, "--home", self.home("device"), "--json")


@contextmanager
def rolled_out(folder: Path) -> Iterator[Rollout]:
    """Everything serves until the end of the block. ``folder`` is empty."""
    rollout = Rollout(folder)
    with Servers(folder, rollout.environment) as servers:
        rollout.set_up(servers)
        yield rollout
