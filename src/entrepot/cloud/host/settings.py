"""Settings and folders of a cloud host's home. ``<home>/host.toml`` is read once, at start."""

import tomllib
from pathlib import Path
from typing import Final

import msgspec

from entrepot.cloud.host.audit import FILES, ROTATE_BYTES, AuditLog
from entrepot.core.addresses import is_wildcard, parse_listen, parse_ports, server_url
from entrepot.core.encoding import toml_value
from entrepot.core.errors import BadInputError, NotFoundError
from entrepot.core.sizes import KIB, TB
from entrepot.core.times import Clock
from entrepot.durable.files import write_file
from entrepot.objects.settings import StoreKind, StoreSettings, check_store

FILE: Final = "host.toml"
REMOTE_POLL_SECONDS: Final = 2.0
PORTS: Final = "443,1024-65535"
"""No tenant gets a port at which others expect the machine's own SSH, mail or name server."""
DRAIN_SECONDS: Final = 600.0
"""An object of 4 MiB takes a client at the site's default minimum rate (8 KiB a second) 512 s."""
_INTRO: Final = "# Settings of an Entrepôt cloud host. Restart the host after a change.\n"


class HostSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an administrator decides.

    Attributes:
        listen: ``host:port`` of the management API and the store endpoints.
        url: the base address that sites use; assertions name it as audience, exactly.
        name: shown in certificates and logs.
        region: reported to sites.
        service_host: address on which services listen for clients; empty: the one of ``listen``.
        service_name: host name or address that sites give in DNS; empty: ``service_host``.
        service_ports: ports that services may have, such as ``443,8443-8499``: one that is asked for is one of them,
            and so is one that the host chooses. Services keep the ports that they have.
        storage_quota: bytes per new subscription.
        instance_quota: gateway instances per new subscription.
        token_minutes: life of access tokens, 10 to 60.
        drain_seconds: how long an instance that is scaled away or replaced may finish its downloads. A stop or a
            deletion does not wait for them: it cuts them off.
        poll_seconds: how often gateways look for a changed control document in a folder; in a store far away every
            ``REMOTE_POLL_SECONDS``. The host signals its gateways besides.
        address_connections: how many connections one address may hold at the management API and the store endpoints; 0:
            any number. What clients may hold at its services, their sites decide.
        audit_rotate_bytes: size at which a file of the audit log, of which each subscription has its own, is renamed to
            ``audit…-<moment>-<number>.log`` and begun anew.
        audit_files: how many renamed ones of each stay; the oldest go.
        store: where new services keep their content.
    """

    listen: str
    url: str
    name: str = "cloud host"
    region: str = "local"
    service_host: str = ""
    service_name: str = ""
    service_ports: str = PORTS
    storage_quota: int = 2 * TB
    instance_quota: int = 16
    token_minutes: int = 30
    drain_seconds: float = DRAIN_SECONDS
    poll_seconds: float = 0.2
    address_connections: int = 4096
    audit_rotate_bytes: int = ROTATE_BYTES
    audit_files: int = FILES
    store: StoreSettings = StoreSettings()


def check_settings(settings: HostSettings) -> HostSettings:
    """Refuse settings that contradict each other or make no sense.

    Raises:
        BadInputError: which setting, and what it may be.
    """
    host, _ = parse_listen(settings.listen)
    if is_wildcard(settings.service_name or settings.service_host or host):
        raise BadInputError(
            "Clients cannot be led to all addresses of a machine.",
            next_step="Set service_name, the host name or address to which the DNS records of services lead.",
        )
    server_url(settings.url, "a cloud host")
    parse_ports(settings.service_ports)
    if not 10 <= settings.token_minutes <= 60:
        raise BadInputError("The setting token_minutes is 10 to 60.")
    if settings.instance_quota < 1 or settings.storage_quota < 1:
        raise BadInputError("The settings instance_quota and storage_quota are at least 1.")
    if not 0 <= settings.drain_seconds <= 3600 or not 0.05 <= settings.poll_seconds <= 5:
        raise BadInputError("The setting drain_seconds is 0 to 3600, poll_seconds 0.05 to 5.")
    if not 0 <= settings.address_connections <= 10**6:
        raise BadInputError("The setting address_connections is 0 to 1000000.")
    if settings.audit_rotate_bytes < 64 * KIB or not 1 <= settings.audit_files <= 10_000:
        raise BadInputError("The setting audit_rotate_bytes is at least 65536, audit_files 1 to 10000.")
    check_store(settings.store)
    for name in ("credentials", "ca"):
        path = getattr(settings.store, name)
        if path and not Path(path).is_absolute():
            raise BadInputError(f"The setting {name} of the store is an absolute path.")
    return settings


def load_settings(home: Path) -> HostSettings:
    """Read ``<home>/host.toml``.

    Raises:
        NotFoundError: the home was not set up.
        BadInputError: not TOML, an unknown key, or a value that is not allowed.
    """
    try:
        text = (home / FILE).read_text("utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"{home} is not a cloud host's home.", next_step="Run entrepot host init first.") from None
    try:
        settings = msgspec.convert(tomllib.loads(text), HostSettings)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadInputError(f"{home / FILE} cannot be used: {error}.") from None
    return check_settings(settings)


def save_settings(home: Path, settings: HostSettings) -> None:
    """Write ``<home>/host.toml``, every setting with its value.

    Raises:
        StorageError: the disk refuses.
    """
    values = msgspec.to_builtins(check_settings(settings))
    store = values.pop("store")
    lines = [f"{name} = {toml_value(value)}\n" for name, value in values.items()]
    if settings.store.kind is not StoreKind.FOLDER:
        lines += ["\n[store]\n", *(f"{name} = {toml_value(value)}\n" for name, value in store.items())]
    write_file(home / FILE, (_INTRO + "".join(lines)).encode())


class Folders:
    """Where things lie below a home."""

    def __init__(self, home: Path) -> None:
        self.home: Final = home
        self.database: Final = home / "host.sqlite"
        self.vault: Final = home / "vault.key"
        self.tls: Final = home / "tls"
        self.certificate: Final = self.tls / "certificate.pem"
        self.private_key: Final = self.tls / "key.pem"
        self.audit: Final = home / "audit.log"
        self.services: Final = home / "services"

    def service(self, service_id: str) -> Path:
        """Everything of one service, except its keys on a memory file system."""
        return self.services / service_id

    def store(self, service_id: str) -> Path:
        """The object store of one service."""
        return self.service(service_id) / "store"

    def state(self, service_id: str) -> Path:
        """The transaction journals of one service's instances."""
        return self.service(service_id) / "state"

    def run(self, service_id: str) -> Path:
        """The configuration files of one service's instances."""
        return self.service(service_id) / "run"


def audit_log(folders: Folders, settings: HostSettings, clock: Clock) -> AuditLog:
    """The audit log of a home, bounded as its settings say."""
    return AuditLog(folders.audit, clock, rotate_bytes=settings.audit_rotate_bytes, files=settings.audit_files)
