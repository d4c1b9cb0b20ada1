"""The documents that a point obeys: how new ones are judged, kept, and what they cut off.

A document is judged before it is stored, applied after it is stored, and then remembered as the newest seen; a
crash in between loses nothing, because the stored documents are judged and applied again at the next start.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from entrepot.core.errors import EntrepotError, NotFoundError, RefusedError, UnavailableError
from entrepot.core.times import Clock
from entrepot.objects.shelf import Shelf
from entrepot.protocol.control import CONTROL_KEY, TRUST_KEY, ControlDocument
from entrepot.trust.pins import FreshnessLog, TrustStore
from entrepot.web import holdings
from entrepot.web.control import Cut, Obeyed, cuts, serving, with_control, with_trust

_log = structlog.get_logger("entrepot.point")
_SUBJECT = "control"


class Standing:
    """What a point obeys now; a :class:`~entrepot.web.grants.DocumentGuard` for its two documents.

    Args:
        shelf: its store has the documents.
        trust: the pinned root and the highest trust document.
        freshness: path of the file that remembers the newest control document.
        point: the point's id.
        cut: called, in the event loop, whenever a change ends somebody's downloads.
        obeying: called with every control document that begins to count.
    """

    def __init__(
        self,
        shelf: Shelf,
        trust: TrustStore,
        freshness: Path,
        *,
        point: str,
        clock: Clock,
        cut: Callable[[Cut], None] = lambda _: None,
        obeying: Callable[[ControlDocument], None] = lambda _: None,
    ) -> None:
        self._shelf = shelf
        self._trust = trust
        self._freshness = FreshnessLog(freshness)
        self._clock = clock
        self._cut = cut
        self._obeying = obeying
        self._obeyed = Obeyed(
            pin=trust.fingerprint,
            point=point,
            trust_text=trust.jws.encode(),
            trust=trust.document,
            ring=trust.ring,
            seen=self._freshness.highest(_SUBJECT) or (0, 0),
        )

    @property
    def obeyed(self) -> Obeyed:
        """The state that counts now."""
        return self._obeyed

    def authorities(self) -> str:
        """PEM of the issuers that the trust document names and that are valid now."""
        return self._trust.ca_certificates(now=self._clock())

    def problem(self) -> str:
        """Why nobody is served; empty when clients are."""
        try:
            serving(self._obeyed, now=self._clock())
        except UnavailableError as error:
            return error.message
        return ""

    def control_age(self) -> int | None:
        """Seconds since the control document was signed; None without one."""
        control = self._obeyed.control
        return None if control is None else max(0, round(self._clock() - control.fresh.issued))

    async def check(self, key: str, data: bytes) -> None:
        """See :class:`~entrepot.web.grants.DocumentGuard`: what would not count is not stored."""
        if key == TRUST_KEY:
            with_trust(self._obeyed, data, now=self._clock())
        elif key == CONTROL_KEY:
            with_control(self._obeyed, data, now=self._clock())
        else:
            raise RefusedError(f"A point keeps no document {key[:100]!r}.")

    async def changed(self, key: str) -> None:
        """See :class:`~entrepot.web.grants.DocumentGuard`."""
        if key in (TRUST_KEY, CONTROL_KEY):
            await self.reload()

    async def reload(self) -> None:
        """Read both documents from the store, apply what counts, keep what counted before."""
        trust = await asyncio.to_thread(self._read, TRUST_KEY)
        control = await asyncio.to_thread(self._read, CONTROL_KEY)
        after = self._obeyed
        if trust is not None:
            after = self._judged(TRUST_KEY, after, lambda state: with_trust(state, trust, now=self._clock()))
        if control is None:
            after = msgspec.structs.replace(after, control=None, control_text=b"")
        else:
            after = self._judged(CONTROL_KEY, after, lambda state: with_control(state, control, now=self._clock()))
        before = self._obeyed
        self._apply(after)  # first: a full disk must not delay a revocation, and the document itself is stored
        await asyncio.to_thread(self._remember, before, after)

    def tick(self) -> None:
        """Time has passed: a control document that has expired ends all downloads."""
        self._apply(self._obeyed)

    def _apply(self, after: Obeyed) -> None:
        before, self._obeyed = self._obeyed, after
        ended = cuts(before, after, now=self._clock())
        if ended.everyone or ended.devices or ended.tokens:
            self._cut(ended)
        if after.control is not None and after.control is not before.control:
            self._obeying(after.control)
            _log.info("control_obeyed", counter=after.control.fresh.counter, state=str(after.control.state))

    def _judged(self, key: str, state: Obeyed, judge: Callable[[Obeyed], Obeyed]) -> Obeyed:
        try:
            return judge(state)
        except EntrepotError as error:
            _log.warning("document_ignored", key=key, problem=str(error))
            return state

    def _remember(self, before: Obeyed, after: Obeyed) -> None:
        if after.trust is not before.trust and after.trust_text:
            self._trust.accept(after.trust_text)
        if after.control is not None and after.control is not before.control:
            self._freshness.accept(_SUBJECT, after.control.fresh, now=self._clock(), document=after.control_text)

    def _read(self, key: str) -> bytes | None:
        try:
            return holdings.read_document(self._shelf, key)
        except NotFoundError:
            return None
