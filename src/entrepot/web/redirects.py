"""Redirects: the client fetches one object from the store itself, by a link that is good for a minute at most.

What a link cannot keep, a redirect does not promise: a token with an allowance or a rate is streamed, since the store
counts nothing for us; so is whatever the client would ask the store in our words (``If-Range``), and whoever says that
it prefers a stream. A link that cannot be made, or that would lead over plain HTTP, is no reason to serve nobody: then
the gateway streams as well, and its log says why.
"""

import asyncio
from typing import Final, Protocol

import structlog

from entrepot.core.errors import EntrepotError
from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf, key_of
from entrepot.objects.store import MAX_LINK_SECONDS, SignedUrl
from entrepot.protocol.dataplane import PREFER_STREAM
from entrepot.web.asgi import Scope, Send, header, send_response
from entrepot.web.grants import Grant

NO_STORE: Final = b"no-store"
_log = structlog.get_logger("entrepot.web")


class Redirects(Protocol):
    """Decides whether a client is sent to the store.

    Attributes:
        on: whether that is considered at all.
    """

    on: bool

    async def link(self, grant: Grant, scope: Scope, object_id: ObjectId) -> str:
        """Where this client may fetch this object; empty: stream it."""


class NoRedirects:
    """Everything is streamed."""

    on = False

    async def link(self, grant: Grant, scope: Scope, object_id: ObjectId) -> str:  # noqa: ARG002  # the port's shape
        """See :class:`Redirects`."""
        return ""


class StoreRedirects:
    """Links of the shelf's own store.

    Attributes:
        on: set and unset at any time.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.on = False
        self._store = shelf.store
        self._told = ""

    async def link(self, grant: Grant, scope: Scope, object_id: ObjectId) -> str:
        """See :class:`Redirects`."""
        if grant.allow or grant.rate or header(scope, b"if-range") is not None or prefers_stream(scope):
            return ""
        try:
            made = await asyncio.to_thread(self._store.link, key_of(object_id), seconds=MAX_LINK_SECONDS)
        except EntrepotError as error:
            return self._without(str(error))
        if not isinstance(made, SignedUrl):
            return self._without("The store gives no links.")
        if not made.url.startswith("https://"):
            return self._without("The store's links lead over plain HTTP.")
        return made.url

    def _without(self, reason: str) -> str:
        if self._told != reason:
            self._told = reason
            _log.warning("redirect.not_possible", problem=reason)
        return ""


def prefers_stream(scope: Scope) -> bool:
    """Tell whether the client asks for a stream (``Prefer``, RFC 7240)."""
    return PREFER_STREAM in {part.strip().lower() for part in (header(scope, b"prefer") or "").split(",")}


async def send_redirect(send: Send, link: str) -> None:
    """307 to a link. It is a secret: nobody may keep it."""
    await send_response(send, 307, headers=[(b"location", link.encode()), (b"cache-control", NO_STORE)])
