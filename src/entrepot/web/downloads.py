"""Running downloads: how they are found, cut off, and relieved of clients that do not read.

Everything here runs in the event loop's thread and is synchronous, so no download can slip between two steps. A cut
cancels the task that hands bytes over: it ends at its next await, and hands over nothing more. What the server was
handed before, it would still send: therefore the connection is reset, also of who was handed all. Every write has a
deadline: the next piece of a download, and what was handed over whole or last, of which only the kernel knows whether
it was taken (``stalled``).
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor

from entrepot.core.errors import LimitedError, UnavailableError
from entrepot.core.sizes import KIB, MIB
from entrepot.web.grants import Grant
from entrepot.web.stalled import end_connections, end_stalled

MINIMUM_WAIT = 5.0
"""Seconds that even the smallest piece may take; less would punish a short pause of the network."""

MEMORY = 64 * MIB
"""What all running downloads together may have on its way, give or take what the server needs for a connection."""
PIECES_ON_THEIR_WAY = 9
"""Seen: how many pieces the server holds for a client that reads slowly, in its queue, HTTP and TLS buffers."""
IN_KERNEL = 256 * KIB
"""What the kernel holds for a client beyond that: twice ``server.SEND_BUFFER``. It takes nothing more before much of it
is gone, so a slow client may take as much before the next piece moves."""
LEAST_PIECE = 16 * KIB
MOST_PIECE = 256 * KIB
MOST_WHOLE = PIECES_ON_THEIR_WAY * MOST_PIECE
"""What may be handed over in one message: as much as a download in pieces has on its way."""
WHOLE_MEMORY = 32 * MIB
"""What all connections together may have been handed whole without a sign that they took it."""


class Download:
    """One response in progress. ``sent`` counts bytes handed to the transport, ``granted`` those that the client may
    fetch elsewhere; ``promised``: what ``sent`` may come to, where that is durably noted before anything is sent (R23).
    """

    __slots__ = ("address", "cut", "deadline", "device", "granted", "jti", "peer", "promised", "reason", "sent", "task")

    def __init__(
        self, device: str, jti: str, task: "asyncio.Task[object]", address: str = "", peer: object = None
    ) -> None:
        self.device = device
        self.jti = jti
        self.peer = peer
        self.address = address
        self.task = task
        self.sent = 0
        self.granted = 0
        self.promised = 0
        self.reason = ""
        self.cut = False
        self.deadline = float("inf")

    def end(self, reason: str) -> None:
        """Break it off; the first reason counts."""
        if not self.reason:
            self.reason = reason
            self.task.cancel()

    def expect(self, size: int, *, minimum_rate: int, now: float) -> None:
        """The next ``size`` bytes must be taken at the minimum rate (bytes a second) or faster."""
        self.deadline = now + max(MINIMUM_WAIT, (size + IN_KERNEL) / max(1, minimum_rate))


class Downloads:
    """All running downloads of one plane.

    Args:
        most: how many at once.
        most_of_one: how many of one device at once, so that no device can hold all of them.
        most_of_address: how many of one address at once; 0: no limit.
        seconds: interval between looks for clients that stopped reading.
        end_stalled: resets connections of clients that have not taken what they should have by now.
        end_connections: resets connections; tells of how many the clients had not taken everything.
    """

    def __init__(
        self,
        *,
        most: int = 4096,
        most_of_one: int = 64,
        most_of_address: int = 0,
        minimum_rate: int = 8 * KIB,
        seconds: float = 1.0,
        end_stalled: Callable[[AbstractSet[object]], int] = end_stalled,
        end_connections: Callable[[AbstractSet[object]], int] = end_connections,
    ) -> None:
        self.most = most
        self.most_of_one = most_of_one
        self.most_of_address = most_of_address
        self.minimum_rate = minimum_rate
        self.cuts = 0
        self.turned_away = 0
        """Requests that came when as many as allowed were running."""
        self.generation = 0
        """Grows with every cut: an authorisation that began before a cut must be repeated after it."""
        self._seconds = seconds
        self._running: set[Download] = set()
        self._of_device: Counter[str] = Counter()
        self._of_address: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._handed: OrderedDict[object, tuple[int, float, Grant | None]] = OrderedDict()
        """By connection: how many bytes, taken by then, for whom."""
        self._ending: OrderedDict[object, tuple[float, Download]] = OrderedDict()
        """By connection: the end of which download is taken by then."""
        self._overdue: set[object] = set()
        self._cut_running: set[object] = set()
        self._cut_handed: set[object] = set()
        self._end_stalled = end_stalled
        self._end_connections = end_connections
        # A thread of its own: others may all wait for a store that does not answer, and a cut must not.
        self._resets = ThreadPoolExecutor(1, thread_name_prefix="resets")
        self._untaken = 0

    def __len__(self) -> int:
        return len(self._running)

    @property
    def piece(self) -> int:
        """Bytes to hand over at once: large pieces cost less, small ones keep memory bounded when many are running."""
        share = MEMORY // (PIECES_ON_THEIR_WAY * max(1, len(self._running)))
        return max(LEAST_PIECE, min(MOST_PIECE, share - share % LEAST_PIECE))

    def whole(self, peer: object, size: int, now: float, grant: Grant | None = None) -> bool:
        """Tell whether ``size`` bytes may be handed over in one message, and count them if so.

        One message is by far the cheapest, but nothing tells when the client has taken it, except its next request on
        the same connection: until then it counts against ``WHOLE_MEMORY``, or as long as the slowest client may take.

        Args:
            peer: names the connection.
            now: seconds on the event loop's clock.
            grant: who gets it; a cut of his ends the connection.
        """
        if not 0 < size <= MOST_WHOLE:
            return False
        handed = self._handed
        while handed and now >= next(iter(handed.values()))[1]:
            self._late(next(iter(handed)))
        self.took(peer)
        if self._untaken + size > WHOLE_MEMORY:
            return False
        handed[peer] = (size, now + self._patience(size), grant)
        self._untaken += size
        if self._timer is None:
            self._watch()
        return True

    def ends(self, download: Download, now: float) -> None:
        """The last piece of a download was handed over; what is on its way must be taken, too, unless it was cut."""
        if download.peer is not None and not download.cut:
            taken_by = now + self._patience(PIECES_ON_THEIR_WAY * self.piece + IN_KERNEL)
            self._ending[download.peer] = (taken_by, download)
            self._watch()

    def _patience(self, size: int) -> float:
        needed = size / (self.minimum_rate or 1)
        return max(MINIMUM_WAIT, needed)

    def _late(self, peer: object) -> None:
        self.took(peer)
        self._overdue.add(peer)

    def took(self, peer: object) -> None:
        """This connection asks again: it took what it was handed before."""
        before = self._handed.pop(peer, None)
        if before is not None:
            self._untaken -= before[0]
        if self._ending:
            self._ending.pop(peer, None)
        if self._overdue:
            self._overdue.discard(peer)

    def begin(self, device: str, jti: str, address: str = "", peer: object = None) -> Download:
        """Register the current task.

        Raises:
            UnavailableError: as many as allowed are running.
            LimitedError: as many as allowed of this device, or of this address.
        """
        if len(self._running) >= self.most:
            self.turned_away += 1
            raise UnavailableError("As many downloads as allowed are running.", next_step="Try again in a moment.")
        if self._of_device[device] >= self.most_of_one:
            raise LimitedError(
                f"This device has {self.most_of_one} downloads running, as many as it may.",
                next_step="Try again when one of them has ended.",
            )
        if self.most_of_address and self._of_address[address] >= self.most_of_address:
            raise LimitedError(
                f"{self.most_of_address} downloads are running to this address, as many as may.",
                next_step="Try again in a moment, or another source.",
            )
        task = asyncio.current_task()
        assert task is not None
        download = Download(device, jti, task, address, peer)
        self._running.add(download)
        self._of_device[device] += 1
        self._of_address[address] += 1
        self._watch()
        return download

    def finish(self, download: Download) -> None:
        """It is over, whole or not."""
        if download in self._running:
            self._running.remove(download)
            for counts, name in ((self._of_device, download.device), (self._of_address, download.address)):
                counts[name] -= 1
                if not counts[name]:
                    del counts[name]

    def cut(self, reason: str, chosen: Callable[[Download | Grant], bool]) -> int:
        """Break off the chosen ones; returns how many were running. Whoever was handed all that he asked for is reset,
        too: nobody knows what he has taken of it."""
        self.generation += 1
        found = [download for download in self._running if not download.reason and chosen(download)]
        for download in found:
            download.cut = True
            download.end(reason)
        self.cuts += len(found)
        running = {download.peer for download in found if download.sent and download.peer is not None}
        handed = {peer for peer, (_, _, grant) in self._handed.items() if grant is not None and chosen(grant)}
        handed.update(peer for peer, (_, download) in self._ending.items() if chosen(download))
        if running or handed:
            self._cut_running |= running
            self._cut_handed |= handed - running
            asyncio.get_running_loop().call_soon(self._reset_cut)  # in the next step: many cuts make one look
        return len(found)

    def _reset_cut(self) -> None:
        loop = asyncio.get_running_loop()
        for peers, done in ((self._cut_running, _heard), (self._cut_handed, self._ended)):
            if peers:
                loop.run_in_executor(self._resets, self._end_connections, frozenset(peers)).add_done_callback(done)
                peers.clear()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for download in list(self._running):
            if now > download.deadline:
                download.end("too slow")
        for peer in [peer for peer, (_, taken_by, _) in self._handed.items() if now > taken_by]:
            self._late(peer)
        for peer in [peer for peer, (taken_by, _) in self._ending.items() if now > taken_by]:
            self._late(peer)
        if self._overdue:
            found, self._overdue = frozenset(self._overdue), set()
            loop.run_in_executor(self._resets, self._end_stalled, found).add_done_callback(self._ended)
        self._timer = None
        if self._running or self._handed or self._ending:
            self._watch()

    def _ended(self, done: "asyncio.Future[int]") -> None:
        if _heard(done):
            self.cuts += done.result()


def _heard(done: "asyncio.Future[int]") -> bool:
    """Whether there is a result: a look that fails is not the last."""
    return not done.cancelled() and done.exception() is None
