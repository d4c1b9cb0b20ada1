"""One use of the agent: its home locked, its settings read, its site at hand."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.connections import Connections, open_client
from entrepot.client.enrol import APPROVED, check_enrolment
from entrepot.client.folders import folder_errors
from entrepot.client.home import Home
from entrepot.client.identity import Identity, load_identity
from entrepot.client.managementpoint import ManagementPoint, open_trust
from entrepot.client.settings import Settings, enrolled_settings
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import (
    EntrepotError,
    ForbiddenError,
    FormatError,
    StorageError,
    TrustError,
    UnavailableError,
)
from entrepot.core.sizes import MIB
from entrepot.core.times import MINUTE, Clock
from entrepot.durable.files import write_private
from entrepot.durable.locks import HomeLock
from entrepot.protocol.policy import Policy
from entrepot.trust.pins import FreshnessLog, TrustStore
from entrepot.web.tls import TlsTrust

_MAX_TRUST: Final = 8 * MIB


class Session:
    """What a command of the agent works with."""

    def __init__(
        self, home: Home, settings: Settings, identity: Identity, connections: Connections, site: ManagementPoint
    ) -> None:
        self.home: Final = home
        self.settings: Final = settings
        self.identity: Final = identity
        self.connections: Final = connections
        self.site: Final = site


@contextlib.asynccontextmanager
async def open_session(home: Path, *, clock: Clock = time.time) -> AsyncIterator[Session]:
    """Lock the home and open what a command needs; one session per home at a time.

    Raises:
        NotFoundError: the device is not enrolled.
        ForbiddenError: it still waits for an administrator's approval.
        ConflictError: another process uses this home.
        TrustError: the site cannot be trusted.
    """
    places = Home(home)
    identity = load_identity(home)
    settings = enrolled_settings(home)
    with HomeLock(home, "a client's home"):
        await asyncio.to_thread(places.prepare)
        if identity.registration.state != APPROVED:
            await _require_approval(home, identity, clock)
            identity = load_identity(home)
        trust = open_trust(places, settings.fingerprint)
        await refresh_trust(trust, settings, clock)
        async with Connections(settings, trust.ca_certificates(now=clock())) as connections:
            http = connections.client("hierarchy")
            seen = FreshnessLog(places.freshness)
            site = ManagementPoint(http, settings.url, identity, trust, seen, clock=clock)
            yield Session(places, settings, identity, connections, site)


async def _require_approval(home: Path, identity: Identity, clock: Clock) -> None:
    found = await check_enrolment(home, locked=True, clock=clock)
    if found.state != APPROVED:
        raise ForbiddenError(
            f"The device {identity.device} still waits for approval by an administrator.",
            next_step=f"Compare its fingerprint, {identity.fingerprint}, then run entrepot device approve.",
        )


async def refresh_trust(trust: TrustStore, settings: Settings, clock: Clock) -> None:
    """Take in the site's present trust document; the one held serves on when the site does not answer.

    When the site's certificate is not of an issuer that we know, the document is fetched without trusting the
    connection: it proves itself, and may name the new issuer. If it does not, the next connection fails.

    Raises:
        TrustError: what was answered is signed by another root.
        ReplayError: it is older than the one held.
    """
    url = f"{settings.url}/mp/trust"
    for how in (TlsTrust.hierarchy(trust.ca_certificates(now=clock())), TlsTrust.introduction()):
        try:
            async with open_client(how, settings) as http:
                reply = await http.request("GET", url, limit=_MAX_TRUST)
        except TrustError:
            continue
        except UnavailableError:
            return
        trust.accept(reply.body.strip())
        return


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """``policy.json``: the policy, and when it was received (seconds since 1970)."""

    received: int
    policy: Policy


async def update_policy(session: Session, *, clock: Clock = time.time) -> Policy:
    """Fetch the device's policy and keep it.

    Raises:
        EntrepotError: as :meth:`ManagementPoint.policy`.
    """
    policy = await session.site.policy()
    path = session.home.policy
    with folder_errors(str(path)):
        await asyncio.to_thread(write_private, path, to_json(_Kept(received=int(clock()), policy=policy)))
    return policy


async def current_policy(session: Session, *, clock: Clock = time.time) -> Policy | None:
    """The kept policy, or a new one when that is older than its poll interval; None when there is none to be had."""
    kept = kept_policy(session.home)
    if kept is not None and 0 <= clock() - kept.received < kept.policy.settings.poll_minutes * MINUTE:
        return kept.policy
    with contextlib.suppress(EntrepotError):
        return await update_policy(session, clock=clock)
    return kept.policy if kept else None


def kept_policy(home: Home) -> _Kept | None:
    """The policy received last; None when there is none, or none that can be read: another one is asked for then."""
    try:
        with folder_errors(str(home.policy)), home.policy.open("rb") as file:
            return from_json(file.read(_MAX_TRUST), _Kept, "kept policy")
    except (StorageError, FormatError):
        return None
