"""Reads the documents that an instance obeys, again and again, and cuts off whom they no longer allow.

Every ``poll`` seconds each document is fetched unless it is still the version that is known: one conditional request to
a store far away. At once when the host says so, and every ``FULL_SECONDS``, both are read whatever their version. The
state is replaced in one step in the event loop's thread, before anyone is cut: so no request can be granted by the old
state after the cut.

A look that gets no answer holds up no other: the next one begins all the same. While none has been answered that began
within the last ``patience`` seconds, a stop might be hidden: then nobody is served, and running downloads are cut. So
it is before the first answer. Shortly before that happens, one more look is asked for: when the machine was paused, or
the process got no processor, it was not the store that was silent.
"""

import asyncio
import contextlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from entrepot.cloud.gateway.seen import Seen
from entrepot.core.errors import EntrepotError, IntegrityError, NotFoundError, TrustError, UnavailableError
from entrepot.core.times import Clock
from entrepot.objects.store import Fetched, ObjectStore
from entrepot.protocol.control import CONTROL_KEY, TRUST_KEY, ControlDocument
from entrepot.protocol.dataplane import MAX_DOCUMENT_BYTES
from entrepot.web.control import Cut, Obeyed, cuts, serving, with_control, with_trust

FULL_SECONDS: Final = 60.0
PATIENCE: Final = 6.0
"""So many seconds after the site has stored it, a document is obeyed, or nobody is served."""
LAST_LOOK: Final = 1 / 6
"""This part of the patience is left for one more look."""
LOOKS: Final = 4
"""So many looks may wait for an answer at once."""
NOTHING_SEEN: Final = Seen()
_log = structlog.get_logger("entrepot.gateway")


class Cuttable(Protocol):
    """What the object plane offers to end running downloads."""

    def cut_all(self, reason: str = "stopped") -> int:
        """Break off every running download."""

    def cut(self, devices: AbstractSet[str], tokens: AbstractSet[str] = frozenset(), reason: str = "revoked") -> int:
        """Break off those of these devices, and those on these tokens."""


class _Found(NamedTuple):
    """What a look found: the documents that changed, the version of each, and whether the store answered for both."""

    texts: dict[str, bytes]
    versions: dict[str, str]
    answered: bool


