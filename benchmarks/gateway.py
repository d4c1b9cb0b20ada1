"""One gateway process without a host, on a folder store filled with random objects; and nginx on the same files."""

import json
import os
import random
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from entrepot.cloud.gateway.config import GatewayConfig, save_config
from entrepot.content.objectset import encode_set
from entrepot.core.encoding import to_json
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import MIB
from entrepot.core.times import HOUR
from entrepot.durable.files import write_private
from entrepot.objects.folder import FolderStore
from entrepot.objects.hashing import object_id_of
from entrepot.objects.shelf import Shelf, key_of
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol.control import AddressLimits, ControlDocument, GatewaySettings, ServiceState
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.trust.root import RootKey
from entrepot.trust.signing import SigningKey, sign
from entrepot.trust.tokens import mint_content_token

FQDN = "cloud.benchmark.example"
POINT = "pt-0123456789abcdef"
SITE = "PS1"
GENERATOR_RATE = 1e6
"""Requests a second from one address: the generator stands for many. They are counted, but none is refused."""
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} ssl; root {folder}/store;
    ssl_certificate {folder}/service.crt; ssl_certificate_key {folder}/service.key; ssl_protocols TLSv1.3;
  }}
}}
"""


class Server:
    """A running server process.

    Attributes:
        port: where it listens on 127.0.0.1.
    """

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self.port = port

    def pids(self) -> list[int]:
        """The process and its children."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        """User and system time so far of all its processes."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_rss_mib(self) -> float:
        """The largest process's high-water mark."""
        marks = [
            int(line.split()[1])
            for pid in self.pids()
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ]
        return round(max(marks) / 1024, 1)

    def end(self) -> None:
        """Terminate and wait."""
        self._process.terminate()
        self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Service:
    """A store with its hierarchy, and what is needed to serve it.

    Args:
        pin: what to put before the servers' commands, so that they stay on one processor.

    Attributes:
        objects: ids of 1 MiB objects.
        large: ids of 4 MiB objects.
        ca: PEM of the issuer of the service certificate.
    """

    def __init__(self, folder: Path, *, objects: int, large: int, pin: Sequence[str] = ()) -> None:
        self._folder = folder
        self._pin = pin
        self._root, self._token_key, self._control_key = (
            RootKey.generate(),
            SigningKey.generate(),
            SigningKey.generate(),
        )
        authority = create_authority("Benchmark", now=time.time())
        self.ca = authority.pem()
        key = new_tls_key()
        certificate = authority.issue_server(key.public_key(), names=[FQDN], now=time.time())
        folder.mkdir(parents=True)
        (folder / "service.crt").write_text(to_pem(certificate, authority.certificate))
        write_private(folder / "service.key", key_pem(key).reveal())
        shelf = Shelf(FolderStore(folder / "store"))
        source = random.Random(1)
        self.objects = [_store(shelf, source.randbytes(MIB)) for _ in range(objects)]
        self.large = [_store(shelf, source.randbytes(4 * MIB)) for _ in range(large)]
        self._set_id = _store(shelf, b"".join(encode_set(sorted([*self.objects, *self.large]))))
        shelf.store.put("trust", self._trust())
        shelf.store.put("control", self._control())
        shelf.flush()

    def token(self, device: int) -> str:
        """A device's content token."""
        return mint_content_token(
            self._token_key,
            site=SITE,
            device=f"dev-{device:016x}",
            audience=POINT,
            sets=(self._set_id,),
            now=time.time(),
            jti=secrets.token_hex(8),
        )

    def gateway(self) -> Server:
        """Start one instance."""
        config = GatewayConfig(
            instance="gw",
            point=POINT,
            root=self._root.public,
            store=str(self._folder / "store"),
            state=str(self._folder / "state"),
            certificate=str(self._folder / "service.crt"),
            private_key=str(self._folder / "service.key"),
            listen="127.0.0.1:0",
        )
        path = self._folder / "gateway.json"
        save_config(path, config)
        with (self._folder / "gateway.log").open("ab") as log:
            process = subprocess.Popen(
                [*self._pin, sys.executable, "-m", "entrepot.cloud.gateway", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        return Server(process, int(json.loads(process.stdout.readline())["url"].rpartition(":")[2]))

    def nginx(self, port: int) -> Server:
        """Start nginx with one worker on the same files, TLS 1.3, no check and no log."""
        path = self._folder / "nginx.conf"
        path.write_text(NGINX.format(folder=self._folder, port=port))
        command = [*self._pin, "nginx", "-c", str(path), "-e", str(self._folder / "nginx.log")]
        process = subprocess.Popen(command, text=True)
        while not _listening(port):
            assert process.poll() is None, (self._folder / "nginx.log").read_text()
            time.sleep(0.01)
        return Server(process, port)

    def _trust(self) -> bytes:
        now = int(time.time())
        keys = tuple(
            KeyEntry(
                kid=key.kid, role=role, site=SITE, public=key.public, not_before=now - HOUR, not_after=now + 99 * HOUR
            )
            for key, role in ((self._token_key, Role.TOKEN), (self._control_key, Role.CONTROL))
        )
        document = TrustDocument(hierarchy="Benchmark", number=1, epoch=1, issued=now, keys=keys)
        return self._root.sign_trust(document).encode()

    def _control(self) -> bytes:
        now = int(time.time())
        document = ControlDocument(
            site=SITE,
            point=POINT,
            fresh=Freshness(epoch=1, counter=1, issued=now, expires=now + 8 * HOUR),
            state=ServiceState.RUNNING,
            token_kids=(self._token_key.kid,),
            # The generator is one address in the place of many: its limit is counted, but not reached.
            settings=GatewaySettings(addresses=AddressLimits(requests_per_second=1e6)),
        )
        return sign(to_json(document), typ=SignedType.CONTROL, key=self._control_key).encode()


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def client_path(object_id: ObjectId) -> str:
    """Where clients ask a gateway for an object."""
    return f"/objects/{object_id.hex()}"


def static_path(object_id: ObjectId) -> str:
    """Where nginx has the same object."""
    return "/" + key_of(object_id)


def _store(shelf: Shelf, data: bytes) -> ObjectId:
    object_id = object_id_of(data)
    shelf.put(object_id, data, durable=False)
    return object_id
