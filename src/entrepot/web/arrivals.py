"""How requests come from the server's thread into our event loop, and what becomes of them there.

Granian's own way makes a coroutine, a handle, a task and two wrappers for each request before anybody has looked at it,
and wakes the loop for each. Here requests queue, and one step of the loop takes all that wait. What can be answered at
once (``serve(at_once=…)``) is answered in that step; only the others get a task.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from granian import _granian

from entrepot.core.errors import EntrepotError
from entrepot.web.asgi import (
    App,
    DisconnectedError,
    Message,
    Receive,
    ResponseAbortedError,
    Scope,
    Send,
    send_problem,
)

AtOnce = Callable[[Scope], Sequence[Message]]
Watcher = Any
"""Granian's handle of one request: its ``scope``, its ``proto`` with ``receive`` and ``send``; it is told the task that
answers (``taskref``) and how that ended (``done``, ``err``)."""
_UNUSED: Final = (None, None, None, None)
"""By these Granian's scheduler would step coroutines; ours are tasks of the loop."""
_scheduler: Any = vars(_granian)["CallbackScheduler"]  # its stub hides the constructor
_log = structlog.get_logger("entrepot.web")


class Requests:
    """Answers requests, knows what runs, turns exceptions into answers. Use it in one event loop.

    Args:
        at_once: gives the whole answer to a request that takes no waiting; empty: the application is asked.
    """

    def __init__(self, app: App, at_once: AtOnce) -> None:
        self._app = app
        self._at_once = at_once
        self._running: set[asyncio.Task[None]] = set()

    def take(self, watcher: Watcher) -> None:
        """Answer a request, or begin to."""
        try:
            if whole := self._at_once(watcher.scope):
                send = watcher.proto.send  # it takes a whole answer without waiting, and copies what it is given
                for message in whole:
                    send(message)
                return
        except Exception as error:  # noqa: BLE001  # whatever it is, it becomes this request's answer
            answer = _run(self._app, watcher, refusal=error)
        else:
            answer = _run(self._app, watcher)
        task = asyncio.get_running_loop().create_task(answer)
        watcher.taskref(task)
        self._running.add(task)
        task.add_done_callback(lambda done: self._ended(watcher, done))

    def _ended(self, watcher: Watcher, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():  # before its first step: once it has begun, it tells the server its end itself
            watcher.err(asyncio.CancelledError())

    async def cancel_all(self) -> None:
        """Break off what still runs."""
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running), timeout=2)


def scheduler(requests: Requests, loop: asyncio.AbstractEventLoop) -> Any:
    """What the server hands each request to, in its own thread; one for each server."""
    made = _scheduler(loop, *_UNUSED)
    made._schedule_fn = Queue(requests, loop).add  # noqa: SLF001  # where Granian's own schedulers put it
    return made


class Queue:
    """Requests on their way into the loop."""

    def __init__(self, requests: Requests, loop: asyncio.AbstractEventLoop) -> None:
        self._requests, self._loop, self._context = requests, loop, contextvars.copy_context()
        self._waiting: deque[Watcher] = deque()
        self._woken = False

    def add(self, watcher: Watcher) -> None:
        """Called in the server's thread. First the request, then the flag: whoever clears it finds the request."""
        self._waiting.append(watcher)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._take_all, context=self._context)

    def _take_all(self) -> None:
        """One step: what waits now. What comes meanwhile is for the next, so that timers and cuts have their turn."""
        self._woken = False
        waiting, take = self._waiting, self._requests.take
        for _ in range(len(waiting)):
            take(waiting.popleft())


async def _run(app: App, watcher: Watcher, *, refusal: Exception | None = None) -> None:
    """Answer, and tell the server the end.

    Args:
        refusal: the answer, if it is known already. It is told, not raised again: its traceback would hold the frame
            that holds it, and such rings stay until the garbage collector looks.
    """
    scope, proto = watcher.scope, watcher.proto
    scope["root_path"], scope["state"] = "", {}
    try:
        if refusal is None:
            await _answer(app, scope, proto.receive, proto.send)
        else:
            await send_problem(proto.send, _told(refusal, scope), head=scope.get("method") == "HEAD")
    except BaseException as error:  # noqa: BLE001  # also a task that was cancelled: the server must hear of its end
        watcher.err(error)
    else:
        watcher.done()


async def _answer(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    started = False

    def noting(message: Message) -> Awaitable[None]:
        nonlocal started
        started = True
        return send(message)

    try:
        await app(scope, receive, noting)
    except (ResponseAbortedError, DisconnectedError):
        raise
    except Exception as error:
        if started:
            _told(error, scope)  # to the log
            raise
        await send_problem(send, _told(error, scope), head=scope.get("method") == "HEAD")


def _told(error: Exception, scope: Scope) -> EntrepotError:
    """What a client is told of it; our log is told what he is not. It may be the error itself: no local variable of a
    frame that its traceback names may hold it on, or the two hold each other."""
    if isinstance(error, EntrepotError):
        return error
    _log.error("request_failed", method=scope.get("method"), path=scope.get("path"), exc_info=error)
    return EntrepotError("The server failed to answer this request.")