class ControlWatcher:
    """Keeps :attr:`obeyed` up to date.

    Args:
        pin: fingerprint of the hierarchy root's public key.
        point: this distribution point's id.
        apply: called with each new control document by which clients are served.
        seen: what was obeyed before this process began.
        patience: seconds; see above. It is at least three times ``poll``.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        pin: bytes,
        point: str,
        clock: Clock,
        poll: float,
        apply: Callable[[ControlDocument], None],
        seen: Seen = NOTHING_SEEN,
        patience: float = PATIENCE,
    ) -> None:
        self.obeyed = Obeyed(
            pin=pin, point=point, seen=(seen.epoch, seen.counter), least_trust=seen.trust, unconfirmed=True
        )
        self._store, self._clock, self._poll, self._apply = store, clock, poll, apply
        self._plane: Cuttable | None = None
        self._versions: dict[str, str] = {}
        self._texts: dict[str, bytes] = {}
        self._refused: dict[str, str] = {}
        self._asked = asyncio.Event()
        self._patience = max(patience, 3 * poll)
        self._threads = ThreadPoolExecutor(LOOKS, thread_name_prefix="control")
        self._looks: set[asyncio.Task[None]] = set()
        self._newest = 0.0
        self._doubts: asyncio.TimerHandle | None = None
        self._served = False
        self._applied: ControlDocument | None = None
        self._closed = False

    def watch(self, plane: Cuttable) -> None:
        """Whose downloads are cut."""
        self._plane = plane

    @property
    def counter(self) -> int:
        """Counter of the control document that is obeyed; 0 when there is none."""
        control = self.obeyed.control
        return control.fresh.counter if control else 0

    @property
    def seen(self) -> Seen:
        """The highest documents that were obeyed, before and now."""
        epoch, counter = self.obeyed.seen
        trust = self.obeyed.trust.number if self.obeyed.trust else 0
        return Seen(epoch=epoch, counter=counter, trust=max(trust, self.obeyed.least_trust))

    def look_now(self) -> None:
        """Read the documents at once, whatever the interval."""
        self._asked.set()

    def close(self) -> None:
        """Obey nothing more: from now on nobody is served, whatever the store says."""
        self._closed = True
        self.obeyed = msgspec.structs.replace(self.obeyed, control_text=b"", control=None, ends=True)

    async def run(self) -> None:
        """Watch until cancelled. Nothing that is found in the store ends it."""
        loop = asyncio.get_running_loop()
        full = loop.time()
        while True:
            if len(self._looks) < LOOKS:
                whole = self._asked.is_set() or loop.time() >= full
                self._asked.clear()
                if whole:
                    full = loop.time() + FULL_SECONDS
                task = asyncio.create_task(self.look(whole=whole), name="look")
                self._looks.add(task)
                task.add_done_callback(self._looks.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await (asyncio.wait(self._looks) if len(self._looks) == LOOKS else self._asked.wait())

    async def look(self, *, whole: bool = True) -> None:
        """Look once. ``whole``: read the documents even when they seem unchanged."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        known = {} if whole else dict(self._versions)
        found = await loop.run_in_executor(self._threads, self._fetch, known)
        if self._closed or begun < self._newest:  # what a later look found counts
            return
        if found.answered:
            self._newest = begun
        self._versions |= found.versions
        now = self._clock()
        before = after = self.obeyed
        if found.texts:
            # Both, even if one changed: a control document may have waited for the keys that it is signed with.
            self._texts |= found.texts
            for key, step in ((TRUST_KEY, with_trust), (CONTROL_KEY, with_control)):
                if key in self._texts:
                    after = self._stepped(key, step, after, self._texts[key], now)
        left = begun + self._patience - loop.time()
        if found.answered and left > 0:
            self._doubt_in(left)
            if after.unconfirmed:
                after = msgspec.structs.replace(after, unconfirmed=False)
        self.obeyed = after
        self._act(before, after, now)

    def _doubt_in(self, seconds: float) -> None:
        if self._doubts is not None:
            self._doubts.cancel()
        last = min(seconds, self._patience * LAST_LOOK)
        self._doubts = asyncio.get_running_loop().call_later(seconds - last, self._look_once_more, last)

    def _look_once_more(self, last: float) -> None:
        """Nobody has answered for long. The seconds that are left begin now, however late the loop comes to this."""
        self.look_now()
        self._doubts = asyncio.get_running_loop().call_later(last, self._doubt)

    def _doubt(self) -> None:
        """For too long nobody has said that the documents are still what they were."""
        before = self.obeyed
        if not self._closed:
            self.obeyed = msgspec.structs.replace(before, unconfirmed=True)
            _log.warning("document.unconfirmed", seconds=self._patience)
            self._act(before, self.obeyed, self._clock())

    def _stepped(self, key: str, step: Callable[..., Obeyed], state: Obeyed, text: bytes, now: float) -> Obeyed:
        try:
            result = step(state, text, now=now)
        except (TrustError, IntegrityError) as error:
            if self._refused.get(key) != error.message:
                self._refused[key] = error.message
                _log.warning("document.refused", document=key, problem=str(error))
            return state
        self._refused.pop(key, None)
        return result

    def _act(self, before: Obeyed, after: Obeyed, now: float) -> None:
        try:
            control, _ = serving(after, now=now)
            served = True
        except UnavailableError:
            served = False
        if before is after and served == self._served:
            return
        self._served = served
        if served and control is not self._applied:  # it may have come while nobody could be served
            self._applied = control
            self._apply(control)
        broken = self._cut(cuts(before, after, now=now))
        _log.info("control.obeyed", counter=self.counter, serving=served, cut=broken)

    def _cut(self, cut: Cut) -> int:
        plane = self._plane
        if plane is None:
            return 0
        if cut.everyone:
            return plane.cut_all()
        return plane.cut(cut.devices, cut.tokens)

    def _fetch(self, known: dict[str, str]) -> _Found:
        """In a worker thread: documents that changed, or all. A store that does not answer changes nothing."""
        found, answered = _Found({}, {}, True), True
        for key in (CONTROL_KEY, TRUST_KEY):
            try:
                fetched = self._store.fetch(key, known=known.get(key, ""), limit=MAX_DOCUMENT_BYTES)
                if isinstance(fetched, Fetched):
                    found.texts[key] = fetched.data
                    found.versions[key] = fetched.version
            except NotFoundError:
                continue
            except EntrepotError as error:
                answered = False
                _log.warning("document.unreadable", document=key, problem=str(error))
        return found._replace(answered=answered)
