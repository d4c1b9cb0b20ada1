"""The admin API of who is told of alerts, and when nobody is: subscriptions, the mail server, maintenance windows.

Paths below ``/api/v1``. Credentials go in and never come out.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from entrepot.protocol.siteapi import Model, Name, Text

SECRET_BYTES = (16, 1024)


class AlertState(StrEnum):
    """States of an alert (domain page, section 5)."""

    NEVER_TRIGGERED = "never_triggered"
    ACTIVE = "active"
    POSTPONED = "postponed"
    CANCELED = "canceled"
    DISABLED = "disabled"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """Severity of an alert."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFORMATIONAL = "informational"


class AlertInfo(Model, frozen=True, kw_only=True):
    """``GET /alerts``. ``subject`` is the id of what it is about; ``remedies`` say what one can do (R25)."""

    id: str
    type: str
    subject: str
    subject_name: str
    title: str
    severity: Severity
    state: AlertState
    message: str
    remedies: tuple[str, ...]
    occurrences: int
    created: int
    changed: int
    skip_until: int
    closed_by: str
    comment: str


class AlertPostponeRequest(Model, frozen=True, kw_only=True):
    """``POST /alerts/{id}/postpone``: look again after so many hours."""

    hours: Annotated[int, Meta(ge=1, le=8_760)] = 24
    comment: Annotated[str, Meta(max_length=1024)] = ""


class AlertCommentRequest(Model, frozen=True, kw_only=True):
    """``POST /alerts/{id}/cancel``, ``…/disable`` and ``…/enable``."""

    comment: Annotated[str, Meta(max_length=1024)] = ""


class AlertEvent(Model, frozen=True, kw_only=True):
    """``GET /alerts/{id}/history``, oldest first: what happened, and the state that followed."""

    at: int
    event: str
    state: AlertState
    by: str
    message: str


class Channel(StrEnum):
    """How a subscriber is told."""

    MAIL = "mail"
    WEBHOOK = "webhook"


class Language(StrEnum):
    """The language of a message."""

    ENGLISH = "en"
    GERMAN = "de"
    FRENCH = "fr"


