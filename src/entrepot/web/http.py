"""The HTTP client side: how every role asks another (aiohttp, HTTP/1.1 over TLS 1.2 or later).

Each request has a deadline and a bound on what it takes in. Failures of the network become ``UnavailableError``, of
certificates ``TrustError``, answers with problem details the errors that they describe. Redirects are not followed,
but for a gateway's link to one object (``following``). Nothing of a server is imported, so the agent can use it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Self, TypeVar

import aiohttp
import msgspec

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import (
    BadInputError,
    IntegrityError,
    LimitedError,
    UnavailableError,
)
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB, MIB
from entrepot.protocol.dataplane import MAX_OBJECT_BYTES
from entrepot.web.answers import Count, bounded, break_off, refusal, uncounted
from entrepot.web.failures import host_of, impossible_requests, network_failures
from entrepot.web.hosts import Hosts
from entrepot.web.tls import TlsTrust as TlsTrust

if TYPE_CHECKING:
    from entrepot.web.following import Follower

T = TypeVar("T")
Body = bytes | AsyncIterator[bytes]
Bearer = Secret | str | None

MAX_REPLY_BYTES = 16 * MIB
PIECE = 256 * KIB
CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0
MINIMUM_RATE = 4 * KIB
"""Bytes a second at which an object must come, after the first ``stall`` seconds; the next source may be faster."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines in seconds: for the connection, for each read, and for the whole exchange (None: no such bound)."""

    connect: float = CONNECT_SECONDS
    stall: float = STALL_SECONDS
    total: float | None = 60.0


