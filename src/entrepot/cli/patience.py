"""Patience with a site that does not answer for a moment: it may be started anew, and what it does goes on then."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from entrepot.core.errors import UnavailableError

PATIENCE_SECONDS: Final = 60.0
"""A site that is started anew answers again long before."""

T = TypeVar("T")


class Patience:
    """Asks a site something again and again, and bears with it while it is silent.

    Args:
        clock: seconds, of any beginning.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered = clock()

    def ask(self, question: Callable[[], T], silent: Callable[[str], None]) -> T | None:
        """What the site answers now; None where it does not, and is to be asked again.

        Args:
            silent: told why it does not answer.

        Raises:
            UnavailableError: it has not answered for a minute.
            EntrepotError: what it answered.
        """
        try:
            answer = question()
        except UnavailableError as error:
            if self._clock() - self._answered >= PATIENCE_SECONDS:
                raise
            silent(error.message)
            return None
        self._answered = self._clock()
        return answer
