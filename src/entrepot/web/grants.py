"""What the data plane asks before it serves: the port between ``objects`` and whoever decides."""

from typing import Protocol

import msgspec

from entrepot.core.ids import ObjectId


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A client's token is good here and now.

    ``set_id`` is the first set of the token that holds the object, and is charged; empty when none does: then the
    object does not exist for this client (404), but the request is recorded. ``allow``: bytes that may be sent on this
    token in all; ``rate``: bytes a second that this instance sends on it at most; 0: no bound. ``expires``: when the
    token ends, seconds since 1970; 0: that does not matter here.
    """

    device: str
    jti: str
    set_id: bytes = b""
    allow: int = 0
    rate: int = 0
    expires: int = 0


class Authoriser(Protocol):
    """Decides about one request. Called concurrently; must not block the event loop.

    ``client`` and ``site`` raise ``UnauthenticatedError`` for a token that is not valid here and now,
    ``ForbiddenError`` for one that was revoked, and ``UnavailableError`` when nobody is served at present.
    """

    async def client(self, token: str, object_id: ObjectId) -> Grant:
        """May this client read this object?"""

    def at_once(self, token: bytes, object_id: ObjectId) -> Grant | None:
        """The grant that :meth:`client` would give now, where nothing has to be verified, fetched or refused for it.

        None says nothing about the token: ask :meth:`client`.
        """

    def knows(self, token: str) -> bool:
        """Whether this client's token was found good before, and has not ended; it may have been revoked since."""

    async def site(self, token: str) -> None:
        """May this caller read and change what is held here?"""


class DocumentGuard(Protocol):
    """Watches documents that the site stores beside the objects. Calls never overlap."""

    async def check(self, key: str, data: bytes) -> None:
        """Before ``data`` is stored.

        Raises:
            EntrepotError: it is refused, and nothing is stored.
        """

    async def changed(self, key: str) -> None:
        """After a document was stored or deleted."""


class NoGuard:
    """Accepts every document."""

    async def check(self, key: str, data: bytes) -> None:
        """See :class:`DocumentGuard`."""

    async def changed(self, key: str) -> None:
        """See :class:`DocumentGuard`."""
