"""What administrators do with subscriptions, the mail server and maintenance windows."""

import asyncio
import secrets
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError
from entrepot.core.ids import prefixed_id
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database import cloud, maintenance, notifications
from entrepot.database.engine import Database
from entrepot.database.maintenance import StoredWindow
from entrepot.database.names import check_name
from entrepot.database.notifications import MailServer, Subscription
from entrepot.protocol.alertapi import (
    SECRET_BYTES,
    AlertMessage,
    AlertSubscriptionChange,
    AlertSubscriptionInfo,
    AlertSubscriptionRequest,
    Channel,
    Delivered,
    MailServerInfo,
    MailServerRequest,
    MaintenanceWindowInfo,
    MaintenanceWindowRequest,
    Repeat,
    Severity,
)
from entrepot.rules import maintenance as rules
from entrepot.rules.notifying import check_types, check_webhook, mail_addresses
from entrepot.site.notifications.mail import MailAccount, check_account
from entrepot.site.notifications.outbox import Outbox, mail_password, webhook_secret
from entrepot.site.notifications.texts import TEST, catalogue
from entrepot.trust.vault import ServerVault
from entrepot.web.tls import TlsTrust

_CHANGEABLE: Final = (
    "name",
    "target",
    "language",
    "types",
    "severities",
    "digest_minutes",
    "private_networks",
    "authority",
)