class Security(StrEnum):
    """How the connection to a mail server is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Repeat(StrEnum):
    """How often a maintenance window comes back."""

    NEVER = "never"
    DAILY = "daily"
    WEEKLY = "weekly"


Types = Annotated[tuple[Annotated[str, Meta(max_length=48)], ...], Meta(max_length=100)]


class AlertSubscriptionRequest(Model, frozen=True, kw_only=True):
    """``POST /alert-subscriptions``: tell somebody of alerts that open, open again or close.

    ``target``: mail addresses separated by ``;``, or an ``https://`` address. ``types`` and ``severities``: empty for
    all. ``digest_minutes``: gather events for so long, 0: tell each at once. ``secret`` signs webhooks (16 bytes or
    more). ``private_networks``: a webhook may lead to private addresses. ``authority``: PEM, trusted for the webhook
    besides the public ones.
    """

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    channel: Channel
    target: Annotated[str, Meta(min_length=3, max_length=4096)]
    language: Language = Language.ENGLISH
    types: Types = ()
    severities: Annotated[tuple[Severity, ...], Meta(max_length=3)] = ()
    digest_minutes: Annotated[int, Meta(ge=0, le=1440)] = 0
    secret: Annotated[str, Meta(max_length=1024)] = ""
    private_networks: bool = False
    authority: Annotated[str, Meta(max_length=65_536)] = ""

    def __repr__(self) -> str:
        return f"AlertSubscriptionRequest({self.name!r}, {self.channel.value}, secret=***)"


class AlertSubscriptionChange(Model, frozen=True, kw_only=True):
    """``PATCH /alert-subscriptions/{id}``: what is given is changed, the rest stays, the secret too; the channel stays
    in any case. What waits is delivered as the subscription is then."""

    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    target: Annotated[str, Meta(min_length=3, max_length=4096)] | None = None
    language: Language | None = None
    types: Types | None = None
    severities: Annotated[tuple[Severity, ...], Meta(max_length=3)] | None = None
    digest_minutes: Annotated[int, Meta(ge=0, le=1440)] | None = None
    secret: Annotated[str, Meta(max_length=1024)] | None = None
    private_networks: bool | None = None
    authority: Annotated[str, Meta(max_length=65_536)] | None = None

    def __repr__(self) -> str:
        return f"AlertSubscriptionChange({self.name!r}, secret=***)"


class AlertSubscriptionInfo(Model, frozen=True, kw_only=True):
    """``GET /alert-subscriptions``. ``waiting`` messages are still to be delivered, ``failed`` were given up in the
    last 30 days; ``error`` is what the last attempt met."""

    id: str
    name: str
    channel: Channel
    target: str
    language: Language
    types: tuple[str, ...]
    severities: tuple[Severity, ...]
    digest_minutes: int
    private_networks: bool
    site: str
    created: int
    delivered: int
    error: str
    waiting: int
    failed: int


class Delivered(Model, frozen=True, kw_only=True):
    """``POST /alert-subscriptions/{id}/test`` and ``POST /mail-server/test``: the test message was taken."""

    target: str
    detail: str


class MailServerRequest(Model, frozen=True, kw_only=True):
    """``PUT /mail-server``. An empty ``account`` means no authentication; a password is refused without TLS."""

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    security: Security = Security.STARTTLS
    account: Annotated[str, Meta(max_length=256)] = ""
    password: Annotated[str, Meta(max_length=1024)] = ""
    sender: Annotated[str, Meta(min_length=3, max_length=320)]
    authority: Annotated[str, Meta(max_length=65_536)] = ""

    def __repr__(self) -> str:
        return f"MailServerRequest({self.host!r}, password=***)"


class MailServerInfo(Model, frozen=True, kw_only=True):
    """``GET /mail-server``; an empty host: none is set. The password is never told."""

    host: str = ""
    port: int = 0
    security: Security = Security.STARTTLS
    account: str = ""
    sender: str = ""
    changed: int = 0


class MailTestRequest(Model, frozen=True, kw_only=True):
    """``POST /mail-server/test``."""

    address: Annotated[str, Meta(min_length=3, max_length=320)]


class MaintenanceWindowRequest(Model, frozen=True, kw_only=True):
    """``POST /maintenance-windows``: no alert opens in it. ``start``: local time in ``zone``, ``2026-03-23T22:00``;
    ``cloud_point`` empty: all; ``types`` empty: all."""

    name: Name
    start: Annotated[str, Meta(max_length=16)]
    minutes: Annotated[int, Meta(ge=1, le=10_080)]
    zone: Annotated[str, Meta(max_length=64)] = "UTC"
    repeat: Repeat = Repeat.NEVER
    cloud_point: Annotated[str, Meta(max_length=128)] = ""
    types: Types = ()


class MaintenanceWindowInfo(Model, frozen=True, kw_only=True):
    """``GET /maintenance-windows``; ``open``: at this moment."""

    id: str
    name: str
    start: str
    minutes: int
    zone: str
    repeat: Repeat
    cloud_point: str
    types: tuple[str, ...]
    open: bool


class AlertMessage(Model, frozen=True, kw_only=True):
    """What happened to an alert, as a webhook carries it (in ``events``) and a mail tells it."""

    id: str
    alert: str
    type: str
    severity: Severity
    event: str
    subject: str
    subject_name: str
    message: str
    at: int
    occurrences: int
    remedies: tuple[str, ...] = ()
    title: Text = ""


class WebhookBody(Model, frozen=True, kw_only=True):
    """The body of a webhook, signed. ``id`` stays the same when it is sent again: take it once."""

    id: str
    site: str
    subscription: str
    language: Language
    events: tuple[AlertMessage, ...]
