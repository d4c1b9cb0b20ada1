"""The agent's ways out: to servers of the hierarchy, and to cloud services."""

import asyncio
import contextlib
import ipaddress
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from entrepot.client.settings import Settings
from entrepot.core.errors import BadInputError, EntrepotError
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import MIB
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.location import Source
from entrepot.web.following import Follower
from entrepot.web.http import HttpClient
from entrepot.web.tls import TlsTrust

_MAX_CA: Final = 4 * MIB


def open_client(trust: TlsTrust, settings: Settings) -> HttpClient:
    """An HTTP client with this device's settings."""
    return HttpClient(trust, settings.resolve, settings.proxy or None, connections=settings.parallel + 4)


def service_ca(settings: Settings) -> str:
    """PEM of the authorities that the settings add for cloud services; empty for none.

    Raises:
        BadInputError: the file cannot be read, or holds no certificate.
    """
    if not settings.service_ca:
        return ""
    path = Path(settings.service_ca)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_CA).decode("ascii", "replace")
    except OSError as error:
        raise BadInputError(
            f"The file of service_ca, {path}, cannot be read: {error.strerror}.", next_step="Correct client.toml."
        ) from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise BadInputError(f"{path} holds no certificate in PEM form.", next_step="Correct service_ca in client.toml.")
    return text


class Connections:
    """HTTP clients by kind of trust, opened when first needed. An async context manager.

    Args:
        settings: of this device.
        hierarchy_ca: PEM of the issuers in the trust document.
    """

    def __init__(self, settings: Settings, hierarchy_ca: str) -> None:
        self._settings = settings
        self._ca = hierarchy_ca
        self._open: dict[str, HttpClient] = {}
        self._no_links: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clients, self._open = list(self._open.values()), {}
        for client in clients:
            await client.close()

    def client(self, trust: str) -> HttpClient:
        """The client for ``hierarchy`` or ``system`` trust.

        Raises:
            TrustError, BadInputError: there is nothing to verify servers with.
        """
        client = self._open.get(trust)
        if client is None:
            if trust == "hierarchy":
                how = TlsTrust.hierarchy(self._ca)
            elif trust == "system":
                # the hierarchy's own CA may have issued a service certificate: who is trusted for sites is for clouds
                how = TlsTrust.system(service_ca(self._settings) + self._ca)
            else:
                raise BadInputError(f"This version does not know the trust {trust!r} of a source.")
            client = self._open[trust] = open_client(how, self._settings)
        return client

    async def get(self, source: Source, object_id: ObjectId, size: int, token: str) -> bytes:
        """A sealed object from a source, unverified, of at most ``size`` bytes.

        Cloud services may give links to their stores. Where one leads to other bytes, or breaks off, the service itself
        is asked: it is not to blame for what stands between this device and the store.

        Raises:
            EntrepotError: as ``HttpClient.get_object``, about the source.
        """
        client = self.client(source.trust)
        if source.trust != "system":
            return await client.read_object(source.url, object_id, bearer=token, limit=size)
        follower = Follower(self._stores(), self._no_links)
        while True:  # twice at most: once distrusted, it does not follow
            try:
                data = await client.read_object(source.url, object_id, bearer=token, limit=size, follow=follower)
            except EntrepotError:
                if not follower.linked:
                    raise
            else:
                if not follower.linked or await asyncio.to_thread(object_id_of, data) == object_id:
                    return data
            follower.distrust(source.url)

    def _stores(self) -> HttpClient:
        """For what the links of cloud services lead to: no authority of ours vouches for that."""
        client = self._open.get("stores of clouds")
        if client is None:
            trust = TlsTrust.system(service_ca(self._settings))
            client = self._open["stores of clouds"] = open_client(trust, self._settings)
        return client


def own_addresses(settings: Settings) -> tuple[str, ...]:
    """This device's addresses: those of the settings, else those that it has, without loopback if there are others.

    Asking which address would be used towards a documentation network (RFC 5737, RFC 3849) sends nothing.
    """
    if settings.addresses:
        return settings.addresses
    found: list[str] = []
    for family, probe in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((probe, 9))
            found.append(str(sock.getsockname()[0]))
    with contextlib.suppress(OSError):
        names = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        found += [str(info[4][0]) for info in names]
    usable = [text.partition("%")[0] for text in dict.fromkeys(found)]
    outside = [text for text in usable if not ipaddress.ip_address(text).is_loopback]
    return tuple(outside or usable)


def computer_name() -> str:
    """What this computer calls itself."""
    name = socket.gethostname() or "unknown"
    return name.upper() if sys.platform == "win32" else name
