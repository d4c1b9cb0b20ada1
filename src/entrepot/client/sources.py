"""Which source next: tiers in order, what each source did so far, and when to leave one alone.

Decisions only; nothing here waits or downloads. Rules:

- Sources are tried in the order of the location reply: tier by tier, and within a tier as the site ordered them.
- A source that fails twice in a row is *down*: others are asked first until a pause has passed. One success clears it.
- A source whose certificate is not trusted, or that sent damaged objects three times, is *out* for this download.
- Nothing is forgotten: every failure is kept with its reason, so that people can see why a source was not used.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from entrepot.core.errors import EntrepotError, IntegrityError, TrustError
from entrepot.protocol.location import LocationReply, Source, TierKind
from entrepot.rules.retry import Schedule, next_pause

MAX_DAMAGED: Final = 3
MAX_REASONS: Final = 32
DOWN_AFTER: Final = 2
DOWN: Final = Schedule(quick=(1, 2, 5, 10), pause=30, attempts=1_000_000)

OWN_CACHE: Final = "own-cache"
INSTALLED: Final = "installed"
POINT: Final = "point"
CLOUD: Final = "cloud"
FULL: Final = "full"
DELTA: Final = "delta"


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A source that the site offered, in the order to try; ``reason`` is the site's."""

    tier: str
    name: str
    point: str
    url: str
    reason: str


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What came from one source. ``kind``: own-cache, installed, point or cloud; ``form``: full or delta."""

    kind: str
    form: str
    name: str
    point: str
    bytes: int
    requests: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a source did not deliver, how often, and the error's code (``name_resolution``, ``trust`` …)."""

    tier: str
    name: str
    point: str
    code: str
    reason: str
    next_step: str
    count: int


class SourceState:
    """One source during one download."""

    def __init__(self, source: Source, tier: TierKind) -> None:
        self.source = source
        self.tier = tier
        self.out = False
        self._strikes = 0
        self._down_until = 0.0
        self._damaged = 0
        self._used: dict[str, tuple[int, int]] = {}
        self._failures: dict[tuple[str, str], Failure] = {}

    def is_down(self, now: float) -> bool:
        """Whether others shall be asked first."""
        return now < self._down_until

    def succeeded(self, form: str, count: int) -> None:
        """Note a good answer of ``count`` bytes."""
        self._strikes = 0
        self._down_until = 0.0
        size, requests = self._used.get(form, (0, 0))
        self._used[form] = (size + count, requests + 1)

    def failed(self, error: EntrepotError, now: float, draw: float) -> bool:
        """Note a failure.

        Args:
            now: seconds since 1970.
            draw: a random number, 0 ≤ draw < 1, that spreads pauses.

        Returns:
            whether it is worth asking this source again at once.
        """
        self._note(error)
        if isinstance(error, IntegrityError):
            self._damaged += 1
            self.out = self.out or self._damaged >= MAX_DAMAGED
            return False
        if isinstance(error, TrustError):
            self.out = True
            return False
        if not error.retryable:
            return False
        if self.is_down(now):  # others found out at the same time; once is enough
            return False
        self._strikes += 1
        if self._strikes < DOWN_AFTER:
            return True
        self._down_until = now + (next_pause(self._strikes - DOWN_AFTER + 1, draw, DOWN) or 0)
        return False

    def _note(self, error: EntrepotError) -> None:
        key = (error.code, error.message)
        known = self._failures.get(key)
        if known is None and len(self._failures) >= MAX_REASONS:
            key = ("other", "")
            known = self._failures.get(key)
        self._failures[key] = Failure(
            tier=self.tier.value,
            name=self.source.name,
            point=self.source.point,
            code=error.code if key[0] != "other" else "other",
            reason=error.message if key[0] != "other" else "Further failures of many kinds.",
            next_step=error.next_step if key[0] != "other" else "",
            count=known.count + 1 if known else 1,
        )

    def used(self) -> Iterator[Used]:
        """What it delivered, by form."""
        kind = CLOUD if self.tier is TierKind.CLOUD else POINT
        for form, (size, requests) in self._used.items():
            yield Used(
                kind=kind, form=form, name=self.source.name, point=self.source.point, bytes=size, requests=requests
            )

    def failures(self) -> tuple[Failure, ...]:
        """What went wrong, most often first."""
        return tuple(sorted(self._failures.values(), key=lambda failure: -failure.count))


class SourceList:
    """The sources of one download. Used by one event loop."""

    def __init__(self, reply: LocationReply) -> None:
        self.reply = reply
        self.generation = 0
        self._states: dict[tuple[str, str, str], SourceState] = {}
        self._order: list[SourceState] = []
        self._arrange()

    def renew(self, reply: LocationReply) -> None:
        """Take a newer reply: new tokens, perhaps other sources; what is known of a source stays known."""
        self.reply = reply
        self.generation += 1
        self._arrange()

    def _arrange(self) -> None:
        self._order = []
        for tier in self.reply.tiers:
            for source in tier.sources:
                key = (source.point, source.url, tier.kind.value)
                state = self._states.get(key)
                if state is None:
                    state = self._states[key] = SourceState(source, tier.kind)
                state.source = source
                self._order.append(state)

    def candidates(self, now: float, *, patient: bool, delta_from: int = 0) -> list[SourceState]:
        """Sources to try, in order.

        Args:
            patient: leave out those that are down (in a later round all are tried).
            delta_from: only those that hold the delta from this version; 0 for full objects.
        """
        return [
            state
            for state in self._order
            if not state.out
            and not (patient and state.is_down(now))
            and (not delta_from or delta_from in state.source.deltas)
        ]

    def token(self, state: SourceState) -> str:
        """The content access token for a source; empty when the site gave none."""
        return self.reply.tokens.get(state.source.audience, "")

    def given(self) -> tuple[Given, ...]:
        """Everything that the site offered, in order."""
        return tuple(
            Given(tier=tier.kind.value, name=source.name, point=source.point, url=source.url, reason=source.reason)
            for tier in self.reply.tiers
            for source in tier.sources
        )

    def used(self) -> list[Used]:
        """What each source delivered."""
        return [used for state in self._states.values() for used in state.used()]

    def failures(self) -> tuple[Failure, ...]:
        """What went wrong, source by source."""
        return tuple(failure for state in self._states.values() for failure in state.failures())
