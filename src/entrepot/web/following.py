"""Follows a gateway's link to its store: one hop, for one object, without showing the store who asks.

Rules:

- Only HTTPS, and the store's certificate must be trusted as any other's. Nothing of the gateway's request travels
  there but the range; least of all the token. What the store answers is as unverified as what a gateway answers.
- A store that redirects once more is not followed.
- A link that the store refuses may have expired on the way: the gateway is asked again, once. Whatever else goes wrong,
  or then, is no reason to go without: the gateway is asked to send the bytes itself, now and for the rest of this
  client's life, since the next link would not lead anywhere either. So it is when a transfer breaks off midway; and
  whoever verifies the bytes says by :meth:`Follower.distrust` that they were others (a proxy may answer in between).
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, MutableSet
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp

from entrepot.core.errors import EntrepotError, FormatError, TrustError, UnavailableError
from entrepot.protocol.dataplane import PREFER_STREAM
from entrepot.web.failures import host_of

if TYPE_CHECKING:
    from entrepot.web.http import Bearer, HttpClient, Timeouts

REDIRECT: Final = 307
MAX_LINK: Final = 8192
_PREFER: Final = {"Prefer": PREFER_STREAM}


class Follower:
    """Opens objects, one after another, at gateways that may send their clients elsewhere. Belongs to one event loop.

    Args:
        stores: asks stores; must not be the client that asks gateways.
        no_links: gateways that are asked to send the bytes themselves; what is learned is added.

    Attributes:
        linked: whether the bytes of the object opened last came by a link.
    """

    def __init__(self, stores: "HttpClient", no_links: MutableSet[str] | None = None) -> None:
        self._stores = stores
        self._no_links: MutableSet[str] = set() if no_links is None else no_links
        self.linked = False

    @contextlib.asynccontextmanager
    async def open(
        self,
        gateway: "HttpClient",
        url: str,
        *,
        bearer: "Bearer",
        headers: Mapping[str, str],
        timeouts: "Timeouts",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask for an object; yields the answer that has its bytes, unread, as ``HttpClient.stream`` does.

        Raises:
            EntrepotError: as ``HttpClient.stream``, about the gateway; about the store too, once bytes came from there.
        """
        where, refused = host_of(url), False
        self.linked = False
        while True:
            stream = where in self._no_links
            asked = {**headers, **_PREFER} if stream else dict(headers)
            async with gateway.stream(
                "GET", url, bearer=bearer, headers=asked, timeouts=timeouts, accept=(REDIRECT,)
            ) as response:
                if response.status != REDIRECT:
                    yield response
                    return
                link = response.headers.get("Location", "")
            if stream:
                raise FormatError(f"{where} gives a link although it was asked to send the object itself.")
            hop = contextlib.AsyncExitStack()
            try:
                found = await hop.enter_async_context(
                    self._stores.stream("GET", checked_link(link), headers=headers, timeouts=timeouts)
                )
            except EntrepotError as error:
                if refused or isinstance(error, FormatError | TrustError | UnavailableError):
                    self.distrust(url)
                refused = True
                continue
            self.linked = True
            try:
                async with hop:
                    yield found
            except EntrepotError:
                self.distrust(url)
                raise
            return

    def distrust(self, url: str) -> None:
        """Ask the gateway at this address for no link any more: what they lead to is of no use here."""
        self._no_links.add(host_of(url))


def checked_link(link: str) -> str:
    """A link that may be followed.

    Raises:
        FormatError: another scheme than HTTPS, credentials in it, too long, or no address at all.
    """
    try:
        parts = urlsplit(link)
        plain = parts.username is None and parts.password is None and not parts.fragment and parts.port != 0
    except ValueError:
        plain = False
    if not plain or len(link) > MAX_LINK or not link.startswith("https://") or not parts.hostname:
        raise FormatError("The link that a gateway gave cannot be followed.")
    return link
