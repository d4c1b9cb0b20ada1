"""The cloud host's management API: what a site's provider says to it (architecture 1, 3; R3, R7).

``POST /oauth2/token`` (RFC 6749 client credentials with an RFC 7523 client assertion signed by the management
certificate: PS256 or ES256, ``x5t#S256``, ``iss`` = ``sub`` = subscription id, ``aud`` = the token endpoint's URL, at
most 5 minutes, ``jti`` used once) → :class:`AccessToken`; all else with that bearer token below
``/subscriptions/{id}``:

====== =============================== =======================================================
GET    ``/``                           :class:`Subscription`; ``?knows=PIN``: the next pin that the caller has kept
GET    ``/services``                   list of :class:`ServiceStatus`
PUT    ``/services/{name}``            :class:`ServiceSpec` → :class:`ServiceStatus` (idempotent: create or update)
GET    ``/services/{name}``            :class:`ServiceStatus`
POST   ``/services/{name}/start``      :class:`ServiceStatus`
POST   ``/services/{name}/stop``       :class:`ServiceStatus`; clients are cut off at once, the store endpoint stays
POST   ``/services/{name}/scale``      :class:`Scale` → :class:`ServiceStatus`
DELETE ``/services/{name}``            :class:`Remains`: what is left (nothing, when all went well); 404: gone already
any    ``/services/{name}/store/…``    the store endpoint: ``protocol.dataplane`` paths
====== =============================== =======================================================
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

_Pin = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]


class AccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 6749 section 5.1."""

    access_token: str
    expires_in: int
    token_type: str = "Bearer"

    def __repr__(self) -> str:
        return f"AccessToken(***, {self.expires_in} seconds)"


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant of the cloud host. ``storage_quota`` bytes and ``instance_quota`` bound it.

    ``pin`` is SHA-256 (hexadecimal) of the certificate that the host serves now, ``next_pin`` that of the one which it
    will serve from ``next_pin_from`` (seconds since 1970) or sooner: whoever asks keeps it, and accepts both. Empty:
    the cloud is recognised in another way, or no next one is announced.
    """

    id: str
    name: str
    state: str  # active or disabled
    region: str
    storage_quota: int
    instance_quota: int
    certificate_expires: int  # of the certificate that authenticated this request
    time: int = 0  # the cloud's clock, seconds since 1970; 0: it does not tell
    redirects: bool = False  # new services' stores give links that clients can follow
    pin: _Pin = ""
    next_pin: _Pin = ""
    next_pin_from: int = 0


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the site wants.

    ``point`` is the audience of tokens; ``root`` the hierarchy root's raw public key that gateways pin;
    ``certificate`` (PEM chain) and ``private_key`` (PEM, PKCS#8) are those of the service certificate. ``port`` counts
    at a cloud host, when the service is made: it keeps its port for ever; 0: the host chooses one.
    """

    point: str
    fqdn: str
    root: bytes
    certificate: str
    private_key: str
    instances: int
    port: int = 0

    def __repr__(self) -> str:
        return f"ServiceSpec({self.point}, {self.fqdn}, {self.instances} instances, private_key=***)"


class RunState(StrEnum):
    """State of a service's deployment."""

    RUNNING = "running"
    STOPPED = "stopped"
    STARTING = "starting"
    DEGRADED = "degraded"
    DELETING = "deleting"


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway instance.

    ``heartbeat`` in seconds since 1970; ``control`` is the counter of the control document that it obeys (-1: the
    cloud cannot tell). ``active`` downloads run; since its start it has handed ``sent`` bytes over and used ``cpu``
    seconds of processor time (-1: the cloud cannot tell).
    """

    id: str
    state: str  # starting, running or failed
    started: int
    heartbeat: int
    restarts: int
    control: int = 0
    active: int = -1
    sent: int = -1
    cpu: float = -1.0


def proof_name(fqdn: str) -> str:
    """Name of the TXT record by which Azure is shown that a service's name is ours."""
    return f"asuid.{fqdn}"


class NeededRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A DNS record that a cloud wants to see before it serves a name, beside the alias."""

    name: str
    type: str
    value: str


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``address`` is ``host:port``: what the service FQDN's CNAME must lead to (R6).

    ``root`` is the hierarchy root that its gateways pin: it tells whose service this is. ``notes`` say what keeps it
    from serving as it should; ``records`` are DNS records that it needs beside the alias. ``place`` is where it lies
    when that is not where its name says (Azure: a resource group that was given). ``parts`` name what is there of a
    service that is not whole. ``redirects``: its store gives links that clients can follow.
    ``stored_bytes`` None: the cloud does not tell now; ``stored_at``: when it measured that, 0: just now.
    ``certificate_thumbprint`` tells the service certificate from others with the same end: hexadecimal digits of its
    SHA-256, in Azure of its SHA-1 as Azure Resource Manager tells it; empty: the cloud does not tell.
    """

    name: str
    point: str
    fqdn: str
    state: RunState
    address: str
    wanted: int
    instances: tuple[Instance, ...]
    stored_bytes: int | None
    stored_objects: int
    certificate_expires: int
    root: bytes = b""
    notes: tuple[str, ...] = ()
    records: tuple[NeededRecord, ...] = ()
    place: str = ""
    parts: tuple[str, ...] = ()
    redirects: bool = False
    stored_at: int = 0
    certificate_thumbprint: str = ""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Wanted number of gateway instances, at least 1."""

    instances: int


class Remains(msgspec.Struct, frozen=True, kw_only=True):
    """What a deletion left behind, by name; empty when nothing is left."""

    left: tuple[str, ...]
