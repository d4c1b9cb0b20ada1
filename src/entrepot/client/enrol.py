"""Enrolment: how this device and its site come to know each other (``protocol.enrolment``).

With a code: the trust document must be signed by the root whose fingerprint the code carries; from then on every
connection is verified; the device proves the code's secret by a MAC and never sends it. Without one: the administrator
compares the device's fingerprint and approves; until then the device is ``pending``.
"""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.connections import computer_name, open_client
from entrepot.client.folders import folder_errors
from entrepot.client.home import Home
from entrepot.client.identity import Registration, device_key, load_identity, save_registration
from entrepot.client.settings import Settings, check_settings, load_settings, save_settings
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, TrustError
from entrepot.core.sizes import MIB
from entrepot.core.times import Clock
from entrepot.durable.locks import HomeLock
from entrepot.protocol.enrolment import (
    EnrolmentCode,
    EnrolReply,
    EnrolRequest,
    Kind,
    NonceReply,
    parse_enrolment_code,
)
from entrepot.trust.assertions import make_device_assertion
from entrepot.trust.enrolment import enrolment_mac, key_fingerprint
from entrepot.trust.pins import TrustStore
from entrepot.web.http import HttpClient
from entrepot.web.tls import TlsTrust

APPROVED: Final = "approved"
MAX_NAME: Final = 255


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome. ``fingerprint`` is the device key's, for the administrator to compare while ``state`` is pending."""

    device: str
    site: str
    name: str
    state: str
    fingerprint: str


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """What a device must know of its site beforehand; from a code, or told by an administrator."""

    url: str
    site: str
    fingerprint: bytes
    code: EnrolmentCode | None = None


def from_code(text: str) -> Invitation:
    """Read an enrolment code.

    Raises:
        BadInputError: not one.
    """
    code = parse_enrolment_code(text.strip())
    return Invitation(url=code.url.rstrip("/"), site=code.site, fingerprint=code.fingerprint, code=code)


def from_parts(url: str, site: str, fingerprint: str) -> Invitation:
    """An invitation without a code: an administrator will have to approve.

    Args:
        fingerprint: of the hierarchy root, in hexadecimal digits; hyphens, colons and spaces do not count.

    Raises:
        BadInputError: a value is malformed.
    """
    digits = fingerprint.lower().translate(str.maketrans("", "", "-: "))
    check_settings(Settings(url=url.rstrip("/"), site=site, root=digits), "The invitation")
    if len(digits) != 64 or not site:
        raise BadInputError(
            "Site code and the root's fingerprint are needed.",
            next_step="An administrator sees both with entrepot site status.",
        )
    return Invitation(url=url.rstrip("/"), site=site, fingerprint=bytes.fromhex(digits))


async def enrol(
    home: Path,
    invitation: Invitation,
    *,
    name: str = "",
    settings: Settings | None = None,
    clock: Clock = time.time,
) -> Enrolled:
    """Enrol this device, or take up an enrolment that was interrupted.

    Args:
        home: the agent's folder; made when missing.
        name: what the site shall call it; the computer's name when empty.
        settings: what else ``client.toml`` shall say; what it says now when None.
        clock: seconds since 1970.

    Raises:
        ConflictError: it is enrolled already.
        TrustError: the server is not of the hierarchy that the invitation names.
        UnauthenticatedError: the code is used up, expired or not valid.
        UnavailableError: the site does not answer.
    """
    places = Home(home)
    await asyncio.to_thread(places.prepare)
    with HomeLock(home, "a client's home"):
        _refuse_second(home)
        known = settings or load_settings(home)
        chosen = msgspec.structs.replace(
            known, url=invitation.url, site=invitation.site, root=invitation.fingerprint.hex()
        )
        check_settings(chosen)
        trust = await _first_contact(places, invitation, chosen)
        await asyncio.to_thread(save_settings, home, chosen)
        async with open_client(TlsTrust.hierarchy(trust.ca_certificates(now=clock())), chosen) as http:
            return await _register(home, invitation, http, (name or computer_name())[:MAX_NAME])


