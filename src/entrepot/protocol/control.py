"""The control document of one distribution point: what its gateways or its server must obey (architecture 3).

It lies in the object store under ``CONTROL_KEY`` beside the trust document (``TRUST_KEY``); gateways poll it
every 2 s, refuse older counters, and answer 503 once it has expired. With each new one they also ship the transaction
records that they have: a site that wants to collect now signs it anew.
"""

from enum import StrEnum

import msgspec

from entrepot.protocol import Freshness

CONTROL_KEY = "control"
TRUST_KEY = "trust"
CONTROL_LIFETIME = 8 * 3600


class ServiceState(StrEnum):
    """Whether clients are served."""

    RUNNING = "running"
    STOPPED = "stopped"


class Delivery(StrEnum):
    """How clients get an object's bytes: through the gateway, or from the store by a link that the gateway gives."""

    STREAM = "stream"
    REDIRECT = "redirect"


class AddressLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one address may do at each instance; 0: no limit. Many devices may share it."""

    requests_per_second: float = 2000.0
    downloads: int = 2048  # at once
    connections: int = 4096  # at once
    failures_per_second: float = 20.0  # tokens that are not good; ten seconds' worth may come at once


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the site sets for every gateway instance of a cloud point.

    ``delivery`` and ``addresses`` are left out where they say what counts anyway: stream, and the defaults.
    """

    segment_seconds: float = 30.0  # ship transaction records at least this often
    segment_bytes: int = 4 * 1024 * 1024
    device_requests_per_second: float = 200.0
    minimum_rate: int = 8 * 1024  # bytes a second that a client must take, else it is cut off
    delivery: Delivery | msgspec.UnsetType = msgspec.UNSET
    addresses: AddressLimits | msgspec.UnsetType = msgspec.UNSET


class ControlDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``point`` is the audience of tokens. ``token_kids`` are the token keys valid now (two during rollover).

    ``bounded``: a budget is active; content tokens without an allowance are refused (401), and clients ask the site for
    others. Left out where there is none.
    """

    version: int = 1
    site: str
    point: str
    fresh: Freshness
    state: ServiceState
    token_kids: tuple[str, ...]
    revoked_devices: tuple[str, ...] = ()
    revoked_tokens: tuple[str, ...] = ()
    settings: GatewaySettings = GatewaySettings()
    bounded: bool | msgspec.UnsetType = msgspec.UNSET
