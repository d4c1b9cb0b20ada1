"""Whether what a cloud counted agrees with what the site's own books say. Pure.

The two never agree to the byte. A cloud counts what its network sent: answers with their heads and TLS's own bytes, and
its probes. The gateways count bytes of objects handed to the transport, all of them, also those of a download that
broke off just then. Storage is counted about once an hour, and holds documents and records beside the objects. So
figures agree within a margin; beyond it there is a reason worth looking for, and the message names the likely ones.
"""

from collections.abc import Container, Iterable
from typing import Final

import msgspec

from entrepot.core.times import DAY, HOUR, hour_of
from entrepot.rules.sentences import (
    LESS_GRANTED,
    LESS_SENT,
    LESS_STORED,
    MORE_GRANTED,
    MORE_SENT,
    MORE_STORED,
    UNCOUNTED,
    UNTOLD,
    in_words,
    say,
)

SENT_BELOW: Final = 0.05
"""The cloud may have counted so much less: downloads that broke off are counted whole by a gateway's buffer."""
SENT_ABOVE: Final = 0.15
STORED: Final = 0.05
SLACK: Final = 50_000_000
"""Bytes that are no difference: heads, probes, documents."""
SETTLED_AFTER: Final = 6 * HOUR
"""So long after a day's end a cloud's figures of it have come."""
MOST_DAYS: Final = 7
"""What one daily comparison makes up for, if those before could not be made."""
DIFFERS: Final = "differs"
AGREES: Final = "agrees"
NOT_TOLD: Final = "unknown"


def days_to_compare(now: float, *, ready: int, collected: int, compared: int) -> tuple[int, int] | None:
    """The whole UTC days whose transfers a daily comparison is about: each day once, and those that were missed.

    Args:
        now: seconds since 1970, as the others.
        ready: when the service began to serve.
        collected: up to when its transactions are known.
        compared: up to when days have been compared; 0: never.
    """
    until = int(now - SETTLED_AFTER) // DAY * DAY
    if not 0 < ready < until or collected < until or compared >= until:
        return None
    return max(compared or until - DAY, until - MOST_DAYS * DAY, hour_of(ready)), until


def lasting(
    verdicts: Iterable[tuple[str, str]], *, differed: Container[str], lasted: Container[str]
) -> tuple[str, ...]:
    """Figures that differ, and did the time before, too: one day's may be a cloud that was late. One that is not told
    neither differs nor agrees: it stays as it was.

    Args:
        verdicts: names of figures, and the words for them.
        differed: figures that differed when they were last told.
        lasted: those of them that had done so twice by then.
    """
    before = {DIFFERS: differed, NOT_TOLD: lasted}
    return tuple(name for name, word in verdicts if name in before.get(word, ()))


def awaited(verdicts: Iterable[tuple[str, str]], *, differed: Container[str]) -> tuple[str, ...]:
    """Figures that are not told, and differed when they last were: nobody can say that they agree again."""
    return tuple(name for name, word in verdicts if word == NOT_TOLD and name in differed)


class Verdict(msgspec.Struct, frozen=True):
    """``word`` is ``agrees``, ``differs`` or ``unknown``; ``reason`` is the id of the sentence that says why,
    and what to look at, or empty."""

    word: str
    reason: str = ""

    @property
    def message(self) -> str:
        """The sentence in English."""
        return in_words((say(self.reason),)) if self.reason else ""


def judge_sent(by_cloud: int | None, by_site: int | None) -> Verdict:
    """Compare what left the cloud with what the gateways recorded."""
    if by_cloud is None or by_site is None:
        return _unknown(by_cloud)
    if by_cloud > by_site * (1 + SENT_ABOVE) + SLACK:
        return Verdict(DIFFERS, MORE_SENT)
    if by_cloud < by_site * (1 - SENT_BELOW) - SLACK:
        return Verdict(DIFFERS, LESS_SENT)
    return Verdict(AGREES)


def judge_granted(by_store: int | None, granted: int | None, streamed: int | None, fetched: int = 0) -> Verdict:
    """Compare what left the store with what it must have sent if every link that was given was used once.

    Args:
        by_store: bytes that left the store, by its own figures; whoever got them.
        granted: bytes for which clients were given links.
        streamed: bytes that gateways sent to clients, and read from the store before.
        fetched: bytes that the site itself read from the store.
    """
    if by_store is None or granted is None or streamed is None:
        return _unknown(by_store)
    if by_store > (granted + streamed + fetched) * (1 + SENT_ABOVE) + SLACK:
        return Verdict(DIFFERS, MORE_GRANTED)
    if by_store < (granted + fetched) * (1 - SENT_BELOW) - SLACK:
        return Verdict(DIFFERS, LESS_GRANTED)
    return Verdict(AGREES)


def judge_stored(by_cloud: int | None, by_site: int | None) -> Verdict:
    """Compare what the cloud says is stored with the site's books."""
    if by_cloud is None or by_site is None:
        return _unknown(by_cloud)
    margin = by_site * STORED + SLACK
    if by_cloud > by_site + margin:
        return Verdict(DIFFERS, MORE_STORED)
    if by_cloud < by_site - margin:
        return Verdict(DIFFERS, LESS_STORED)
    return Verdict(AGREES)


def _unknown(by_cloud: int | None) -> Verdict:
    return Verdict(NOT_TOLD, UNTOLD if by_cloud is None else UNCOUNTED)