DEFAULT_TIMEOUTS = Timeouts()
TRANSFER_TIMEOUTS = Timeouts(total=None)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpClient:
    """Asks servers that are trusted in one way. Use as an async context manager; one per event loop.

    Args:
        trust: how servers' certificates are verified.
        resolve: ``host`` → ``address`` or ``address:port``, instead of DNS (as a hosts file does); such hosts are
            reached directly, whatever ``proxy`` says. Certificates are still checked against the host's name.
        proxy: URL of an HTTP proxy for everything else; environment variables do not count.
        connections: how many at once, to all servers together.
        buffer: bytes of an answer that are read ahead; twice as much at most is kept for each connection.
    """

    def __init__(
        self,
        trust: TlsTrust,
        resolve: Mapping[str, str] | None = None,
        proxy: str | None = None,
        *,
        connections: int = 32,
        buffer: int = PIECE,
        user_agent: str = "entrepot",
    ) -> None:
        self._verifier = trust.verifier()
        self._resolve = {host.lower(): address for host, address in (resolve or {}).items()}
        self._proxy = proxy or None
        self._connections = connections
        self._buffer = buffer
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def rely_on(self, trust: TlsTrust) -> None:
        """Decide by this from the next request on; connections that were opened by another decision are not used.

        Raises:
            TrustError: a CA certificate cannot be read.
        """
        self._verifier = trust.verifier()

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections,
                resolver=Hosts(self._resolve),
                use_dns_cache=False,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=self._buffer,
                headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
            )
        return self._session

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        body: Body | None = None,
        bearer: Bearer = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        accept: tuple[int, ...] = (),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One exchange; yields the answer with its body unread. Do nothing but read it inside the block: other
        ``OSError`` raised there would pass for failures of the network.

        Args:
            accept: statuses of 300 and more that are answers too, not errors.

        Raises:
            UnavailableError: no connection, or it broke; also inside the block.
            TrustError: the server is not the one that it should be.
            EntrepotError: what the server answered, rebuilt from its problem details.
        """
        sent = dict(headers or {})
        if bearer:
            sent["Authorization"] = f"Bearer {bearer.reveal_text() if isinstance(bearer, Secret) else bearer}"
        if not url.lower().startswith("https://"):  # a token must not travel in the clear, whoever gave the address
            raise BadInputError(f"{url[:200]!r} is no address that can be asked.", next_step="Write https://host:port.")
        with network_failures(url):
            with impossible_requests(url):
                asked = await self._open().request(
                    method,
                    url,
                    data=body,
                    headers=sent,
                    allow_redirects=False,
                    proxy=self._proxy_for(url),
                    ssl=self._verifier,
                    timeout=aiohttp.ClientTimeout(
                        total=timeouts.total, sock_connect=timeouts.connect, sock_read=timeouts.stall
                    ),
                )
            async with asked as response:
                try:
                    if response.status >= 300 and response.status not in accept:
                        raise await refusal(response)
                    yield response
                finally:
                    break_off(response)

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: Body | None = None,
        bearer: Bearer = None,
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_REPLY_BYTES,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        accept: tuple[int, ...] = (),
        received: Count = uncounted,
    ) -> Reply:
        """One exchange, answered whole.

        Args:
            received: told of the answer's bytes as they come, also when it breaks off.

        Raises:
            LimitedError: the answer is larger than ``limit``.
            EntrepotError: as :meth:`stream`.
        """
        async with self.stream(
            method, url, body=body, bearer=bearer, headers=headers, timeouts=timeouts, accept=accept
        ) as response:
            data = await bounded(response, limit, received)
            return Reply(
                status=response.status,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=data,
            )

    async def request_json(
        self,
        method: str,
        url: str,
        body: object | None,
        reply: type[T],
        *,
        bearer: Bearer = None,
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_REPLY_BYTES,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        received: Count = uncounted,
    ) -> T:
        """Send ``body`` as JSON (None: no body) and decode the answer; ``reply`` ``type(None)`` ignores it.

        Raises:
            FormatError: the answer is not a ``reply``.
            EntrepotError: as :meth:`request`.
        """
        sent = {"Accept": "application/json", **(headers or {})}
        data: bytes | None = None
        if body is not None:
            data = to_json(body)
            sent["Content-Type"] = "application/json"
        answer = await self.request(
            method, url, body=data, bearer=bearer, headers=sent, limit=limit, timeouts=timeouts, received=received
        )
        if reply is type(None):
            return from_json(b"null", reply, "answer")
        return from_json(answer.body, reply, f"answer of {host_of(url)}")

    async def get_object(
        self,
        base_url: str,
        object_id: ObjectId,
        *,
        bearer: Bearer,
        start: int = 0,
        limit: int = MAX_OBJECT_BYTES,
        timeouts: Timeouts = TRANSFER_TIMEOUTS,
        follow: "Follower | None" = None,
    ) -> AsyncIterator[bytes]:
        """Stream a sealed object in pieces, from byte ``start`` (to resume); not verified here.

        Leave early through ``contextlib.aclosing``.

        Args:
            follow: follows links that the server gives instead of bytes; None: it must give none.

        Raises:
            NotFoundError: this server does not have it, or the token does not cover it.
            LimitedError: larger than ``limit`` bytes in all.
            IntegrityError: the server answered with another range than asked.
            UnavailableError: the transfer broke, or is slower than ``MINIMUM_RATE``; what came is usable (resume).
        """
        url = f"{base_url}/objects/{object_id.hex()}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        opening = (
            self.stream("GET", url, bearer=bearer, headers=headers, timeouts=timeouts)
            if follow is None
            else follow.open(self, url, bearer=bearer, headers=headers, timeouts=timeouts)
        )
        async with opening as response:
            if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise IntegrityError(f"{host_of(url)} answered with another range than asked.")
            if start + (response.content_length or 0) > limit:
                raise LimitedError(f"The object at {host_of(url)} is larger than {limit} bytes.")
            got = start
            loop = asyncio.get_running_loop()
            allowed = timeouts.stall  # seconds that the network may take; what the reader takes does not count
            waiting_since = loop.time()
            async for piece in response.content.iter_any():
                allowed -= loop.time() - waiting_since
                if allowed < 0:
                    raise UnavailableError(
                        f"{host_of(url)} sends too slowly.", next_step="Another source may be faster."
                    )
                got += len(piece)
                if got > limit:
                    raise LimitedError(f"The object at {host_of(url)} is larger than {limit} bytes.")
                yield piece
                allowed += len(piece) / MINIMUM_RATE
                waiting_since = loop.time()

    async def read_object(
        self,
        base_url: str,
        object_id: ObjectId,
        *,
        bearer: Bearer,
        limit: int = MAX_OBJECT_BYTES,
        timeouts: Timeouts = TRANSFER_TIMEOUTS,
        follow: "Follower | None" = None,
    ) -> bytes:
        """A whole sealed object; not verified here. As :meth:`get_object`."""
        pieces = self.get_object(base_url, object_id, bearer=bearer, limit=limit, timeouts=timeouts, follow=follow)
        return b"".join([piece async for piece in pieces])

    def _proxy_for(self, url: str) -> str | None:
        host = host_of(url).rsplit(":", 1)[0].lower()
        return None if host in self._resolve else self._proxy
