"""What alerts say: a sentence is an id and figures, and becomes words where it is shown. Pure.

Whatever opens an alert hands over :class:`Said`; that is what is kept. The English words are here; those of other
languages are under the same ids in ``site/notifications/languages``. A place in a sentence names a figure and, where it
is no plain number or name, how it is told: ``{used:size}`` of bytes, ``{at:time}`` and ``{at:day}`` of seconds since
1970, ``{free:tenths}`` of tenths, ``{state:word}`` of a word that the catalogue of the language knows.
"""

import string
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from entrepot.core.sizes import format_size
from entrepot.core.times import iso

_english: dict[str, str] = {}
ENGLISH: Final[Mapping[str, str]] = MappingProxyType(_english)
"""All sentences, by their ids."""


def _sentence(key: str, words: str) -> str:
    _english[key] = words
    return key


QUOTED: Final = _sentence("quoted", "{text}")
"""What somebody else said, such as a cloud's own error: in his words; also what alerts said before they had ids."""
REMOVED: Final = _sentence("removed", "What it is about was removed.")

STORAGE_USED: Final = _sentence(
    "storage.used", "{used:size} of {quota:size} stored; {free:tenths} % free, the warning level is {warning} % free."
)
STORAGE_UNBOUND: Final = _sentence("storage.unbound", "{used:size} stored; no bound is set.")
SENT: Final = _sentence(
    "sent.to_clients",
    "{used:size} of {quota:size} sent to clients in {days} days: {share:tenths} %; warning at {warning} %, "
    "critical at {critical} %.",
)
SENT_UNBOUND: Final = _sentence(
    "sent.to_clients_unbound", "{used:size} sent to clients in {days} days; no bound is set."
)
UPLOADED: Final = _sentence(
    "sent.by_site",
    "{used:size} of {quota:size} sent by the site in {days} days: {share:tenths} %; warning at {warning} %, "
    "critical at {critical} %.",
)
UPLOADED_UNBOUND: Final = _sentence(
    "sent.by_site_unbound", "{used:size} sent by the site in {days} days; no bound is set."
)
MEASURED: Final = _sentence("measured", "Measured by the cloud at {at:time}.")
COUNTED: Final = _sentence("counted", "Counted by the site at {at:time}.")
COUNTED_SINCE: Final = _sentence(
    "counted.since", "Counted by the site at {at:time}, since the cloud measured at {measured:time}."
)
COLLECTED: Final = _sentence("collected", "Collected at {at:time}.")
STALE: Final = _sentence("stale", "No figures for {hours} h: the last collection was at {at:time}.")
STALE_NEVER: Final = _sentence("stale.never", "No figures for {hours} h: the last collection was never.")

_RANGE: Final = "at the present trend, on {at:day} (earliest {earliest:day}, latest"
IN_A_DAY: Final = _sentence("forecast.day", f"Critical in {{days}} day {_RANGE} {{latest:day}}).")
IN_DAYS: Final = _sentence("forecast.days", f"Critical in {{days}} days {_RANGE} {{latest:day}}).")
IN_A_DAY_OPEN: Final = _sentence("forecast.day_open", f"Critical in {{days}} day {_RANGE} not foreseeable).")
IN_DAYS_OPEN: Final = _sentence("forecast.days_open", f"Critical in {{days}} days {_RANGE} not foreseeable).")

BUDGET: Final = _sentence(
    "budget",
    "The budget of the {scope:word} {name}: {grade:word} ({used:size} used and {granted:size} granted of "
    "{bytes:size}).",
)
BUDGET_REFUSED: Final = _sentence(
    "budget.refused",
    "The budget of the {scope:word} {name}: refused a download at {at:time} that needs more than is left ({used:size} "
    "used and {granted:size} granted of {bytes:size}).",
)

