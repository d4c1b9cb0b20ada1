"""Signs control documents and brings them to the holders (architecture 3).

A document is signed anew when what it says changes, when an hour has passed, and when the last one did not arrive. Its
(epoch, counter) is taken durably before signing, so a counter is never used for two documents, and a document that was
lost on the way only leaves a hole. The trust document travels with it.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
from sqlalchemy import Connection, select

from entrepot.core.encoding import pack, to_json
from entrepot.core.errors import EntrepotError, UnauthenticatedError
from entrepot.core.times import HOUR, Clock
from entrepot.database import budgets, controldocuments
from entrepot.database.controldocuments import ControlRow
from entrepot.database.engine import Database
from entrepot.database.tables.devices import device
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol.control import (
    CONTROL_KEY,
    CONTROL_LIFETIME,
    TRUST_KEY,
    ControlDocument,
    GatewaySettings,
)
from entrepot.protocol.deviceapi import DeviceState
from entrepot.protocol.tokens import CLOCK_SKEW, MAX_TOKEN_LIFETIME
from entrepot.site.cloud import delivery
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.signing import sign

if TYPE_CHECKING:
    from entrepot.web.dataplane import Holder

RESIGN_SECONDS: Final = HOUR
DEFAULT_GATEWAYS: Final = GatewaySettings()


class ControlPublisher:
    """Publishes the control documents of one site's distribution points.

    Args:
        keys: the control key signs; the trust document and the token keys come from here too.
        gateways: what every gateway instance is set to.
    """

    def __init__(
        self, database: Database, keys: SiteKeys, *, clock: Clock, gateways: GatewaySettings = DEFAULT_GATEWAYS
    ) -> None:
        self._database = database
        self._gateways = gateways
        self._keys = keys
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}

    async def publish(self, point: str, holder: "Holder", *, always: bool = False) -> int:
        """Bring a point's control document up to date, if it is not.

        What the document says is read from the database together with its counter, so that the highest counter always
        says what is wanted last.

        Args:
            always: sign anew even when the last one says the same and is fresh.

        Returns:
            the counter of the document that the holder has now.

        Raises:
            EntrepotError: the holder did not take it; the failure is noted, call again.
        """
        async with self._locks.setdefault(point, asyncio.Lock()):
            now = int(self._clock())
            if not always:
                row = await self._database.read(self._current, point, now)
                if row is not None:
                    return row.counter
            document = await self._database.write(self._next, point, now)
            await self._push(document, holder)
            return document.fresh.counter

    def _current(self, connection: Connection, point: str, now: int) -> ControlRow | None:
        """The last document, if it arrived, is fresh, and says what is wanted."""
        row = controldocuments.control(connection, point)
        arrived = row.counter > 0 and row.pushed == row.counter
        fresh = 0 <= now - row.issued < RESIGN_SECONDS
        return row if arrived and fresh and row.digest == self._digest(self._wanted(connection, point, now)) else None

    def _next(self, connection: Connection, point: str, now: int) -> ControlDocument:
        """The next document. Its counter is taken first, so that no other process reads what is wanted in between."""
        epoch = self._keys.now.hierarchy.epoch
        counter = controldocuments.next_control(connection, point, epoch=epoch, issued=now)
        wanted = self._wanted(connection, point, now)
        controldocuments.describe_control(connection, point, self._digest(wanted))
        fresh = Freshness(epoch=epoch, counter=counter, issued=now, expires=now + CONTROL_LIFETIME)
        return msgspec.structs.replace(wanted, fresh=fresh)

    def _wanted(self, connection: Connection, point: str, now: int) -> ControlDocument:
        """What the document says, freshness aside."""
        site = self._keys.site.code
        return ControlDocument(
            site=site,
            point=point,
            fresh=Freshness(epoch=0, counter=0, issued=0, expires=0),
            state=controldocuments.wanted_state(connection, point),
            token_kids=self._keys.token_kids(now),
            revoked_devices=_blocked(connection, site, now),
            settings=msgspec.structs.replace(self._gateways, delivery=delivery.obeyed(connection, point)),
            bounded=budgets.touches(connection, point) or msgspec.UNSET,
        )

    def _digest(self, wanted: ControlDocument) -> bytes:
        return hashlib.sha256(pack((wanted, self._keys.hierarchy.trust_number))).digest()

    async def _push(self, document: ControlDocument, holder: "Holder") -> None:
        """Bring both documents, in the order in which the holder believes them.

        A holder that knows the control key already gets the control document first, so that a trust document that
        raises the epoch never leaves it without a control document that counts. Not where its token key was withdrawn:
        then it must learn of the new one first.
        """
        point = document.point
        key = self._keys.control_for(point)
        signed = sign(to_json(document), typ=SignedType.CONTROL, key=key).encode()
        try:
            if self._keys.knows(point, key.kid) and self._keys.token_for(point).kid in document.token_kids:
                await self._put(holder, point, CONTROL_KEY, signed)
                await self._put_trust(holder, point)
            else:
                await self._put_trust(holder, point)
                await self._put(holder, point, CONTROL_KEY, signed)
        except EntrepotError as error:
            await self._database.write(controldocuments.note_push_error, point, str(error))
            raise
        await self._database.write(
            controldocuments.note_push, point, counter=document.fresh.counter, now=int(self._clock())
        )

    async def _put_trust(self, holder: "Holder", point: str) -> None:
        """Bring the trust document; from then on the holder may believe other keys than before."""
        hierarchy = self._keys.hierarchy
        await self._put(holder, point, TRUST_KEY, self._keys.trust_document.encode())
        if self._keys.confirmed(point) != hierarchy.trust_number:
            await self._database.write(controldocuments.note_trust, point, hierarchy.trust_number)
            self._keys.confirm(point, hierarchy.trust_number)

    async def _put(self, holder: "Holder", point: str, key: str, data: bytes) -> None:
        """Bring a document. A holder that does not believe the site's token may have a newer trust document than is
        noted here (it fetches that by itself, too): then the newest key counts."""
        try:
            await holder.put_document(key, data)
        except UnauthenticatedError:
            before = self._keys.confirmed(point)
            self._keys.confirm(point, 0)
            try:
                await holder.put_document(key, data)
            except EntrepotError:
                self._keys.confirm(point, before)
                raise


def _blocked(connection: Connection, site: str, now: int) -> tuple[str, ...]:
    """The devices that must get nothing. Whose block is so old that all its tokens have ended need not be named."""
    ended = now - MAX_TOKEN_LIFETIME - 2 * CLOCK_SKEW
    blocked = select(device.c.id).where(
        device.c.state == DeviceState.BLOCKED.value, device.c.site == site, device.c.changed >= ended
    )
    return tuple(connection.scalars(blocked.order_by(device.c.id)))
