"""Gateway processes without a host, on a store of their own: as in a container, or on any machine."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from entrepot.cloud.gateway.config import GatewayConfig, save_config
from entrepot.objects.folder import FolderStore
from entrepot.objects.metering import Meter
from entrepot.objects.opening import open_remote
from entrepot.objects.settings import StoreSettings
from entrepot.objects.shelf import Shelf
from entrepot.protocol.cloudhost import RunState, ServiceStatus
from entrepot.web.dataplane import ShelfHolder


class Alone:
    """One gateway process.

    Args:
        shared: another one, whose store and certificate this one uses too.
        remote: where its store is, instead of a folder.
        poll: seconds between two looks at the documents.
    """

    def __init__(
        self,
        folder: Path,
        site: Any,
        *,
        name: str = "gw",
        shared: "Alone | None" = None,
        remote: StoreSettings | None = None,
        poll: float = 0.1,
    ) -> None:
        self.name = name
        self.port = 0
        self.state = folder / "state"
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        if shared is not None:
            self.holder = shared.holder
            self._config = msgspec.structs.replace(shared._config, instance=name, poll=poll)
            return
        store = FolderStore(folder / "store") if remote is None else open_remote(remote, meter=Meter())
        self.holder = ShelfHolder(Shelf(store))
        spec = site.spec(1)
        certificate, key = folder / "service.crt", folder / "service.key"
        certificate.write_text(spec.certificate)
        key.touch(0o600)
        key.write_text(spec.private_key)
        self._config = GatewayConfig(
            instance=name,
            point=spec.point,
            root=spec.root,
            store="" if remote else str(folder / "store"),
            remote=remote,
            state=str(self.state),
            certificate=str(certificate),
            private_key=str(key),
            listen="127.0.0.1:0",
            poll=poll,
            drain_seconds=30,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> ServiceStatus:
        """Start it; gives what clients need to know."""
        path = self._folder / f"{self.name}.json"
        save_config(path, self._config)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "entrepot.cloud.gateway", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log()[-3000:]
        told = json.loads(line)
        assert told["ready"]
        self.port = int(told["url"].rpartition(":")[2])
        return ServiceStatus(
            name="alone",
            point=self._config.point,
            fqdn="",
            state=RunState.RUNNING,
            address=told["url"].removeprefix("https://"),
            wanted=1,
            instances=(),
            stored_bytes=0,
            stored_objects=0,
            certificate_expires=0,
        )

    def log(self) -> str:
        """What it, and others in its folder, wrote to their log."""
        return (self._folder / "log").read_text()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(60)
        self._process.stdout.close()
        self._process = None
        return code

    def end(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self.send(signal.SIGKILL)
            self.wait()
