"""Sets every role up below one folder, each in a home of its own, and starts it as an administrator would.

Role commands run as processes of this very installation; what the site is asked goes through its REST API.
"""

import os
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from entrepot.cli.certificate import read_pfx
from entrepot.cli.credentials import CONFIG_VARIABLE, find_login
from entrepot.cli.demo.processes import Server, Servers, StepFailedError, run_command
from entrepot.cli.session import SiteSession, hierarchy_trust
from entrepot.cli.waiting import TaskProgress, error_of
from entrepot.core.secret import Secret
from entrepot.durable.files import make_folder, write_file, write_private
from entrepot.protocol.cloudpointapi import CertificateInfo, CloudPointRequest, ManagementCertificateRequest, Thresholds
from entrepot.protocol.deviceapi import EnrolmentCodeReply, EnrolmentCodeRequest
from entrepot.protocol.pointapi import PointCode, PointRequest
from entrepot.protocol.siteapi import TaskInfo
from entrepot.web.ports import lasting_port

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
SLOW_LOOPBACK = "127.0.0.2"
FQDN = "cloud-eu.contoso.example"
CLOUD = "cloud-eu"
CERTIFICATE = "contoso-cloud"
SEGMENT_SECONDS = 2.0


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What ``host subscription add --json`` prints, as far as it is needed here."""

    id: str


class HostMade(msgspec.Struct, frozen=True, kw_only=True):
    """What ``host init --json`` prints, as far as it is needed here."""

    pin: str


class SiteMade(msgspec.Struct, frozen=True, kw_only=True):
    """What ``site init --json`` prints, as far as it is needed here."""

    url: str
    fingerprint: str


class Topology:
    """All roles of the demonstration.

    Args:
        folder: everything lies below it.
        servers: where processes are started.
        environment: of all processes.
    """

    def __init__(self, folder: Path, servers: Servers, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.password = Secret(secrets.token_urlsafe(12))
        self.fingerprint = ""
        self.site_url = ""
        self.host_url = ""
        self.host_pin = ""
        self.subscription = ""
        self.points: dict[str, Server] = {}
        self._servers = servers
        self._session: SiteSession | None = None
        self._passwords = {
            name: self._secret_file(name, secret)
            for name, secret in (
                ("administrator", self.password),
                ("root", Secret(secrets.token_urlsafe(16))),
                ("pfx", Secret(secrets.token_urlsafe(16))),
            )
        }

    def close(self) -> None:
        """End the session with the site."""
        if self._session is not None:
            self._session.__exit__(None, None, None)
            self._session = None

    @property
    def session(self) -> SiteSession:
        """The administrator's session with the site."""
        assert self._session is not None, "the site is not up yet"
        return self._session

    @property
    def command_log(self) -> Path:
        """Where the messages of commands go."""
        return self.folder / "logs" / "commands.log"

    def home(self, role: str) -> Path:
        """The home of one role."""
        return self.folder / role

    def command(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Run one command to its end; gives its standard output."""
        done = run_command(arguments, environment=self.environment, log=self.command_log, stdin=stdin, check=check)
        return done.stdout

    def _secret_file(self, name: str, secret: Secret) -> Path:
        make_folder(self.folder / "secrets", mode=0o700)
        path = self.folder / "secrets" / name
        write_private(path, secret.reveal() + b"\n")
        return path

    # ------------------------------------------------------------------------------------------------- servers

    def set_up(self) -> None:
        """Set the cloud host up with a subscription, and the primary site; as different people would, at one time."""
        with ThreadPoolExecutor() as people:
            site = people.submit(self._set_up_site)
            for task in (people.submit(self._set_up_host), people.submit(self._make_certificate)):
                task.result()
            self._add_subscription()
            site.result()

    def _add_subscription(self) -> None:
        cer = str(self.folder / "certificates" / f"{CERTIFICATE}.cer")
        words = ("host", "subscription", "add", "contoso", "--certificate", cer, "--home", str(self.home("cloud-host")))
        self.subscription = decode(self.command(*words, "--json"), Subscription).id

    def _set_up_host(self) -> None:
        listen = f"{LOOPBACK}:{lasting_port(LOOPBACK)}"
        words = ("host", "init", "--home", str(self.home("cloud-host")), "--listen", listen, "--json")
        self.host_pin = decode(self.command(*words), HostMade).pin

    def _make_certificate(self) -> None:
        """The management certificate: its public half goes to the subscription, its private half to the site."""
        folder, password = str(self.folder / "certificates"), str(self._passwords["pfx"])
        self.command("certificate", "new-management", CERTIFICATE, "--out", folder, "--password-file", password)

    def _set_up_site(self) -> None:
        home, url = self.home("site"), f"https://{LOOPBACK}:{lasting_port(LOOPBACK)}"
        words = ["site", "init", "--home", str(home), "--site", "PS1", "--name", "Contoso", "--url", url, "--json"]
        words += ["--passphrase-file", str(self._passwords["root"])]
        words += ["--password-file", str(self._passwords["administrator"])]
        made = decode(self.command(*words), SiteMade)
        self.fingerprint, self.site_url = made.fingerprint, made.url
        with (home / "site.toml").open("a", encoding="utf-8") as settings:
            settings.write(f"segment_seconds = {SEGMENT_SECONDS}\n")  # so that nobody has to wait for the half minute

    def start_host_and_site(self) -> None:
        """Start both, and log in to the site."""
        host = self._servers.launch("cloud-host", "host", "serve", "--home", str(self.home("cloud-host")))
        site = self._servers.launch("site", "site", "serve", "--home", str(self.home("site")))
        self.host_url = host.await_ready()
        site.await_ready()
        password = str(self._passwords["administrator"])
        self.command("login", self.site_url, "--fingerprint", self.fingerprint, "--password-file", password)
        os.environ[CONFIG_VARIABLE] = self.environment[CONFIG_VARIABLE]
        login = find_login(self.site_url, 0)
        self._session = SiteSession(self.site_url, hierarchy_trust(login.fingerprint), login.token)

    def launch_points(self, *names: str) -> None:
        """Announce points, enrol and start them, without waiting until they are ready; meanwhile the CA issues the
        service certificate.
        """
        codes = {name: self.session.post("/points", PointRequest(name=name), PointCode).code for name in names}
        with ThreadPoolExecutor() as people:
            tasks = [people.submit(self._set_up_point, name, code) for name, code in codes.items()]
            tasks.append(people.submit(self._issue_service_certificate))
            for task in tasks:
                task.result()
        for name in names:
            home = str(self.home(name))
            self.points[name] = self._servers.launch(name, "point", "serve", "--home", home)

    def await_points(self) -> None:
        """Wait until every point accepts connections."""
        for point in self.points.values():
            point.await_ready()

    def _set_up_point(self, name: str, code: str) -> None:
        listen = f"{LOOPBACK}:{lasting_port(LOOPBACK)}"
        self.command("point", "init", "--home", str(self.home(name)), "--code-stdin", "--listen", listen, stdin=code)

    def _issue_service_certificate(self) -> None:
        words = ("certificate", "issue-service", FQDN, "--out", str(self.folder / "certificates"))
        self.command(*words, "--password-file", str(self._passwords["pfx"]))

    def restart_point(self, name: str) -> None:
        """Start a point that was stopped."""
        self.points[name].launch()
        self.points[name].await_ready()

    def stop_point(self, name: str) -> None:
        """Stop a point."""
        self.points[name].ask_to_end()
        self.points[name].end()

    # ------------------------------------------------------------------------------------------------- cloud point

    def import_certificate(self) -> None:
        """Import the management certificate into the site."""
        secret = self._passwords["pfx"].read_text(encoding="utf-8").strip()
        pfx = read_pfx(self.folder / "certificates" / f"{CERTIFICATE}.pfx")
        body = ManagementCertificateRequest(name=CERTIFICATE, pfx=pfx, password=secret)
        self.session.post("/management-certificates", body, CertificateInfo)

    def create_cloud_point(self, *, instances: int, thresholds: Thresholds) -> None:
        """Create the cloud point, and wait until it serves."""
        self.finish(self.order_cloud_point(instances=instances, thresholds=thresholds))

    def order_cloud_point(self, *, instances: int, thresholds: Thresholds) -> TaskInfo:
        """Let the site create the cloud point through the cloud host's management API; :meth:`finish` waits for it."""
        body = CloudPointRequest(
            name=CLOUD,
            host_url=self.host_url,
            host_pin=self.host_pin,
            subscription=self.subscription,
            management_certificate=CERTIFICATE,
            service_pfx=read_pfx(self.folder / "certificates" / f"{FQDN}.pfx"),
            service_password=self._passwords["pfx"].read_text(encoding="utf-8").strip(),
            instances=instances,
            thresholds=thresholds,
        )
        return self.session.post("/cloud-points", body, TaskInfo)

    def finish(self, task: TaskInfo) -> TaskInfo:
        """Wait for a task of the site.

        Raises:
            EntrepotError: it failed.
        """
        with TaskProgress(silent=True) as progress:
            done = progress.until_final(task, lambda task_id: self.session.get(f"/tasks/{task_id}", TaskInfo))
        if done.state.value != "completed":
            raise error_of(done)
        return done

    # ------------------------------------------------------------------------------------------------- clients

    def enrol_clients(self, addresses: Mapping[str, str], *, service_address: str = LOOPBACK) -> dict[str, Path]:
        """Managed devices, each with settings of its own; they enrol at the same time. Gives their homes.

        Args:
            addresses: name and address of each device, as the site shall see it.
            service_address: what the cloud service's name resolves to, on these devices.
        """
        homes = {name: self.home(name) for name in addresses}
        with ThreadPoolExecutor() as devices:
            tasks = []
            for name, home in homes.items():
                make_folder(home, mode=0o700)
                settings = f'addresses = ["{addresses[name]}"]\n\n[resolve]\n"{FQDN}" = "{service_address}"\n'
                write_file(home / "client.toml", settings.encode())
                request = EnrolmentCodeRequest(uses=1, name=name)
                code = self.session.post("/enrolment-codes", request, EnrolmentCodeReply).code
                words = ("client", "enrol", "--home", str(home), "--code-stdin", "--name", name)
                tasks.append(devices.submit(self.command, *words, stdin=code))
            for task in tasks:
                task.result()
        return homes


def decode(text: str, kind: type[T]) -> T:
    """What a command printed with ``--json``."""
    try:
        return msgspec.json.decode(text.encode(), type=kind)
    except msgspec.DecodeError as error:
        raise StepFailedError(f"A command printed something unexpected: {error}: {text[:200]}") from None
