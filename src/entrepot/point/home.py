"""A point's home folder and its settings, ``point.toml``: parsed once, at start; unknown keys are refused.

``point.toml`` is written last, by a successful enrolment: without it there is no point in this folder.
"""

import tomllib
from pathlib import Path

import msgspec

from entrepot.core.addresses import parse_listen, server_url
from entrepot.core.encoding import toml_value
from entrepot.core.errors import BadInputError, NotFoundError
from entrepot.core.ids import is_prefixed_id, site_code
from entrepot.core.sizes import KIB
from entrepot.durable.files import storage_errors, write_file

FILE = "point.toml"
MAX_SETTINGS_BYTES = 64 * KIB
MAX_NAME = 128


class PointSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a point is, and what its operator may set.

    ``site``, ``point`` and ``root`` (fingerprint of the hierarchy root, hexadecimal) come from the enrolment.

    Attributes:
        listen: ``host:port`` to listen on.
        url: where clients and the site reach it.
        name: how people call it.
        site_url: where the site is reached, to renew the TLS certificate; from the enrolment code.
        proxy: HTTP proxy to the site; empty for none.
        drain_seconds: how long running downloads may go on when the point stops.
        max_downloads: how many run at once; more are asked to come back.
        metrics_for_all: answer ``/metrics`` to every address, not only to this computer.
    """

    site: str
    point: str
    root: str
    listen: str
    url: str
    name: str
    site_url: str = ""
    proxy: str = ""
    drain_seconds: float = 5.0
    max_downloads: int = 4096
    metrics_for_all: bool = False


class PointHome(msgspec.Struct, frozen=True):
    """Names below a point's folder."""

    folder: Path

    @property
    def settings(self) -> Path:
        """``point.toml``."""
        return self.folder / FILE

    @property
    def identity(self) -> Path:
        """The point's own Ed25519 key, raw (0600)."""
        return self.folder / "identity.key"

    @property
    def tls_key(self) -> Path:
        """PEM, PKCS#8 (0600)."""
        return self.folder / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        """PEM chain from the hierarchy's CA."""
        return self.folder / "tls.crt"

    @property
    def trust(self) -> Path:
        """The pinned root and the highest trust document."""
        return self.folder / "trust"

    @property
    def freshness(self) -> Path:
        """The newest control document seen."""
        return self.folder / "freshness"

    @property
    def store(self) -> Path:
        """Objects and documents."""
        return self.folder / "store"


def home_of(folder: Path) -> PointHome:
    """The home in a folder that an operator named."""
    return PointHome(folder.absolute())


def load_settings(home: PointHome) -> PointSettings:
    """Read and check the settings.

    Raises:
        NotFoundError: there is no point in this folder.
        BadInputError: not TOML, a key that is not known, or a value that makes no sense.
    """
    try:
        with storage_errors(str(home.settings)), home.settings.open("rb") as file:
            text = file.read(MAX_SETTINGS_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"There is no point in {home.folder}.", next_step="Run: entrepot point init") from None
    try:
        if len(text) > MAX_SETTINGS_BYTES:
            raise BadInputError(f"{home.settings} is larger than any settings file.")
        settings = msgspec.convert(tomllib.loads(text.decode()), PointSettings)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadInputError(f"{home.settings} cannot be used: {error}.") from None
    check_settings(settings)
    return settings


def check_settings(settings: PointSettings) -> None:
    """Check the values.

    Raises:
        BadInputError: the first that makes no sense.
    """
    site_code(settings.site)
    parse_listen(settings.listen)
    server_url(settings.url, "a point")
    if settings.site_url:
        server_url(settings.site_url, "a site")
    check_name(settings.name)
    if not is_prefixed_id(settings.point, "pt"):
        raise BadInputError(f"{settings.point!r} is not a point's id.")
    try:
        pinned = len(bytes.fromhex(settings.root)) == 32
    except ValueError:
        pinned = False
    if not pinned:
        raise BadInputError("The root is the 64 hexadecimal digits of a fingerprint.")
    if not 0 <= settings.drain_seconds <= 3600 or not 1 <= settings.max_downloads <= 100_000:
        raise BadInputError("drain_seconds is 0 to 3600, max_downloads 1 to 100000.")


def check_name(name: str) -> str:
    """Check how people will call the point.

    Raises:
        BadInputError: empty, too long, or not printable.
    """
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise BadInputError(f"A point's name has 1 to {MAX_NAME} printable characters.", next_step="Give --name.")
    return name


def write_settings(home: PointHome, settings: PointSettings) -> None:
    """Write ``point.toml`` durably.

    Raises:
        BadInputError: a value that makes no sense.
        StorageError: the disk refuses.
    """
    check_settings(settings)
    lines = ["# A distribution point of Entrepôt. Unknown keys are refused.\n"]
    for name, value in msgspec.to_builtins(settings).items():
        lines.append(f"{name} = {toml_value(value)}\n")
    write_file(home.settings, "".join(lines).encode())
