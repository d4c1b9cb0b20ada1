"""Setting a cloud host up: its home, its database, its vault key, its own TLS certificate.

Sites recognise the host by the pin of that certificate, which ``entrepot host init`` prints (``identity``).
"""

import contextlib
from pathlib import Path

import msgspec

from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.identity import HostKey, Rotation
from entrepot.cloud.host.settings import FILE, PORTS, Folders, HostSettings, check_settings, save_settings
from entrepot.core.addresses import is_wildcard, parse_listen
from entrepot.core.errors import ConflictError
from entrepot.durable.files import make_folder
from entrepot.durable.locks import HomeLock
from entrepot.trust.vault import ServerVault
from entrepot.web.ports import lasting_port
from entrepot.web.server import listener_url, open_listener


class HostIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What a site needs to know: ``url``, and ``pin``: SHA-256 of the TLS certificate (DER, 32 bytes).

    ``rotation``: the next key, where one is announced.
    """

    url: str
    pin: bytes
    rotation: Rotation | None = None


def init_host(
    home: Path,
    listen: str,
    *,
    region: str = "local",
    name: str = "cloud host",
    url: str = "",
    service_host: str = "",
    service_name: str = "",
    service_ports: str = PORTS,
    now: float,
) -> HostIdentity:
    """Create a cloud host's home.

    Args:
        listen: ``host:port``; port 0 picks a free one, which is kept.
        url: how sites reach it; empty: ``https://`` and the address of ``listen``.
        service_host, service_name, service_ports: see :class:`HostSettings`.

    Raises:
        ConflictError: the home is in use already, or the port is taken.
        BadInputError: a setting that is not allowed.
        StorageError: the disk refuses.
    """
    wanted = (listen, region, name, url, service_host, service_name, service_ports)
    settings = (
        None if (home / FILE).exists() else check_settings(_settings(*wanted))
    )  # what is wrong with it leaves no folder behind
    make_folder(home, mode=0o700)
    with HomeLock(home, "a cloud host's home"):
        if settings is None or (home / FILE).exists():
            raise ConflictError(f"{home} is a cloud host's home already.", next_step="Choose another --home.")
        folders = Folders(home)
        make_folder(folders.services, mode=0o700)
        with contextlib.suppress(ConflictError):  # an earlier attempt was interrupted
            ServerVault.create(folders.vault)
        for path in folders.home.glob(f"{folders.database.name}*"):
            path.unlink()
        HostDatabase(folders.database, create=True).close()
        pin = HostKey(folders.tls).create(settings, now=now)
        save_settings(home, settings)  # last: from now on the home counts as set up
        return HostIdentity(url=settings.url, pin=bytes.fromhex(pin))


def host_identity(home: Path, settings: HostSettings) -> HostIdentity:
    """What a site needs to know of a host that was set up.

    Raises:
        BadInputError: its certificate file is damaged.
    """
    standing = HostKey(Folders(home).tls).standing()
    return HostIdentity(url=settings.url, pin=bytes.fromhex(standing.pin), rotation=standing.rotation)


def _settings(
    listen: str, region: str, name: str, url: str, service_host: str, service_name: str, service_ports: str
) -> HostSettings:
    host, port = parse_listen(listen)
    listener = open_listener(host, port or lasting_port(host))
    with listener:
        address = listener_url(listener)
        port = listener.getsockname()[1]
    untold = [one for one in ("" if url else host, service_name or service_host or host) if is_wildcard(one)]
    if untold:
        raise ConflictError(
            f"Sites and clients cannot be told the address {untold[0]}.",
            next_step="Give --url and --service-name, the addresses by which others reach this computer.",
        )
    return HostSettings(
        listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        url=(url or address).rstrip("/"),
        name=name,
        region=region,
        service_host=service_host,
        service_name=service_name,
        service_ports=service_ports,
    )