DIFFERS: Final = _sentence("differs", "{figure:word}: {by_cloud:size} by the cloud, {by_site:size} by the site.")
COMPARED: Final = _sentence("compared", "Compared from {since:time} to {until:time}.")
MORE_SENT: Final = _sentence(
    "differs.more_sent",
    "More left the cloud than the gateways recorded. Look for open alerts about gaps in the records, collect "
    "what is outstanding, and see whether anything else uses the service.",
)
LESS_SENT: Final = _sentence(
    "differs.less_sent",
    "The gateways recorded more than the cloud counted. The cloud's figures may lag behind: look again later. "
    "Many downloads that break off have the same effect.",
)
MORE_GRANTED: Final = _sentence(
    "differs.more_granted",
    "More left the store than was granted, streamed and fetched by the site. Links may have been used several "
    "times within their minute, or something else reads the store: set the delivery to stream to see which.",
)
LESS_GRANTED: Final = _sentence(
    "differs.less_granted",
    "Less left the store than was granted, and fetched by the site. Clients may not have followed their links "
    "(a firewall that does not let them reach the store), or the store's figures lag behind: look again later.",
)
MORE_STORED: Final = _sentence(
    "differs.more_stored",
    "The cloud stores more than the site's books say. Validate the cloud point: what no content needs is "
    "removed; and see whether the storage is shared with something else.",
)
LESS_STORED: Final = _sentence(
    "differs.less_stored",
    "The cloud stores less than the site's books say. The cloud's figure may be hours old; if it stays, "
    "validate the cloud point: what is missing is sent again.",
)

UNTOLD: Final = _sentence("differs.untold", "The cloud does not tell this figure, or not yet.")
UNCOUNTED: Final = _sentence("differs.uncounted", "The site has not counted yet.")

GAPS: Final = _sentence("gaps", "Of {count} instances the records are not whole.")
GAP: Final = _sentence("gap", "{instance}: {missing} segments missing, {broken} damaged or not fitting.")

SERVICE_GONE: Final = _sentence("service.gone", "The cloud no longer has the service: {error}")
SERVICE_SILENT: Final = _sentence("service.silent", "The cloud does not tell how the service is: {error}")
SERVICE_UNWANTED: Final = _sentence(
    "service.unwanted", "The service should be stopped, but its instances run; they refuse clients."
)
SERVICE_PARTLY: Final = _sentence("service.partly", "{running} of {wanted} instances run.")
SERVICE_STATE: Final = _sentence("service.state", "The service is {state:word} at the cloud.")
SERVICE_DOWN: Final = _sentence("service.down", "The service is {state:word} at the cloud: no instance runs.")
SERVICE_BEHIND: Final = _sentence(
    "service.behind",
    "The cloud does not have all that was ordered; entrepot cloud update {name} brings it: {reason}",
)
SERVICE_BEHIND_STOPPED: Final = _sentence(
    "service.behind_stopped", "The cloud does not have all that was ordered; the next start brings it: {reason}"
)
SERVICE_OTHER_CERTIFICATE: Final = _sentence(
    "service.other_certificate",
    "The service has another certificate at the cloud than the one that is kept here; entrepot cloud update {name} "
    "brings it.",
)
SERVICE_SHOWS_OTHER: Final = _sentence(
    "service.shows_other",
    "Clients are shown another certificate at {address} than the one that is kept here: see what answers there.",
)
SERVICE_AGAIN: Final = _sentence("service.again", "The service is as wanted again; the next look decides.")
SUBSCRIPTION: Final = _sentence("subscription", "The subscription {id} is {state:word}.")
STORE_REFUSES: Final = _sentence("store.refuses", "The store refuses: {error}")
STORE_LIES: Final = _sentence("store.lies", "The store gives back something else than was written.")
CLOCK_AHEAD: Final = _sentence("clock.ahead", "The cloud's clock is {seconds} s ahead of the site's.")
CLOCK_BEHIND: Final = _sentence("clock.behind", "The cloud's clock is {seconds} s behind the site's.")
NO_ADDRESS: Final = _sentence("dns.no_address", "The cloud has not given the service an address yet.")
UNRESOLVED: Final = _sentence("dns.unresolved", "{fqdn} cannot be resolved: create the record {name} {type} {value}.")
LEADS_ELSEWHERE: Final = _sentence(
    "dns.elsewhere", "{fqdn} leads to {addresses}, not to {value}: correct its {type} record."
)
LEADS_BESIDES: Final = _sentence(
    "dns.besides",
    "{name} leads to {others}, too, and not to {value} alone: some clients do not reach the service. Remove the other "
    "{type} records.",
)

