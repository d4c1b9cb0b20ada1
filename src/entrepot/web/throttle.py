"""How often somebody may ask: a token bucket for each, in a table of bounded size."""

from collections import OrderedDict

from entrepot.core.errors import LimitedError

MAX_KEYS = 20_000


class Throttle:
    """Allows each key a rate, with bursts. Time comes as an argument.

    Args:
        who: what a key stands for, in errors.
        what: what is counted, in errors.
        burst_seconds: so many seconds' worth may come at once.
        keys: so many are remembered; whoever asked longest ago is forgotten, and may begin anew.
    """

    def __init__(
        self,
        who: str = "one device",
        *,
        what: str = "requests",
        burst_seconds: float = 2.0,
        keys: int = MAX_KEYS,
    ) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (tokens left, at that time)
        self._who, self._what, self._burst_seconds, self._keys = who, what, burst_seconds, keys

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, *, rate: float, now: float) -> None:
        """Count one, unless there are too many already.

        Args:
            rate: how many a second; 0 or less means no limit.
            now: seconds on a clock that never goes back.

        Raises:
            LimitedError: too many.
        """
        if rate <= 0:
            return
        left = self._left(key, rate, now)
        if left < 1:
            self._keep(key, left, now)
            raise self._refusal(rate)
        self._keep(key, left - 1, now)

    def check(self, key: str, *, rate: float, now: float) -> None:
        """As :meth:`take`, but nothing is counted."""
        if rate > 0 and key in self._buckets and self._left(key, rate, now) < 1:
            raise self._refusal(rate)

    def count(self, key: str, *, rate: float, now: float) -> None:
        """Count one that has happened, whatever is left."""
        if rate > 0:
            self._keep(key, max(0.0, self._left(key, rate, now) - 1), now)

    def _left(self, key: str, rate: float, now: float) -> float:
        burst = self._burst_seconds * rate
        if burst < 1.0:
            burst = 1.0
        known = self._buckets.get(key)
        if known is None:
            return burst
        left = known[0] + (now - known[1]) * rate
        return min(burst, left)

    def _keep(self, key: str, left: float, now: float) -> None:
        buckets = self._buckets
        buckets[key] = (left, now)
        buckets.move_to_end(key)
        if len(buckets) > self._keys:
            buckets.popitem(last=False)

    def _refusal(self, rate: float) -> LimitedError:
        return LimitedError(
            f"More than {rate:g} {self._what} a second from {self._who}.", next_step="Ask again in a second."
        )
