"""Device policy and reports. ``GET /mp/policy`` answers :class:`Policy` signed with the policy key."""

import msgspec

from entrepot.protocol import Freshness


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Effective client settings of a device (R5, R43). Cloud access is off unless an administrator allows it."""

    allow_cloud: bool = False
    poll_minutes: int = 60
    cache_bytes: int = 20 * 10**9


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that reaches this device."""

    deployment: str
    content: str
    name: str
    type: str
    version: int


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is to do."""

    device: str
    fresh: Freshness
    settings: ClientSettings
    assignments: tuple[Assignment, ...]


class SourceBytes(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that came from one source. ``kind``: own-cache, installed, point or cloud; ``form``: full or delta."""

    kind: str
    form: str
    point: str
    bytes: int
    requests: int


class DownloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /mp/reports``: how a download went; the basis of the savings figures (R28)."""

    id: str
    content: str
    version: int
    network: str
    started: int
    finished: int
    outcome: str  # success or failed
    error: str = ""
    plain_size: int = 0
    sources: tuple[SourceBytes, ...] = ()
