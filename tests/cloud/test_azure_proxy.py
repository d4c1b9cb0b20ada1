"""Azure through a proxy: one that only passes on what is encrypted, and one that opens TLS with a CA of its own."""

import base64
import contextlib
import http.server
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from entrepot.cli.wiring import cloud_providers
from entrepot.cloud.providers.azure.provider import AzureProvider, open_container
from entrepot.core.errors import TrustError, UnavailableError
from entrepot.protocol.cloudhost import RunState
from entrepot.site.cloudport import CloudConnection
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem

from ..lightpfx import light_management
from .arm_double import SUBSCRIPTION, ArmDouble
from .test_azure_provider import OPTIONS, ROOT, access, make_spec

USER = "site:p%40ss"  # in an address
BASIC = "Basic " + base64.b64encode(b"site:p@ss").decode()


class Proxy:
    """A proxy for HTTPS (CONNECT). With an issuer it opens the connections, as those of companies do."""

    def __init__(self, folder: Path, issuer: Any = None, *, asks: bool = False) -> None:
        self.asked: list[str] = []
        self.seen: list[str] = []
        self.asks = asks
        self.server_context: ssl.SSLContext | None = None
        if issuer is not None:
            key = new_tls_key()
            issued = issuer.issue_server(key.public_key(), names=["localhost"], now=time.time())
            (folder / "proxy.crt").write_text(to_pem(issued, issuer.certificate))
            (folder / "proxy.key").write_bytes(key_pem(key).reveal())
            self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.server_context.load_cert_chain(folder / "proxy.crt", folder / "proxy.key")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = client.recv(1)
                if not byte:
                    return
                head += byte
            line, *fields = head.decode().split("\r\n")
            self.asked.append(line.rpartition(" ")[0])
            given = dict(field.split(": ", 1) for field in fields if field).get("Proxy-Authorization", "")
            if self.asks and given != BASIC:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = line.split(" ")[1].rpartition(":")
            upstream = socket.create_connection((host, int(port)))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with upstream:
                self._pass_on(client, upstream)

    def _pass_on(self, client: socket.socket, upstream: socket.socket) -> None:
        if self.server_context is None:
            _pump(client, upstream, lambda _: None)
            return
        outward = ssl._create_unverified_context()  # what lies behind is no matter of this test
        opened = self.server_context.wrap_socket(client, server_side=True)
        with opened, outward.wrap_socket(upstream) as beyond:
            _pump(opened, beyond, lambda data: self.seen.append(data.split(b"\r\n", 1)[0].decode("latin-1")))


def _received(end: socket.socket) -> bytes | None:
    """What has come; None when that was no data but TLS's own: a session ticket, for which nobody may wait here."""
    end.setblocking(False)
    try:
        return end.recv(65536)
    except (ssl.SSLWantReadError, BlockingIOError):
        return None
    finally:
        end.setblocking(True)


def _pump(one: socket.socket, other: socket.socket, tell: Any) -> None:
    while True:
        pending = [end for end in (one, other) if isinstance(end, ssl.SSLSocket) and end.pending()]
        ready = pending or select.select([one, other], [], [], 30)[0]
        if not ready:
            return
        for end in ready:
            data = _received(end)
            if data is None:
                continue
            if not data:
                return
            if end is one:
                tell(data)
            (other if end is one else one).sendall(data)


@pytest.fixture(scope="module")
def authority() -> Any:
    return create_authority("Contoso", now=time.time())


@pytest.fixture(scope="module")
def company() -> Any:
    """Who issues the proxy's certificates."""
    return create_authority("Company proxy", now=time.time())


@pytest.fixture(scope="module")
def pair() -> Any:
    return light_management("Contoso management", 30, now=time.time())


@pytest.fixture
def arm(tmp_path: Path, authority: Any, pair: Any) -> Iterator[ArmDouble]:
    double = ArmDouble(tmp_path, authority, pair.certificate)
    double.dns_proven = True
    yield double
    double.close()
    assert double.problems == []


@pytest.fixture
def tunnel(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path)
    yield proxy
    proxy.close()


@pytest.fixture
def opener(tmp_path: Path, company: Any) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path, company)
    yield proxy
    proxy.close()


