"""The agent's settings, ``<home>/client.toml``, parsed once; unknown keys are refused.

Enrolment writes ``url``, ``site`` and ``root``; everything else is the administrator's.
"""

import ipaddress
import tomllib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from entrepot.client.folders import folder_errors
from entrepot.client.home import Home
from entrepot.core.encoding import toml_value
from entrepot.core.errors import BadInputError, NotFoundError
from entrepot.core.sizes import parse_size
from entrepot.durable.files import write_file

MAX_SETTINGS: Final = 256 * 1024
MAX_PARALLEL: Final = 64


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``client.toml`` may say.

    Attributes:
        url: the site's address, ``https://…``, without trailing slash.
        site: site code.
        root: fingerprint of the hierarchy's root, 64 hexadecimal digits.
        service_ca: PEM file with certificate authorities trusted for cloud services besides the device's own; empty
            for none.
        addresses: this device's IP addresses as the site shall see them; empty to find them out.
        proxy: URL of an HTTP proxy; empty for none.
        cache_size: limit of the sealed-object cache, such as ``20 GB``; empty to do as the site's policy says.
        parallel: downloads at a time.
        retries: how often all sources are tried again after each of them has failed.
        keep_versions: how many versions of a content stay on disk (an earlier one makes deltas possible).
        resolve: host name → IP address, used instead of DNS.
    """

    url: str = ""
    site: str = ""
    root: str = ""
    service_ca: str = ""
    addresses: tuple[str, ...] = ()
    proxy: str = ""
    cache_size: str = ""
    parallel: int = 6
    retries: int = 3
    keep_versions: int = 2
    resolve: dict[str, str] = {}

    @property
    def cache_bytes(self) -> int | None:
        """The cache's limit in bytes; None when the policy decides."""
        return parse_size(self.cache_size) if self.cache_size else None

    @property
    def fingerprint(self) -> bytes:
        """The root's fingerprint, 32 bytes."""
        return bytes.fromhex(self.root)


def load_settings(home: Path) -> Settings:
    """Read and check ``client.toml``; all defaults when there is none.

    Raises:
        BadInputError: not TOML, an unknown key, or a value out of bounds; the text names the key.
    """
    path = Home(home).settings
    with folder_errors(str(path)):
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SETTINGS + 1)
        except FileNotFoundError:
            return Settings()
    if len(data) > MAX_SETTINGS:
        raise BadInputError(f"{path} is too large to be settings.")
    try:
        settings = msgspec.convert(tomllib.loads(data.decode()), Settings)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadInputError(f"{path} cannot be read: {error}.", next_step="Correct the file.") from None
    return check_settings(settings, str(path))


def check_settings(settings: Settings, where: str = "The settings") -> Settings:
    """Check every value.

    Raises:
        BadInputError: what is wrong, by key.
    """
    problem = _url_problem(settings) or _root_problem(settings.root) or _number_problem(settings)
    for text in (*settings.addresses, *settings.resolve.values()):
        if not _is_address(text):
            problem = problem or f"{text!r} is not an IP address"
    if problem:
        raise BadInputError(f"{where}: {problem}.", next_step="Correct the value.")
    if settings.cache_size:
        parse_size(settings.cache_size)
    return settings


def _url_problem(settings: Settings) -> str:
    if settings.url and (not settings.url.startswith("https://") or settings.url.endswith("/")):
        return "url must begin with https:// and have no trailing slash"
    if settings.proxy and urlsplit(settings.proxy).scheme not in ("http", "https"):
        return "proxy must be an http:// or https:// URL"
    return ""


def _root_problem(root: str) -> str:
    if root and (len(root) != 64 or set(root) - set("0123456789abcdef")):
        return "root must be 64 lower-case hexadecimal digits"
    return ""


def _number_problem(settings: Settings) -> str:
    if not 1 <= settings.parallel <= MAX_PARALLEL:
        return f"parallel must be 1 to {MAX_PARALLEL}"
    if not 0 <= settings.retries <= 100:
        return "retries must be 0 to 100"
    if settings.keep_versions < 1:
        return "keep_versions must be at least 1"
    return ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def save_settings(home: Path, settings: Settings) -> None:
    """Replace ``client.toml`` durably; only values that differ from their defaults are written.

    Raises:
        BadInputError: a value is out of bounds.
        StorageError: the disk refuses.
    """
    check_settings(settings)
    path = Home(home).settings
    with folder_errors(str(path)):
        write_file(path, _to_toml(settings).encode())


def enrolled_settings(home: Path) -> Settings:
    """Settings of a device that knows its site.

    Raises:
        NotFoundError: the device is not enrolled.
        BadInputError: as :func:`load_settings`.
    """
    settings = load_settings(home)
    if not (settings.url and settings.site and settings.root):
        raise NotFoundError(
            f"The client in {home} belongs to no site yet.", next_step="Run entrepot client enrol with a code first."
        )
    return settings


def _to_toml(settings: Settings) -> str:
    lines = ["# Settings of the Entrepot client. Unknown keys are refused.\n"]
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        if field.name != "resolve" and value != field.default:
            lines.append(f"{field.name} = {toml_value(value)}\n")
    if settings.resolve:
        lines.append("\n[resolve]\n")
        lines += [f"{toml_value(host)} = {toml_value(address)}\n" for host, address in settings.resolve.items()]
    return "".join(lines)
