"""Settings of a site server: ``<home>/site.toml``. Read once at start; unknown keys are refused."""

import tomllib
from pathlib import Path
from typing import Final

import msgspec

from entrepot.core.addresses import ip_and_port, parse_listen, proxy_url, server_url
from entrepot.core.encoding import toml_value
from entrepot.core.errors import BadInputError, NotFoundError
from entrepot.core.ids import site_code
from entrepot.core.sizes import GIB, KIB, MIB
from entrepot.database.engine import database_url, sqlite_url
from entrepot.durable.files import storage_errors, write_private
from entrepot.protocol.control import AddressLimits, GatewaySettings

FILE: Final = "site.toml"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may set.

    Attributes:
        site: site code, such as PS1.
        url: where administrators, points and clients reach the site; ``https://host:port``.
        listen: ``host:port`` to listen on.
        database: ``sqlite:///path`` or ``postgresql://…``; empty: an embedded database in the home folder. A password
            belongs into PostgreSQL's own password file.
        proxy: HTTP proxy for everything that the site sends to the cloud.
        cloud_ca: path of a PEM file: CAs to trust for Azure instead of the system's, where a proxy opens TLS.
        dns_servers: ``address`` or ``address:port`` of name servers that are asked where the names of cloud points
            lead; empty: the system's.
        resolve: fixed addresses for host names (``name = "address:port"``), as in a hosts file.
        publishing: versions and deltas that are made at the same time; each takes all cores.
        transfers: points to which content is sent at the same time.
        threads: objects in flight to one point.
        deltas_kept: for how many earlier versions a delta to the newest one is made.
        cloud_after_internet_facing: offer internet clients the cloud after an internet-facing point, not only instead.
        validation_days: how often every object of the library is read again and compared with its id, in days; 0: only
            when somebody asks.
        validation_rate: bytes a second that a validation reads at most, and a repair fetches from points and clouds; 0:
            no limit.
        reseal_hours: how long versions may wait to be sealed anew after a compromise, before there is an alert.
        session_hours: how long an administrator's session lasts.
        segment_seconds: how often gateways hand their transaction records over, if there are any; each time costs the
            cloud one small object.
        device_requests_per_second: what one device may ask of a point or gateway instance; 0: no limit.
        address_requests_per_second: what one address may, behind which many devices may be; 0: no limit.
        address_downloads: how many downloads to one address may run at once at each; 0: no limit.
        address_connections: how many connections one address may hold at each, and at this site; 0: any number.
        address_failures_per_second: how many bad tokens of one address are looked at; 0: all.
        minimum_rate: bytes a second that a client must take, else its download is broken off.
        drain_seconds: how long running requests may go on when the server stops.
        log_days: how many days rotated logs and damaged segments of cloud points are kept.
        log_rotate_bytes: size at which such a log is rotated before its day is over.
        usage_days: how many days the hours of cloud points, and savings, are kept.
        transfer_days: how many days these hours are kept by device and content; never longer than ``usage_days``.
        alert_days: how many days the history of alerts is kept.
        log_verbose: one line for each transaction in these logs, besides the sums.
    """

    site: str
    url: str
    listen: str
    database: str = ""
    proxy: str = ""
    cloud_ca: str = ""
    dns_servers: list[str] = []
    resolve: dict[str, str] = {}
    publishing: int = 2
    transfers: int = 3
    threads: int = 8
    deltas_kept: int = 3
    cloud_after_internet_facing: bool = False
    validation_days: int = 30
    validation_rate: int = 20_000_000
    reseal_hours: int = 24
    session_hours: int = 12
    segment_seconds: float = 30.0
    device_requests_per_second: float = 200.0
    address_requests_per_second: float = 2000.0
    address_downloads: int = 2048
    address_connections: int = 4096
    address_failures_per_second: float = 20.0
    minimum_rate: int = 8 * KIB
    drain_seconds: float = 5.0
    log_days: int = 35
    log_rotate_bytes: int = 250 * MIB
    usage_days: int = 800
    transfer_days: int = 100
    alert_days: int = 800
    log_verbose: bool = False


class Home:
    """Where a site server keeps what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.settings_file = self.folder / FILE
        self.vault_key = self.folder / "vault.key"
        self.root_key = self.folder / "root-key.pem"
        self.database = self.folder / "site.db"
        self.library = self.folder / "library"
        self.logs = self.folder / "logs"
        self.tls_certificate = self.folder / "tls.crt"
        self.tls_key = self.folder / "tls.key"

    def database_url(self, settings: Settings) -> str:
        """The database's address."""
        return settings.database or sqlite_url(self.database)


