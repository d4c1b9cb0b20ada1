"""A real SMTP server with TLS and authentication, and a real HTTPS receiver, on loopback."""

import asyncio
import datetime
import ipaddress
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from entrepot.core.ids import prefixed_id
from entrepot.database import alerts
from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.rules.alerts import Alert, Condition, Step, evaluate
from entrepot.rules.sentences import Said, quoted
from entrepot.site.notifications.outbox import Outbox
from entrepot.site.notifications.subscriptions import Subscriptions
from entrepot.trust.vault import ServerVault
from entrepot.web.ports import lasting_port

from ..databases import create_tables

NOW = 1_774_267_200  # 2026-03-23T12:00:00Z
ACCOUNT, PASSWORD = "entrepot", "correct horse battery"


class Ticking:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Certificate:
    """A certificate of ``localhost`` and 127.0.0.1 that signs itself."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        today = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=2))
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.pem = made.public_bytes(serialization.Encoding.PEM).decode()
        path = folder / "server.pem"
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        path.write_bytes(private + self.pem.encode())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(path)


class Mailbox:
    """What an SMTP server took. ``refuse``: answers to give to the next mails."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.to: list[list[str]] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.refuse: list[str] = []
        self.encrypted: list[bool] = []
        self.implicit = False

    def authenticate(self, _server, session, _envelope, mechanism, data) -> AuthResult:
        assert isinstance(data, LoginPassword), mechanism
        self.logins.append((data.login, data.password))
        self.encrypted.append(session.ssl is not None or self.implicit)
        return AuthResult(success=(data.login, data.password) == (ACCOUNT.encode(), PASSWORD.encode()))

    async def handle_DATA(self, _server, _session, envelope) -> str:  # noqa: N802  # aiosmtpd's name
        if self.refuse:
            return self.refuse.pop(0)
        self.mails.append(envelope.content)
        self.to.append(list(envelope.rcpt_tos))
        return "250 Taken"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["starttls", "tls"])
def security(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def smtp_port(mailbox: Mailbox, certificate: Certificate, security: str) -> Iterator[int]:
    tls = {"ssl_context": certificate.context} if security == "tls" else {}
    inside = {"tls_context": certificate.context, "require_starttls": True} if security == "starttls" else {}
    mailbox.implicit = security == "tls"
    controller = _controller(mailbox, security, tls | inside)
    controller.start()
    yield controller.port
    controller.stop()


def _controller(mailbox: Mailbox, security: str, tls: dict[str, object]) -> Controller:
    return Controller(
        mailbox,
        hostname="127.0.0.1",
        port=lasting_port("127.0.0.1"),
        authenticator=mailbox.authenticate,
        auth_required=True,
        auth_require_tls=security == "starttls",
        **tls,
    )


class Receiver:
    """An HTTPS server that takes webhooks; ``answers``: statuses to give to the next ones."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.hold: asyncio.Event | None = None
        self.held = 0
        self.port = 0

    async def start(self, context: ssl.SSLContext) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        app.router.add_post("/slow", self._wait)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return runner

    async def _wait(self, request: web.Request) -> web.Response:
        assert self.hold is not None
        self.held += 1
        await self.hold.wait()
        return await self._take(request)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        status = self.answers.pop(0) if self.answers else 204
        self.taken.append((dict(request.headers), body))
        return web.Response(status=status, headers={"Location": "https://127.0.0.1:1/"} if status == 302 else {})


@pytest.fixture
async def receiver(certificate: Certificate):
    made = Receiver()
    runner = await made.start(certificate.context)
    yield made
    await runner.cleanup()
    await asyncio.sleep(0)


class Told:
    """A site's outbox and subscriptions over a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.clock = Ticking()
        self.path = folder / "site.db"
        self.database: Database = open_database(sqlite_url(self.path))
        create_tables(self.database)
        self.vault = ServerVault.create(folder / "vault.key")
        self.boot()

    def boot(self) -> None:
        self.outbox = Outbox(self.database, self.vault, site="PS1", clock=self.clock, draw=lambda: 0.0)
        self.subscriptions = Subscriptions(self.database, self.vault, self.outbox, site="PS1", clock=self.clock)

    def turn(self, type_: str, condition: Condition, message: str = "95 % used", subject: str = "pt-1") -> None:
        """Let an alert's condition be what it says, in somebody's words."""
        self.say(type_, condition, quoted(message), subject=subject)

    def say(self, type_: str, condition: Condition, said: tuple[Said, ...], subject: str = "pt-1") -> None:
        """Let an alert's condition be what it says, and that be told."""
        with self.database.transaction() as connection:
            alerts.ensure(connection, type_=type_, subject=subject, subject_name="cloud-eu", now=NOW)
            found = alerts.find(connection, type_=type_, subject=subject)
            alerts.change(connection, found.id, lambda alert: self._step(alert, condition, said))

    def _step(self, alert: Alert, condition: Condition, said: tuple[Said, ...]) -> Step:
        return evaluate(alert, condition, said=said, now=self.clock())


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.database.close()


def some_id() -> str:
    return prefixed_id("pt", secrets.token_bytes(8))
