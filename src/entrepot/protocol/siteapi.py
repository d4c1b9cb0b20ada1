"""The admin API of a primary site, ``https://<site>/api/v1``: what the command line and the console say to it.

``POST /login`` gives a bearer token; everything else wants it. Times are whole seconds since 1970, sizes are bytes,
object and set ids are 64 hexadecimal digits, ``bytes`` fields travel as base64. Wherever a path or a field names
something that has an id (content, point, collection, device, cloud point …), its name does as well. Work that takes
long answers with a :class:`TaskInfo`: ask ``GET /tasks/{id}`` for progress. Errors are RFC 9457 problem details.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

PREFIX = "/api/v1"

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=4096)]
Percent = Annotated[int, Meta(ge=1, le=100)]
Bytes = Annotated[int, Meta(ge=0, le=2**62)]
Patterns = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=1000)]
Names = Annotated[tuple[Name, ...], Meta(max_length=1000)]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request or a reply. Unknown fields are refused: a misspelt option must not pass for its default."""


class LoginRequest(Model, frozen=True, kw_only=True):
    """``POST /login``."""

    name: Name
    password: Annotated[str, Meta(min_length=1, max_length=1024)]

    def __repr__(self) -> str:
        return f"LoginRequest({self.name!r}, password=***)"


class Session(Model, frozen=True, kw_only=True):
    """A bearer token, valid until ``expires`` or ``POST /logout``."""

    token: str
    name: str
    expires: int

    def __repr__(self) -> str:
        return f"Session({self.name!r}, token=***)"


class SiteCounts(Model, frozen=True, kw_only=True):
    """How much the site manages."""

    contents: int
    points: int
    cloud_points: int
    devices: int
    pending_devices: int
    active_tasks: int
    open_alerts: int


class SiteInfo(Model, frozen=True, kw_only=True):
    """``GET /site``."""

    code: str
    name: str
    url: str
    version: str
    hierarchy: str
    root_fingerprint: str
    trust_number: int
    epoch: int
    counts: SiteCounts


class TaskState(StrEnum):
    """State of durable work; ``completed``, ``failed`` and ``cancelled`` are final."""

    CREATED = "created"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing further happens."""
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


class TaskInfo(Model, frozen=True, kw_only=True):
    """Durable work and its progress. ``done`` of ``total`` count ``unit`` (``bytes``, ``objects``, ``steps``);
    ``total`` 0 means that the amount is not known yet; ``rate`` is units a second lately, ``seconds_left`` what that
    makes of the rest (0: not known). ``subject`` is the id of what it works on. ``error_code``
    is the stable code of the error that failed it. ``by`` is the administrator who ordered it, ``SYSTEM`` when the site
    itself did, empty for tasks from before this was kept. ``cancelled_by`` is who cancelled it, or gave the later order
    that took over from it, told in the same way; it is empty for tasks that nobody cancelled, and stays when one had
    ended before it noticed."""

    id: str
    kind: str
    subject: str
    title: str
    state: TaskState
    step: str
    done: int
    total: int
    unit: str
    message: str
    error: str
    error_code: str
    attempts: int
    created: int
    started: int
    finished: int
    run_after: int
    rate: int = 0
    seconds_left: int = 0
    by: str = ""
    cancelled_by: str = ""
