"""The ASGI lifespan protocol, run once per process, however often certificates are swapped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from entrepot.core.errors import EntrepotError
from entrepot.web.asgi import App, Message


@contextlib.asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """Run the application's start-up before the block and its shutdown after it.

    An application that does not speak the protocol (it raises on the lifespan scope) is served all the same.

    Raises:
        EntrepotError: the application refused to start.
    """
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    task = asyncio.create_task(
        _run(app, inbox, outbox),
        name="lifespan",
    )
    await inbox.put({"type": "lifespan.startup"})
    answer = await outbox.get()
    if answer["type"] == "lifespan.startup.failed":
        await task
        raise EntrepotError(f"The application did not start: {answer.get('message', '')}")
    try:
        yield
    finally:
        if answer["type"] == "lifespan.startup.complete":
            await inbox.put({"type": "lifespan.shutdown"})
            await outbox.get()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _run(app: App, inbox: asyncio.Queue[Message], outbox: asyncio.Queue[Message]) -> None:
    state: dict[str, object] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    with contextlib.suppress(Exception):  # the protocol: an exception means "not supported"
        await app(scope, inbox.get, outbox.put)
    await outbox.put({"type": "lifespan.unsupported"})
