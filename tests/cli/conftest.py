"""Fixtures of the command line: a site that answers over real TLS with prepared replies, and a way to run commands."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cli.failures import run
from entrepot.core.errors import EntrepotError, NotFoundError
from entrepot.core.times import HOUR
from entrepot.protocol.siteapi import Session
from entrepot.protocol.trust import TrustDocument
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.trust.root import RootKey
from entrepot.web.asgi import Receive, Scope, Send
from entrepot.web.problems import problem_of
from entrepot.web.server import TlsFiles, listener_url, open_listener, serve

PASSWORD = "correct horse battery"


class PreparedSite:
    """Answers as told: ``replies`` maps ``"GET /api/v1/tasks"`` to a model, an error, or a function of the body."""

    def __init__(self) -> None:
        self.root = RootKey.generate()
        self.issued = int(time.time())
        self.authority = create_authority("Contoso", now=self.issued)
        self.replies: dict[str, Any] = {"POST /api/v1/login": self._login}
        self.asked: list[tuple[str, str, bytes]] = []
        self.url = ""

    @property
    def fingerprint(self) -> str:
        return self.root.fingerprint.hex()

    def trust(self) -> str:
        keys = (self.authority.key_entry("PS1"),)
        document = TrustDocument(hierarchy="Contoso", number=1, epoch=1, issued=self.issued, keys=keys)
        return self.root.sign_trust(document)

    def _login(self, body: bytes) -> object:
        given = json.loads(body)
        if given["password"] != PASSWORD:
            return NotFoundError("wrong")
        return Session(token="t0ken", name=given["name"], expires=int(time.time()) + HOUR)

    def bodies(self, request: str) -> list[Any]:
        """What was sent with a request, decoded."""
        return [json.loads(body) for asked, _, body in self.asked if asked == request]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        query = scope["query_string"].decode()
        path = (scope.get("raw_path") or scope["path"].encode()).decode().partition("?")[0]
        request = f"{scope['method']} {path}" + (f"?{query}" if query else "")
        headers = dict(scope["headers"])
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.asked.append((request, headers.get(b"authorization", b"").decode(), body))
        status, data = self._answer(request, body)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))],
            }
        )
        await send({"type": "http.response.body", "body": data})

    def _answer(self, request: str, body: bytes) -> tuple[int, bytes]:
        if request == "GET /mp/trust":
            return 200, self.trust().encode()
        reply = self.replies.get(request, NotFoundError(f"nothing is prepared for {request}"))
        if callable(reply) and not isinstance(reply, EntrepotError):
            reply = reply(body)
        if isinstance(reply, EntrepotError):
            problem = problem_of(reply)
            return problem.status, problem.encode()
        if isinstance(reply, bytes):  # an object of a cloud point
            return 200, reply
        return (204, b"") if reply is None else (200, msgspec.json.encode(reply))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PreparedSite]:
    """A prepared site on a loopback port, with a certificate of its own hierarchy."""
    prepared = PreparedSite()
    key = new_tls_key()
    certificate = prepared.authority.issue_server(key.public_key(), names=[], ips=["127.0.0.1"], now=time.time())
    files = TlsFiles(cert=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    files.cert.write_text(to_pem(certificate))
    files.key.touch(mode=0o600)
    files.key.write_bytes(key_pem(key).reveal())
    listener = open_listener("127.0.0.1", 0)
    prepared.url = listener_url(listener)
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def main() -> None:
        await serve(prepared, listener=listener, tls=files, ready=ready.set, drain_seconds=1, stop=stop)

    def thread() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    server = threading.Thread(target=thread)
    server.start()
    assert ready.wait(120)
    yield prepared
    loop.call_soon_threadsafe(stop.set)
    server.join()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private folder of credentials; nothing of the developer's own is read or written."""
    for name in ("ENTREPOT_SITE", "ENTREPOT_HOME", "ENTREPOT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "config"
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(folder))
    return folder


class Ran(msgspec.Struct, frozen=True):
    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ran]


@pytest.fixture
def entrepot(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in this process, as a script would: no terminal."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text(PASSWORD + "\n")
    return path


@pytest.fixture
def logged_in(site: PreparedSite, entrepot: Command, password_file: Path) -> PreparedSite:
    ran = entrepot("login", site.url, "--fingerprint", site.fingerprint, "--password-file", str(password_file))
    assert ran.code == 0, ran.err
    site.asked.clear()
    return site
