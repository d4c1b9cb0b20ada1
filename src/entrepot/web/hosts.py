"""Where a host is: a device's or site's own table comes before DNS, as a hosts file does, and may name a port, too."""

import socket
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from entrepot.core.addresses import ip_and_port


class Hosts(AbstractResolver):
    """A hosts table in front of the system's resolver.

    Args:
        table: ``host`` in lower case → ``address`` or ``address:port`` (an IPv6 address without one).
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = table
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        target = self._table.get(host.lower())
        if target is None:
            return await self._system.resolve(host, port, family)
        address, port = ip_and_port(target, port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        await self._system.close()