EXPIRES: Final = _sentence("certificate.expires", "The {what:word} of {name} expires at {at:time}.")
EXPIRED: Final = _sentence("certificate.expired", "The {what:word} of {name} expired at {at:time}.")
ISSUER_EXPIRES: Final = _sentence(
    "certificate.issuer_expires", "The issuer {issuer} of the {what:word} of {name} expires at {at:time}."
)
ISSUER_EXPIRED: Final = _sentence(
    "certificate.issuer_expired", "The issuer {issuer} of the {what:word} of {name} expired at {at:time}."
)
SERVER_LATE: Final = _sentence(
    "server.late",
    "The certificate of {name} ends at {at:time}, in {days} days, and should have been renewed by now.",
)
SERVER_ENDED: Final = _sentence(
    "server.ended", "The certificate of {name} ended at {at:time}: nobody trusts it any more."
)
LIBRARY_SOUND: Final = _sentence("library.sound", "Everything that was validated is sound.")
LIBRARY_DAMAGED: Final = _sentence(
    "library.damaged", "Objects that contents need: {missing} missing, {damaged} damaged."
)
RESEAL_FAILED: Final = _sentence("reseal.failed", "Given up, not sealed anew ({number}): {names}. {reason}")
RESEAL_LATE: Final = _sentence(
    "reseal.late", "Versions that have waited to be sealed anew since {at:time} ({number}): {names}."
)
RESEAL_UNDER_WAY: Final = _sentence("reseal.under_way", "Versions that are being sealed anew: {number}.")
RESEAL_DONE: Final = _sentence("reseal.done", "No version waits to be sealed anew.")


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence: its id, and the figures in it, as they are: bytes, seconds since 1970, numbers, names."""

    key: str
    figures: dict[str, int | str] = {}


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """Something with sentences to it."""

    said: tuple[Said, ...] = ()

    @property
    def message(self) -> str:
        """In English."""
        return in_words(self.said)


def say(key: str, /, **figures: int | str) -> Said:
    """A sentence with these figures."""
    return Said(key=key, figures=figures)


def quoted(text: str) -> tuple[Said, ...]:
    """Words that are somebody else's; none for an empty text."""
    return (say(QUOTED, text=text),) if text else ()


def in_words(said: Sequence[Said], words: Mapping[str, str] = ENGLISH) -> str:
    """The sentences in a language.

    Args:
        words: its sentences by their ids, and its words by the English ones; what is missing is told in English.
    """
    teller = _Teller(words)
    return " ".join(teller.tell(one) for one in said)


class _Teller(string.Formatter):
    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words

    def tell(self, one: Said) -> str:
        known = self._words.get(one.key) or ENGLISH.get(one.key)
        if known is None:  # a later version's
            known = f"{one.key}: " + ", ".join(f"{name} {{{name}}}" for name in one.figures if name.isidentifier())
        return self.vformat(known, (), one.figures)

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ARG002  # as named there
        return kwargs.get(str(key), "?")

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "word":
            return self._words.get(value, value)
        if not format_spec or not isinstance(value, int):
            return str(value)
        match format_spec:
            case "size":
                return format_size(value)
            case "time":
                return iso(value)
            case "day":
                return iso(value)[:10]
            case "tenths":
                return f"{value // 10}.{value % 10}"
        raise ValueError(f"no figure is told as {format_spec!r}")