def _refuse_second(home: Path) -> None:
    try:
        identity = load_identity(home)
    except NotFoundError:
        return
    raise ConflictError(
        f"This client is enrolled already, as {identity.device} at site {identity.registration.site}.",
        next_step="Use another --home, or delete this one to begin anew.",
    )


async def _first_contact(places: Home, invitation: Invitation, settings: Settings) -> TrustStore:
    """Fetch the trust document from whoever answers; it proves itself by the root's fingerprint."""
    async with open_client(TlsTrust.introduction(), settings) as http:
        reply = await http.request("GET", f"{invitation.url}/mp/trust", limit=8 * MIB)
    with folder_errors(str(places.trust)):
        places.trust.unlink(missing_ok=True)  # of an attempt that failed, perhaps at another hierarchy
    trust = TrustStore(places.trust, fingerprint=invitation.fingerprint)
    trust.accept(reply.body.strip())
    if not any(entry.site == invitation.site for entry in trust.document.keys):
        raise TrustError(
            f"The hierarchy has no site {invitation.site}.", next_step="Ask for a new enrolment code of the right site."
        )
    return trust


async def _register(home: Path, invitation: Invitation, http: HttpClient, name: str) -> Enrolled:
    key = await asyncio.to_thread(device_key, home)
    nonce = (await http.request_json("POST", f"{invitation.url}/mp/enrolment/nonce", None, NonceReply)).nonce
    request = EnrolRequest(nonce=nonce, kind=Kind.DEVICE, name=name, public_key=key.public)
    if invitation.code is not None:
        mac = enrolment_mac(invitation.code.secret, nonce=nonce, kind=Kind.DEVICE, name=name, public_key=key.public)
        request = msgspec.structs.replace(request, code_id=invitation.code.code_id, mac=mac)
    reply = await http.request_json("POST", f"{invitation.url}/mp/enrolment", request, EnrolReply)
    if reply.site != invitation.site:
        raise TrustError(f"The site that answered is {reply.site}, not {invitation.site}.")
    called = reply.name if reply.name.isprintable() else ""
    registration = Registration(id=reply.id, site=reply.site, name=called[:MAX_NAME] or name, state=reply.state)
    await asyncio.to_thread(save_registration, home, registration)
    return _outcome(registration, key.public)


async def check_enrolment(home: Path, *, locked: bool = False, clock: Clock = time.time) -> Enrolled:
    """Ask whether a pending device has been approved meanwhile, and remember it.

    Args:
        home: the agent's folder.
        locked: the caller holds its lock.
        clock: seconds since 1970.

    Raises:
        NotFoundError: the device is not enrolled, or was refused.
        ConflictError: another process uses this home just now.
        UnavailableError: the site does not answer.
    """
    identity = load_identity(home)
    registration = identity.registration
    if registration.state != APPROVED:
        settings = load_settings(home)
        trust = TrustStore(Home(home).trust, fingerprint=settings.fingerprint)
        assertion = make_device_assertion(
            identity.key,
            device=registration.id,
            site=registration.site,
            body=b"",
            now=clock(),
            jti=os.urandom(16).hex(),
        )
        async with open_client(TlsTrust.hierarchy(trust.ca_certificates(now=clock())), settings) as http:
            url = f"{settings.url}/mp/enrolment/{registration.id}"
            reply = await http.request_json("GET", url, None, EnrolReply, bearer=assertion)
        if reply.state != registration.state:
            registration = msgspec.structs.replace(registration, state=reply.state)
            with contextlib.nullcontext() if locked else HomeLock(home, "a client's home"):
                await asyncio.to_thread(save_registration, home, registration)
    return _outcome(registration, identity.key.public)


def _outcome(registration: Registration, public: bytes) -> Enrolled:
    return Enrolled(
        device=registration.id,
        site=registration.site,
        name=registration.name,
        state=registration.state,
        fingerprint=key_fingerprint(public),
    )
