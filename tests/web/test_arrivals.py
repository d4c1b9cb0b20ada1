"""Requests on their way from the server's thread into the event loop."""

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
import structlog

from entrepot.core.errors import LimitedError
from entrepot.core.sizes import MIB
from entrepot.web.arrivals import Queue, Requests
from entrepot.web.asgi import send_response


class Asked:
    """A request as the server hands it over; it collects what it is answered with."""

    def __init__(self, path: str = "/") -> None:
        self.scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path}
        self.proto = self
        self.sent: list[dict[str, Any]] = []
        self.task: asyncio.Task[None] | None = None
        self.failed: BaseException | None = None
        self.ended = asyncio.Event()

    def send(self, message: dict[str, Any]) -> "asyncio.Future[None]":
        self.sent.append(message)
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        taken.set_result(None)
        return taken

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.disconnect"}

    def taskref(self, task: "asyncio.Task[None]") -> None:
        self.task = task

    def done(self) -> None:
        self.ended.set()

    def err(self, error: BaseException) -> None:
        self.failed = error
        self.ended.set()

    @property
    def status(self) -> int:
        return self.sent[0]["status"]


class Staying(Asked):
    """A request for an object, by a client that waits for all of it."""

    def __init__(self, object_id: bytes) -> None:
        super().__init__(f"/objects/{object_id.hex()}")
        self.scope |= {"client": ("192.0.2.1", 5), "headers": [(b"authorization", b"Bearer good")]}

    async def receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    @property
    def got(self) -> int:
        return sum(len(message.get("body", b"")) for message in self.sent)


async def application(scope, _receive, send) -> None:
    if scope["path"] == "/for-ever":
        await asyncio.Event().wait()
    await send_response(send, 200, scope["path"].encode())


def at_once(scope):
    if scope["path"] == "/limited":
        raise LimitedError("Too many.")
    if scope["path"] != "/at-once":
        return ()
    return {"type": "http.response.start", "status": 206, "headers": []}, {"type": "http.response.body", "body": b"x"}


async def test_what_can_be_answered_at_once_needs_no_task():
    asked = Asked("/at-once")
    Requests(application, at_once).take(asked)
    assert [asked.status, asked.sent[1]["body"], asked.task] == [206, b"x", None]


async def test_everything_else_is_asked_of_the_application_in_a_task():
    asked = Asked("/other")
    Requests(application, at_once).take(asked)
    assert not asked.sent
    await asked.ended.wait()
    assert [asked.status, asked.sent[1]["body"], asked.failed] == [200, b"/other", None]


async def test_a_refusal_at_once_is_answered_as_any_other():
    asked = Asked("/limited")
    Requests(application, at_once).take(asked)
    await asked.ended.wait()
    assert asked.status == 429
    assert (b"content-type", b"application/problem+json") in asked.sent[0]["headers"]


@pytest.mark.parametrize("early", [True, False])
async def test_a_refusal_leaves_nothing_for_the_garbage_collector(early):
    refusals: list[weakref.ref[LimitedError]] = []

    def refuse(_scope):
        raise noted(LimitedError("Too many."))

    def noted(error: LimitedError) -> LimitedError:
        refusals.append(weakref.ref(error))
        return error

    async def refusing(scope, _receive, _send):
        refuse(scope)

    asked = Asked("/limited")
    gc.disable()
    try:
        (Requests(application, refuse) if early else Requests(refusing, at_once=lambda _: ())).take(asked)
        await asked.task
        [refusal] = refusals
        assert (asked.status, refusal()) == (429, None)
    finally:
        gc.enable()


async def test_a_failure_at_once_is_told_to_the_log_and_not_to_the_client():
    def fail(_scope):
        raise ValueError("secret of the server")

    asked = Asked()
    with structlog.testing.capture_logs() as told:
        Requests(application, fail).take(asked)
        await asked.task
    assert asked.status == 500
    assert b"secret" not in asked.sent[1]["body"]
    assert [(line["event"], str(line["exc_info"])) for line in told] == [("request_failed", "secret of the server")]


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("path", ["/for-ever", "/limited"])
async def test_what_still_runs_at_the_end_is_broken_off_and_the_server_hears_of_it(path, begun):
    requests, asked = Requests(application, at_once), Asked(path)
    told: list[str] = []
    asked.done = lambda: told.append("done")
    asked.err = lambda error: told.append(type(error).__name__)
    requests.take(asked)
    if begun:
        await asyncio.sleep(0)
    await requests.cancel_all()
    await asyncio.wait({asked.task})
    assert told == (["done"] if begun and path == "/limited" else ["CancelledError"]), "once"


class Noting(Requests):
    """Notes what is taken."""

    def __init__(self) -> None:
        super().__init__(application, at_once)
        self.taken: list[int] = []
        self.last = asyncio.Event()

    def take(self, watcher: int) -> None:
        self.taken.append(watcher)
        if watcher == 999:
            self.last.set()


async def test_requests_of_another_thread_are_all_taken_in_their_order():
    requests = Noting()
    queue = Queue(requests, asyncio.get_running_loop())
    thread = threading.Thread(target=lambda: [queue.add(number) for number in range(1000)])
    thread.start()
    await requests.last.wait()
    thread.join()
    assert requests.taken == list(range(1000))


async def test_what_comes_meanwhile_waits_for_the_next_step_so_that_others_have_their_turn():
    loop = asyncio.get_running_loop()
    requests = Noting()
    queue = Queue(requests, loop)
    seen_by_others: list[int] = []

    def take(number: int) -> None:
        Noting.take(requests, number)
        if number < 900:
            queue.add(number + 900)

    requests.take = take
    queue.add(1)
    loop.call_soon(lambda: seen_by_others.extend(requests.taken))
    queue.add(99)
    await requests.last.wait()
    assert (seen_by_others, requests.taken) == ([1, 99], [1, 99, 901, 999])


@pytest.mark.parametrize("withdrawn", [True, False])
async def test_an_order_between_admission_and_the_first_step_of_the_answer_counts(plane, stock, keyring, withdrawn):
    object_id, data = stock(4 * MIB)  # more than is handed over at once
    requests = Requests(plane, plane.at_once)
    before = Staying(object_id)
    requests.take(before)
    await before.ended.wait()
    assert (before.status, before.got) == (200, len(data)), "its file is open now: the next one is admitted at once"
    asked = Staying(object_id)
    requests.take(asked)
    assert "entrepot.admitted" in asked.scope, "and so it is"
    if withdrawn:
        keyring.revoked.add("good")
    assert plane.cut_all() == 0, "it is not registered yet"
    await asked.ended.wait()
    if withdrawn:
        assert asked.status == 403
        assert data[:100] not in b"".join(message.get("body", b"") for message in asked.sent)
    else:
        assert (asked.status, asked.got) == (200, len(data)), "whoever still has a good token is served"
