"""Runs the synthetic devices of a load drill."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Final

from entrepot.client.drill.measuring import Measured
from entrepot.core.errors import (
    BadInputError,
    EntrepotError,
    ForbiddenError,
    FormatError,
    NotFoundError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import KIB
from entrepot.objects.hashing import ObjectHasher
from entrepot.protocol.dataplane import PREFER_STREAM
from entrepot.protocol.drillapi import DrillObject, DrillPermit, DrillPlan
from entrepot.web.failures import never_connected
from entrepot.web.http import HttpClient, Timeouts
from entrepot.web.problems import MAX_PROBLEM_BYTES, error_from_problem
from entrepot.web.tls import TlsTrust

BUFFER: Final = 32 * KIB
PIECE: Final = 64 * KIB
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
OTHER_SOCKETS: Final = 64
LOOK_SECONDS: Final = 0.05
_TIMEOUTS: Final = Timeouts(total=None)
_ANSWERS: Final = tuple(range(300, 600))
_GIVING_UP: Final = (UnauthenticatedError, ForbiddenError, NotFoundError, TrustError, BadInputError)
"""Errors that asking again does not mend."""


class Drill:
    """One drill: :meth:`run` it once.

    Args:
        http: for the cloud point; with at least as many connections as there are devices.
    """

    def __init__(self, permit: DrillPermit, http: HttpClient) -> None:
        self._permit = permit
        self._plan = permit.plan
        self._http = http
        self._left = permit.plan.bytes
        self._begun = 0
        self.measured = Measured()

    async def run(self) -> None:
        """Until the time is over, the bytes are used up, or every device was refused. Cancel it to end it early."""
        loop = asyncio.get_running_loop()
        self.measured.begin(loop.time(), self._plan.ramp)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.seconds), asyncio.TaskGroup() as devices:
                for number, token in enumerate(self._permit.tokens):
                    devices.create_task(self._device(number, token))
                devices.create_task(self._watch_this_machine())

    async def _device(self, number: int, token: str) -> None:
        """One device: begins at its place in the ramp and in the list, asks for one object after another."""
        objects, measured = self._permit.objects, self.measured
        await asyncio.sleep(self._plan.ramp * number / len(self._permit.tokens))
        at, pause = number * len(objects) // len(self._permit.tokens), FIRST_PAUSE
        measured.active += 1
        self._begun += 1
        try:
            while take := min(objects[at % len(objects)].size, self._left):
                self._left -= take  # before it is asked for: all together never ask for more than they may
                try:
                    await self._fetch(objects[at % len(objects)], take, token)
                    pause = FIRST_PAUSE
                except EntrepotError as error:
                    if isinstance(error, _GIVING_UP):
                        measured.refused += 1
                        return
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                at += 1
        finally:
            measured.active -= 1

    async def _watch_this_machine(self) -> None:
        """How late this machine is with what it is to do: a drill that cannot keep up measures itself."""
        loop = asyncio.get_running_loop()
        while self._begun < len(self._permit.tokens) or self.measured.active:
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self.measured.delay.add(1000 * (loop.time() - due))

    async def _fetch(self, wanted: DrillObject, take: int, token: str) -> None:
        """One request; the whole object where ``take`` is its size.

        Raises:
            EntrepotError: it was not answered as it should be, which is noted. What was surely not sent may be
                asked for again.
        """
        measured, loop = self.measured, asyncio.get_running_loop()
        headers = {"Prefer": PREFER_STREAM}  # gateways are measured, not the store that they could send clients to
        if take < wanted.size:
            headers["Range"] = f"bytes=0-{take - 1}"
        url = f"{self._plan.url}/objects/{ObjectId(wanted.id).hex()}"
        begun, status = loop.time(), 0
        hasher = ObjectHasher()
        measured.requests += 1
        try:
            async with self._http.stream(
                "GET", url, bearer=token, headers=headers, timeouts=_TIMEOUTS, accept=_ANSWERS
            ) as response:
                status = response.status
                measured.statuses[status] += 1
                if status not in (200, 206):
                    body = await response.content.read(MAX_PROBLEM_BYTES)
                    raise error_from_problem(status, body, who=self._plan.cloud_point)
                if response.content_length != take:
                    raise FormatError(
                        f"{self._plan.cloud_point} announced {response.content_length} bytes, not {take}."
                    )
                first = loop.time() - begun
                async for piece in self._paced(response.content.iter_chunked(PIECE)):
                    hasher.update(piece)
                    measured.took(len(piece), loop.time())
        except asyncio.CancelledError:
            measured.unfinished += 1
            raise
        except EntrepotError as error:
            measured.note(_kind(error, status), error)
            if status >= 300 or (not status and never_connected(error)):  # else some may have been sent all the same
                self._left += take
            raise
        measured.first_byte.add(1000 * first)
        measured.whole_object.add(1000 * (loop.time() - begun))
        measured.whole += 1
        self._verify(wanted, take, hasher)

    def _verify(self, wanted: DrillObject, take: int, hasher: ObjectHasher) -> None:
        if take < wanted.size:
            return
        if hasher.object_id() == wanted.id:
            self.measured.verified += take
        else:
            self.measured.damaged += 1

    async def _paced(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces, not faster than a device is to read."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async for piece in pieces:
            yield piece
            if self._plan.rate:
                due = max(due, loop.time() - 1) + len(piece) / self._plan.rate
                await asyncio.sleep(due - loop.time())


def _kind(error: EntrepotError, status: int) -> str:
    """What to count it as: the answer's status, or what became of the connection."""
    if status >= 300:
        return f"HTTP {status}"
    return "connection" if type(error) is UnavailableError else error.code


def open_http(trust: TlsTrust, plan: DrillPlan, connect: str = "", proxy: str = "") -> HttpClient:
    """What the devices ask through.

    Args:
        connect: ``address`` or ``address:port`` to reach the service at, instead of asking DNS.

    Raises:
        BadInputError: this process may not open so many sockets.
    """
    _allow_sockets(plan.devices + OTHER_SOCKETS)
    host = plan.url.removeprefix("https://").partition(":")[0]
    resolve = {host: connect} if connect else None
    return HttpClient(trust, resolve, proxy or None, connections=plan.devices + 1, buffer=BUFFER)


async def check_reachable(http: HttpClient, plan: DrillPlan) -> None:
    """Ask the service once how it is, before anything is begun.

    Raises:
        UnavailableError, TrustError: it cannot be reached, is not what it should be, or serves nobody now.
    """
    reply = await http.request("GET", f"{plan.url}/healthz", accept=(503,))
    if reply.status != 200:
        raise UnavailableError(
            f"{plan.cloud_point} answers, but serves nobody now.", next_step="entrepot cloud health NAME --now"
        )


def _allow_sockets(wanted: int) -> None:
    if sys.platform == "win32":
        return
    import resource  # POSIX only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BadInputError(
            f"This process may open {hard} files; so many devices need {wanted}.",
            next_step="Use fewer devices, or raise the limit (ulimit -n).",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
