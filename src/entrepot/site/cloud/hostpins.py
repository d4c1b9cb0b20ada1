"""By which pins a site recognises cloud hosts, and how they follow a host that replaces its key.

A host announces its next pin to whoever it lets in over a connection that the present pin vouches for (``cloud.host``).
The site keeps it with the cloud point, durably, and accepts both from then on; when the host says that it serves the
next one, that is the present one, and the old one is accepted no more. A site that was away meanwhile, or whose host's
key had to be replaced at once, learns nothing by itself: an administrator compares the pin and accepts it by hand.
"""

from collections.abc import Callable

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError, ConflictError, ForbiddenError, TrustError, UnauthenticatedError
from entrepot.database import cloud
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.protocol.cloudapi import HOST, AcceptedPin
from entrepot.protocol.cloudhost import Subscription
from entrepot.site.cloud.providers import Providers, close_provider

log = structlog.get_logger("site.cloud")


class Pins(msgspec.Struct, frozen=True, kw_only=True):
    """The present pin of a host and its next one (hexadecimal digits); empty: none."""

    present: str
    following: str = ""


def learned(held: Pins, told: Subscription) -> Pins:
    """The pins to go on with, after a host that is recognised by one of those that are held has told its own.

    Nothing but what was announced before ever becomes the present pin: an answer that names a stranger is not believed.
    """
    if told.pin == held.present and told.pin:
        return Pins(present=held.present, following=told.next_pin)
    if told.pin == held.following and told.pin:
        return Pins(present=told.pin, following=told.next_pin)
    return held


def changes(point: CloudPoint, before: CloudPoint, told: Subscription | None) -> dict[str, object]:
    """What to write of a cloud point after its host was asked.

    Args:
        before: the point as it was when the question was put; if its pins were changed since, nothing is learned.
    """
    held = pins_of(point)
    if told is None or held != pins_of(before):
        return {}
    now = learned(held, told)
    if now == held:
        return {}
    log.info("host_pins_changed", point=point.point, pin=now.present, next_pin=now.following, before=held.present)
    return {"host_pin": now.present, "host_next_pin": now.following}


def pins_of(point: CloudPoint) -> Pins:
    """Those that are kept of a cloud point's host."""
    return Pins(present=point.host_pin, following=point.host_next_pin)


class HostPins:
    """What an administrator does about pins.

    Args:
        points: gives the cloud points of this site.
    """

    def __init__(
        self, database: Database, providers: Providers, points: Callable[[Connection], list[CloudPoint]]
    ) -> None:
        self._database = database
        self._providers = providers
        self._points = points

    async def accept(self, name_or_id: str, pin: str) -> AcceptedPin:
        """Recognise a cloud point's host by another pin from now on, once the host has shown the certificate.

        Every cloud point of this site at that host that had the same pin follows.

        Raises:
            NotFoundError: there is no such cloud point.
            BadInputError: it is not at a cloud host.
            TrustError: the host shows another certificate; nothing was changed.
            UnavailableError: it does not answer; nothing was changed.
            ConflictError: another pin was kept while the host was asked; nothing was changed.
        """
        pin = bytes.fromhex(pin).hex()  # as hosts tell it
        point = await self._database.read(cloud.get_cloud_point, name_or_id)
        if point.provider != HOST:
            raise BadInputError(f"{point.name} is not at a cloud host: it is recognised by no pin.")
        await self._try(point, pin)
        names = await self._database.write(self._keep, point, pin)
        log.info("host_pin_accepted", host=point.host_url, pin=pin, before=point.host_pin, points=names)
        return AcceptedPin(host_url=point.host_url, before=point.host_pin, pin=pin, points=names)

    async def _try(self, point: CloudPoint, pin: str) -> None:
        certificate = await self._database.read(cloud.certificate, point.management_certificate)
        account = await self._providers.account_of(point)
        account = msgspec.structs.replace(account, host_pin=pin, host_next_pin="")
        key = self._providers.open_management_key(certificate)
        provider = self._providers.connect(account, certificate.certificate, key)
        try:
            await provider.check()
        except (UnauthenticatedError, ForbiddenError):
            return  # it has shown the certificate, and then refused ours: that is another matter
        except TrustError as error:
            raise TrustError(
                f"Nothing was changed: {error.message}",
                next_step="Compare with what the host's administrator sees: entrepot host identity show",
            ) from error
        finally:
            await close_provider(provider)

    def _keep(self, connection: Connection, accepted: CloudPoint, pin: str) -> tuple[str, ...]:
        """One transaction: the names of the points that follow."""
        host = accepted.host_url.rstrip("/")
        found = [
            point
            for point in self._points(connection)
            if point.provider == HOST and point.host_url.rstrip("/") == host and point.host_pin == accepted.host_pin
        ]
        if accepted.point not in {point.point for point in found}:
            raise ConflictError(
                f"The pin of {accepted.name}'s host was changed meanwhile.",
                next_step=f"See entrepot cloud show {accepted.name}; then do this again, if it is still needed.",
            )
        for point in found:  # always in one order: two requests never wait for each other in a circle
            cloud.update_cloud_point(connection, point.point, host_pin=pin, host_next_pin="")
        return tuple(point.name for point in found)
