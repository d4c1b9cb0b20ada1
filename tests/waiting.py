"""Waiting for what will come true. The bound only keeps a failing test from hanging, on a slow machine, too."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

from entrepot.core.errors import EntrepotError

PATIENCE = 120.0
PAUSE = 0.02


async def until(condition: Callable[[], Any | Awaitable[Any]], what: str = "what the test waits for") -> Any:
    """Ask until the answer is true, and give it. An answer that may be another one soon is none."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
        except EntrepotError as error:
            if not error.retryable:
                raise
        assert time.monotonic() < deadline, f"it never happened: {what}"
        await asyncio.sleep(PAUSE)


def until_now(condition: Callable[[], Any], what: str = "what the test waits for") -> Any:
    """As :func:`until`, where no event loop runs."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it never happened: {what}"
        time.sleep(PAUSE)
    return found