class Subscriptions:
    """The use cases of one site server."""

    def __init__(self, database: Database, vault: ServerVault, outbox: Outbox, *, site: str, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._outbox = outbox
        self._site = site
        self._clock = clock

    async def add(self, request: AlertSubscriptionRequest) -> AlertSubscriptionInfo:
        """Keep a subscription; its secret is sealed and never shown.

        Raises:
            BadInputError: a target, type or secret that will not do.
            ConflictError: the name is taken.
        """
        subscription = await asyncio.to_thread(self._checked, request)
        await self._database.write(notifications.add_subscription, subscription)
        return (await self._database.read(_infos, [subscription]))[0]

    async def change(self, name_or_id: str, change: AlertSubscriptionChange) -> AlertSubscriptionInfo:
        """Change what is given. The rest stays: the secret, what waits, and what was delivered.

        Raises:
            NotFoundError: there is none.
            BadInputError: another site's server delivers for it, or what came of it will not do.
            ConflictError: another has that name.
        """
        changed = await self._database.write(self._change, name_or_id, change)
        return (await self._database.read(_infos, [changed]))[0]

    def _change(self, connection: Connection, name_or_id: str, change: AlertSubscriptionChange) -> Subscription:
        before = notifications.get_subscription(connection, name_or_id, locked=True)
        self._own(before)
        given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
        wanted = {name: getattr(before, name) for name in _CHANGEABLE} | given
        request = AlertSubscriptionRequest(channel=before.channel, **wanted)
        made = self._checked(request, before)
        notifications.change_subscription(connection, before, made, now=int(self._clock()))
        return notifications.get_subscription(connection, made.id)

    def _own(self, found: Subscription) -> None:
        if found.site != self._site:
            raise BadInputError(f"The server of site {found.site} delivers for it.", next_step="Ask that one.")

    def _checked(self, request: AlertSubscriptionRequest, before: Subscription | None = None) -> Subscription:
        """The subscription that is asked for, or what becomes of one that is there."""
        check_types(request.types)
        new_id = prefixed_id("asub", secrets.token_bytes(8)) if before is None else before.id
        sealed = b"" if before is None else before.sealed
        if request.channel is Channel.MAIL:
            target = "; ".join(mail_addresses(request.target))
            if request.secret or request.authority or request.private_networks:
                raise BadInputError("A secret, an authority and private networks are for webhooks.")
        else:
            target = request.target.strip()
            check_webhook(target, private_networks=request.private_networks)
            if request.authority:
                TlsTrust.system(request.authority).verifier()
            if request.secret or not sealed:
                sealed = self._sealed(new_id, request.secret)
        made = Subscription(
            id=new_id,
            name=check_name(request.name, "subscription"),
            channel=request.channel,
            target=target,
            language=request.language,
            types=request.types,
            severities=request.severities,
            digest_minutes=request.digest_minutes,
            private_networks=request.private_networks,
            authority=request.authority,
            sealed=sealed,
            site=self._site,
            created=int(self._clock()),
        )
        if before is None:
            return made
        return msgspec.structs.replace(made, created=before.created, delivered=before.delivered, error=before.error)

    def _sealed(self, subscription: str, secret: str) -> bytes:
        if not SECRET_BYTES[0] <= len(secret.encode()) <= SECRET_BYTES[1]:
            raise BadInputError(f"The secret that signs a webhook has {SECRET_BYTES[0]} bytes or more.")
        return self._vault.seal(webhook_secret(subscription), Secret(secret))

    async def listed(self) -> list[AlertSubscriptionInfo]:
        """All subscriptions of the hierarchy, by name."""
        return await self._database.read(_all_infos)

    async def delete(self, name_or_id: str) -> None:
        """Forget one, and what waits for it.

        Raises:
            NotFoundError: there is none.
        """
        await self._database.write(notifications.delete_subscription, name_or_id)

    async def test(self, name_or_id: str) -> Delivered:
        """Deliver a test message now.

        Raises:
            NotFoundError: there is no such subscription.
            BadInputError: another site's server delivers for it.
            EntrepotError: it was not delivered, and why.
        """
        found = await self._database.read(notifications.get_subscription, name_or_id)
        self._own(found)
        message = self._test_message(found)
        detail = await self._outbox.deliver(found, [message], key=message.id)
        return Delivered(target=found.target, detail=detail)

    def _test_message(self, subscription: Subscription) -> AlertMessage:
        return AlertMessage(
            id=prefixed_id("msg", secrets.token_bytes(8)),
            alert="",
            type="test",
            severity=Severity.INFORMATIONAL,
            event="test",
            subject="",
            subject_name=self._site,
            message=catalogue(subscription.language).get(TEST, TEST),
            at=int(self._clock()),
            occurrences=0,
            title="Test",
        )

    async def mail_server(self) -> MailServerInfo:
        """The site's mail server, without its password."""
        found = await self._database.read(notifications.get_mail_server, self._site)
        return MailServerInfo() if found is None else _mail_info(found)

    async def set_mail_server(self, request: MailServerRequest) -> MailServerInfo:
        """Keep a mail server; its password is sealed and never shown.

        Raises:
            BadInputError: a sender, or a password without TLS, that will not do.
            TrustError: the authority cannot be read.
        """
        password = Secret(request.password)
        check_account(
            MailAccount(
                host=request.host,
                port=request.port,
                security=request.security,
                sender=request.sender,
                authority=request.authority,
                account=request.account,
                password=password,
            )
        )
        server = MailServer(
            host=request.host,
            port=request.port,
            security=request.security,
            account=request.account,
            sealed=self._vault.seal(mail_password(self._site), password) if request.account else b"",
            sender=request.sender,
            authority=request.authority,
            changed=int(self._clock()),
        )
        await self._database.write(notifications.set_mail_server, self._site, server)
        return _mail_info(server)

    async def test_mail(self, address: str) -> Delivered:
        """Send a test mail now.

        Raises:
            EntrepotError: it was not taken, and why.
        """
        request = AlertSubscriptionRequest(name="test", channel=Channel.MAIL, target=address)
        subscription = self._checked(request)
        message = self._test_message(subscription)
        detail = await self._outbox.deliver(subscription, [message], key=message.id)
        return Delivered(target=address, detail=detail)

    async def add_window(self, request: MaintenanceWindowRequest) -> MaintenanceWindowInfo:
        """Keep a maintenance window.

        Raises:
            BadInputError: it makes no sense.
            NotFoundError: there is no such cloud point.
            ConflictError: the name is taken.
        """
        check_types(request.types)
        window = rules.Window(
            start=request.start,
            zone=request.zone,
            minutes=request.minutes,
            repeat=rules.Repeat(request.repeat.value),
            types=request.types,
        )
        rules.check_window(window)
        stored = await self._database.write(_add_window, request, window, int(self._clock()))
        return _window_info(stored, self._clock())

    async def windows(self) -> list[MaintenanceWindowInfo]:
        """All maintenance windows, by name."""
        now = self._clock()
        return [_window_info(one, now) for one in await self._database.read(maintenance.windows)]

    async def delete_window(self, name_or_id: str) -> None:
        """Forget a maintenance window.

        Raises:
            NotFoundError: there is none.
        """
        await self._database.write(maintenance.delete_window, name_or_id)


def _add_window(
    connection: Connection, request: MaintenanceWindowRequest, window: rules.Window, now: int
) -> StoredWindow:
    subject = cloud.get_cloud_point(connection, request.cloud_point).point if request.cloud_point else ""
    stored = StoredWindow(
        id=prefixed_id("mw", secrets.token_bytes(8)), name=request.name, subject=subject, window=window
    )
    maintenance.add_window(connection, stored, now=now)
    return stored


def _window_info(stored: StoredWindow, now: float) -> MaintenanceWindowInfo:
    window = stored.window
    return MaintenanceWindowInfo(
        id=stored.id,
        name=stored.name,
        start=window.start,
        minutes=window.minutes,
        zone=window.zone,
        repeat=Repeat(window.repeat.value),
        cloud_point=stored.subject,
        types=window.types,
        open=rules.is_open(window, now),
    )


def _mail_info(server: MailServer) -> MailServerInfo:
    return MailServerInfo(
        host=server.host,
        port=server.port,
        security=server.security,
        account=server.account,
        sender=server.sender,
        changed=server.changed,
    )


def _all_infos(connection: Connection) -> list[AlertSubscriptionInfo]:
    return _infos(connection, notifications.subscriptions(connection))


_NO_MAIL: Final = "No mail server is set: entrepot alert mail set --help"


def _infos(connection: Connection, found: list[Subscription]) -> list[AlertSubscriptionInfo]:
    counts = notifications.counts(connection)
    sites = {one.site for one in found if one.channel is Channel.MAIL}
    without = {site for site in sites if notifications.get_mail_server(connection, site) is None}
    return [
        AlertSubscriptionInfo(
            id=one.id,
            name=one.name,
            channel=one.channel,
            target=one.target,
            language=one.language,
            types=one.types,
            severities=one.severities,
            digest_minutes=one.digest_minutes,
            private_networks=one.private_networks,
            site=one.site,
            created=one.created,
            delivered=one.delivered,
            error=one.error or (_NO_MAIL if one.channel is Channel.MAIL and one.site in without else ""),
            waiting=counts.get((one.id, notifications.WAITING), 0),
            failed=counts.get((one.id, notifications.FAILED), 0),
        )
        for one in found
    ]
