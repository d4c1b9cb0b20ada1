"""Background work that is done again and again."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from entrepot.core.errors import EntrepotError

log = structlog.get_logger("site.background")


async def every(
    seconds: float, once: Callable[[], Awaitable[object]], *, first: float = 0.0, wake: asyncio.Event | None = None
) -> None:
    """Do it again and again; one that fails ends nothing, and nothing else.

    Args:
        seconds: the pause after each time.
        first: the pause before the first time.
        wake: ends a pause when it is set.
    """
    waiting = wake or asyncio.Event()
    pause = first
    while True:
        if pause:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiting.wait(), pause)
        waiting.clear()
        try:
            await once()
        except EntrepotError as error:
            log.warning("background_work_failed", work=_name(once), error=str(error), code=error.code)
        except Exception:  # a defect in one work must not end all others
            log.exception("background_work_broke", work=_name(once))
        pause = seconds


def _name(once: Callable[[], Awaitable[object]]) -> str:
    work = once.func if isinstance(once, partial) else once
    return getattr(work, "__qualname__", type(work).__name__)