def load_settings(home: Home) -> Settings:
    """Read and check the settings.

    Raises:
        NotFoundError: there is no site in this home.
        BadInputError: a key that is not known, or a value that makes no sense.
    """
    try:
        text = home.settings_file.read_text("utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"There is no site in {home.folder}.", next_step="Run: entrepot site init") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{home.settings_file} is not UTF-8 text.") from None
    try:
        settings = msgspec.convert(tomllib.loads(text), Settings)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadInputError(f"{home.settings_file} cannot be used: {error}.") from None
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Check values.

    Raises:
        BadInputError: the first that makes no sense.
    """
    site_code(settings.site)
    server_url(settings.url, "a site")
    parse_listen(settings.listen)
    if settings.database:
        database_url(settings.database)
    if settings.proxy:
        proxy_url(settings.proxy)
    for text in (*settings.dns_servers, *settings.resolve.values()):
        ip_and_port(text, 0)
    bounds = {
        "publishing": (1, 16),
        "transfers": (1, 50),
        "threads": (1, 64),
        "deltas_kept": (0, 10),
        "validation_days": (0, 365),
        "validation_rate": (0, 10**12),
        "reseal_hours": (1, 24 * 30),
        "session_hours": (1, 24 * 30),
        "segment_seconds": (1, 600),
        "device_requests_per_second": (0, 10**6),
        "address_requests_per_second": (0, 10**6),
        "address_downloads": (0, 10**6),
        "address_connections": (0, 10**6),
        "address_failures_per_second": (0, 10**6),
        "minimum_rate": (1, GIB),
        "drain_seconds": (0, 600),
        "log_days": (1, 3650),
        "usage_days": (62, 3650),
        "transfer_days": (40, 3650),
        "alert_days": (30, 3650),
        "log_rotate_bytes": (MIB, 100 * GIB),
    }
    for name, (low, high) in bounds.items():
        if not low <= getattr(settings, name) <= high:
            raise BadInputError(f"The setting {name} is {low} to {high}.")
    if settings.transfer_days > settings.usage_days:
        raise BadInputError("The setting transfer_days is at most usage_days.")


def gateway_settings(settings: Settings) -> GatewaySettings:
    """What control documents tell points and gateways."""
    addresses = AddressLimits(
        requests_per_second=settings.address_requests_per_second,
        downloads=settings.address_downloads,
        connections=settings.address_connections,
        failures_per_second=settings.address_failures_per_second,
    )
    return GatewaySettings(
        segment_seconds=settings.segment_seconds,
        device_requests_per_second=settings.device_requests_per_second,
        minimum_rate=settings.minimum_rate,
        addresses=msgspec.UNSET if addresses == AddressLimits() else addresses,
    )


def save_settings(home: Home, settings: Settings) -> None:
    """Write the settings down, with what was left at its default left out.

    Raises:
        StorageError: the disk refuses.
    """
    defaults = Settings(site="", url="", listen="")
    lines = ["# Settings of an Entrepôt site server."]
    tables: list[str] = []
    for name in Settings.__struct_fields__:
        value = getattr(settings, name)
        if value == getattr(defaults, name):
            continue
        if isinstance(value, dict):
            tables += ["", f"[{name}]", *(f"{toml_value(key)} = {toml_value(entry)}" for key, entry in value.items())]
        else:
            lines.append(f"{name} = {toml_value(value)}")
    with storage_errors(str(home.settings_file)):
        write_private(home.settings_file, ("\n".join([*lines, *tables]) + "\n").encode())
