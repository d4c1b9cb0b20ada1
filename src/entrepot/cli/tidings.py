"""Progress where nobody sees a bar: a line now and then, in a log or a pipe."""

import time
from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.text import Text

from entrepot.core.terminal import harmless

FIRST_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 300.0


class Tidings:
    """Tells how far work is: after 10 s first, then ever more rarely, and nothing twice. Silent at a terminal, where
    a bar is drawn, and without a console."""

    def __init__(self, console: Console | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            clock: seconds, of any beginning.
        """
        self._console = None if console is None or console.is_terminal else console
        self._clock = clock
        self._gap = FIRST_SECONDS
        self._due = clock() + FIRST_SECONDS
        self._told = ""

    def tell(self, text: str) -> None:
        """Say how far it is, if it is time to say something."""
        if self._console is None or text in ("", self._told) or self._clock() < self._due:
            return
        self._told = text
        self._gap = min(self._gap * 2, LONGEST_SECONDS)
        self._due = self._clock() + self._gap
        self._console.print(Text(harmless(text)), soft_wrap=True)
