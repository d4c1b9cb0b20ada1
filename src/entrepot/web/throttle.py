"""How often one device may ask: a token bucket each, in a table of bounded size."""

from collections import OrderedDict

from entrepot.core.errors import LimitedError

MAX_DEVICES = 20_000


class Throttle:
    """Allows ``rate`` requests a second per key, with bursts of two seconds' worth. Time comes as an argument."""

    def __init__(self, *, keys: int = MAX_DEVICES) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (tokens left, at that time)
        self._keys = keys

    def take(self, key: str, *, rate: float, now: float) -> None:
        """Count one request.

        Args:
            rate: requests a second; 0 or less means no limit.
            now: seconds on a clock that never goes back.

        Raises:
            LimitedError: too many.
        """
        if rate <= 0:
            return
        burst = max(1.0, 2 * rate)
        left, before = self._buckets.pop(key, (burst, now))
        left = min(burst, left + (now - before) * rate)
        allowed = left >= 1
        self._buckets[key] = (left - 1 if allowed else left, now)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        if not allowed:
            raise LimitedError(
                f"More than {rate:g} requests a second from one device.", next_step="Ask again in a second."
            )