@pytest.fixture
def company_ca(tmp_path: Path, company: Any) -> str:
    path = tmp_path / "company.pem"
    path.write_text(company.pem())
    return str(path)


async def test_sign_in_and_orders_go_through_the_proxy_and_nothing_goes_past_it(arm, pair, authority, tunnel) -> None:
    async with AzureProvider(access(arm, pair, proxy=tunnel.url)) as provider:
        assert (await provider.check()).state == "active"
        assert (await provider.create("cloud1", make_spec(authority))).state is RunState.RUNNING
        assert (await provider.delete("cloud1")).left == ()
    assert set(tunnel.asked) == {f"CONNECT {arm.url.removeprefix('https://')}"}
    assert len(tunnel.asked) == arm.connections  # one tunnel for each connection that Azure saw


async def test_a_proxy_that_asks_for_a_password_is_given_it(arm, pair, tmp_path) -> None:
    proxy = Proxy(tmp_path, asks=True)
    named = proxy.url.replace("http://", f"http://{USER}@")
    async with AzureProvider(access(arm, pair, proxy=named)) as provider:
        assert (await provider.check()).state == "active"
    async with AzureProvider(access(arm, pair, proxy=proxy.url)) as provider:
        with pytest.raises(UnavailableError, match="Azure does not answer") as refused:
            await provider.check()
    assert "proxy" in refused.value.next_step
    proxy.close()


async def test_a_proxy_that_is_not_there_is_told_with_where_to_look(arm, pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with AzureProvider(access(arm, pair, proxy=dead)) as provider:
        with pytest.raises(UnavailableError, match="Azure does not answer") as refused:
            await provider.check()
    assert "proxy" in refused.value.next_step
    assert arm.log == []


async def test_a_proxy_that_opens_tls_is_trusted_by_its_ca_only(arm, pair, opener, company_ca, authority) -> None:
    async with AzureProvider(access(arm, pair, proxy=opener.url)) as provider:  # trusts Azure's issuer alone
        with pytest.raises(TrustError, match="not trusted") as refused:
            await provider.check()
    assert "cloud_ca" in refused.value.next_step
    assert opener.seen == []
    async with AzureProvider(access(arm, pair, proxy=opener.url, ca=company_ca)) as provider:
        assert (await provider.create("cloud1", make_spec(authority))).state is RunState.RUNNING
        assert (await provider.delete("cloud1")).left == ()
    assert any(line.startswith("PUT /subscriptions/") for line in opener.seen)


async def test_the_command_line_hands_proxy_and_ca_on(arm, pair, opener, company_ca) -> None:
    connection = CloudConnection(
        provider="azure",
        url=arm.url,
        pin=b"",
        subscription=SUBSCRIPTION,
        certificate=pair.cer,
        private_key=key_pem(pair.key),
        region="westeurope",
        azure=msgspec.structs.replace(OPTIONS, authority=arm.url),
        mark=ROOT,
    )
    provider: Any = cloud_providers(opener.url, company_ca)(connection)
    async with provider:
        assert (await provider.check()).state == "active"
    assert opener.seen


class _Blobs(http.server.BaseHTTPRequestHandler):
    """Blob storage, as far as one document needs it."""

    protocol_version = "HTTP/1.1"
    kept: ClassVar[dict[str, bytes]] = {}
    bearers: ClassVar[set[str]] = set()

    def do_PUT(self) -> None:
        self.bearers.add(self.headers.get("Authorization", "")[:10])
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Quiet."""


async def test_content_goes_through_the_proxy_as_well(arm, pair, opener, company_ca, tmp_path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Blobs)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "arm.crt", tmp_path / "arm.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    endpoint = f"https://localhost:{server.server_address[1]}"
    async with AzureProvider(access(arm, pair, proxy=opener.url, ca=company_ca)) as provider:
        store = open_container("entrepot01", endpoint, provider._account)
        assert store.put("note", b"sealed")
    server.shutdown()
    server.server_close()
    thread.join()
    assert [data for path, data in _Blobs.kept.items() if "note" in path] == [b"sealed"]
    assert _Blobs.bearers == {"Bearer e30"}
    assert f"CONNECT {endpoint.removeprefix('https://')}" in opener.asked
