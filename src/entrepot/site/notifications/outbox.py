"""Delivers what waits in the outbox. At least once: a message is settled only after it was taken, and until then comes
back, under the same id, also after a crash."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection

from entrepot.core.encoding import to_json
from entrepot.core.errors import BadInputError, ConflictError, EntrepotError, IntegrityError, TrustError
from entrepot.core.secret import Secret
from entrepot.core.times import DAY, Clock
from entrepot.database import notifications
from entrepot.database.engine import Database
from entrepot.database.notifications import MailServer, Subscription, Waiting
from entrepot.protocol.alertapi import AlertMessage, Channel, WebhookBody
from entrepot.rules.notifying import RETRIES, mail_addresses
from entrepot.rules.retry import next_pause
from entrepot.site.notifications import mail, webhook
from entrepot.site.notifications.mail import MailAccount
from entrepot.site.notifications.texts import render, translated, worded
from entrepot.trust.vault import ServerVault

LOOK_SECONDS: Final = 5.0
LEASE_SECONDS: Final = 300
MOST: Final = 100
AT_ONCE: Final = 16
KEEP_SECONDS: Final = 30 * DAY

T = TypeVar("T")

log = structlog.get_logger("site.notifications")


def _digests(waiting: Sequence[Waiting]) -> list[list[Waiting]]:
    """What is sent together: what was tried before goes again as it was, what is new by itself."""
    tried = sorted({one.attempts for one in waiting}, reverse=True)
    return [[one for one in waiting if one.attempts == attempts] for attempts in tried]


def _key(ids: Sequence[str]) -> str:
    """By which a receiver knows a message again: the same for the same content only."""
    return ids[0] if len(ids) == 1 else hashlib.sha256("\n".join(ids).encode()).hexdigest()[:32]


def webhook_secret(subscription: str) -> str:
    """The name under which a webhook's secret is sealed."""
    return f"webhook/{subscription}"


def mail_password(site: str) -> str:
    """The name under which the mail server's password is sealed."""
    return f"mail-password/{site}"


class Outbox:
    """Delivers for the subscriptions of one site."""

    def __init__(
        self,
        database: Database,
        vault: ServerVault,
        *,
        site: str,
        clock: Clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._vault = vault
        self._site = site
        self._clock = clock
        self._draw = draw
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._busy: dict[str, asyncio.Task[int]] = {}

    async def serve(self) -> None:
        """Deliver until cancelled. Nobody waits for a slow receiver but the messages that are for it."""
        try:
            while True:
                await self._guarded(self._start_due(guarded=True))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T | None:
        try:
            return await work
        except EntrepotError as error:
            log.warning("outbox_failed", error=str(error), code=error.code)
        except Exception:  # a defect seen at one message must not end all background work
            log.exception("outbox_broke")
        return None

    async def run_once(self) -> int:
        """Deliver what is due, and wait for it; how many messages were taken by their receivers.

        Raises:
            EntrepotError: by the database; what was taken up meanwhile comes back.
        """
        return sum(await asyncio.gather(*await self._start_due()))

    async def _start_due(self, *, guarded: bool = False) -> list[asyncio.Task[int]]:
        """Start to deliver for everyone for whom something is due and nothing is under way."""
        now = int(self._clock())
        self._busy = {one: task for one, task in self._busy.items() if not task.done()}
        due = await self._database.read(notifications.due_subscriptions, site=self._site, now=now)
        started = []
        for subscription in due:
            if subscription.id not in self._busy:
                work = self._one(subscription, guarded=guarded)
                self._busy[subscription.id] = asyncio.create_task(work)
                started.append(self._busy[subscription.id])
        await self._database.write(_prune, now - KEEP_SECONDS)
        return started

    async def _one(self, subscription: Subscription, *, guarded: bool) -> int:
        async with self._gate:
            work = self._deliver_due(subscription)
            return (await self._guarded(work) or 0) if guarded else await work

    async def _deliver_due(self, subscription: Subscription) -> int:
        now = int(self._clock())
        waiting = await self._database.write(
            notifications.take, subscription, now=now, until=now + LEASE_SECONDS, limit=MOST
        )
        if not waiting:
            return 0
        batches = _digests(waiting) if subscription.digest_minutes else [[one] for one in waiting]
        taken = 0
        for batch in batches:
            count = await self._deliver_batch(subscription, batch)
            if count is None:  # the rest would only wait for the same receiver; it is due again when its lease ends
                break
            taken += count
            if self._clock() - now > LEASE_SECONDS / 2:  # a slow one: what is left comes back, to us or another process
                break
        return taken

    async def _deliver_batch(self, subscription: Subscription, batch: Sequence[Waiting]) -> int | None:
        """Number of messages taken; None when the receiver does not take any now."""
        ids = [one.id for one in batch]
        try:
            events = [worded(one.body, one.said, subscription.language) for one in batch]
            await self.deliver(subscription, events, key=_key(ids))
        except EntrepotError as error:
            await self._failed(subscription, batch, error)
            return None if error.retryable else 0
        await self._database.write(notifications.settle, subscription.id, ids, now=int(self._clock()))
        return len(ids)

    async def _failed(self, subscription: Subscription, batch: Sequence[Waiting], error: EntrepotError) -> None:
        now = self._clock()
        pause = next_pause(batch[0].attempts + 1, self._draw(), RETRIES)
        due = None if pause is None else int(now + pause)
        log.warning("alert_not_delivered", subscription=subscription.id, error=str(error), again=due or "never")
        await self._database.write(
            notifications.put_back,
            subscription.id,
            [one.id for one in batch],
            due=due,
            error=str(error)[:500],
            now=int(now),
        )

    async def deliver(self, subscription: Subscription, events: Sequence[AlertMessage], *, key: str) -> str:
        """Deliver now, in one message; what the receiver said.

        Raises:
            EntrepotError: it was not taken: not now (retryable), or not at all.
        """
        if subscription.channel is Channel.MAIL:
            return await self._mail(subscription, events, key)
        body = WebhookBody(
            id=key,
            site=self._site,
            subscription=subscription.id,
            language=subscription.language,
            events=tuple(translated(event, subscription.language) for event in events),
        )
        return await webhook.post(
            subscription.target,
            to_json(body),
            key=key,
            secret=self._open(webhook_secret(subscription.id), subscription.sealed),
            timestamp=int(self._clock()),
            private_networks=subscription.private_networks,
            authority=subscription.authority,
        )

    async def _mail(self, subscription: Subscription, events: Sequence[AlertMessage], key: str) -> str:
        server = await self._database.read(notifications.get_mail_server, self._site)
        account = self.account(server)
        to = mail_addresses(subscription.target)
        rendered = render(events, language=subscription.language, site=self._site, subscription=subscription.name)
        message = mail.compose(
            rendered, sender=account.sender, to=to, message_id=key, site=self._site, now=self._clock()
        )
        return await asyncio.to_thread(mail.send, account, message, to)

    def account(self, server: MailServer | None) -> MailAccount:
        """The mail server with its password opened.

        Raises:
            ConflictError: none is set.
            TrustError: the password does not open here.
        """
        if server is None:
            raise ConflictError("No mail server is set.", next_step="Run: entrepot alert mail set --help")
        return MailAccount(
            host=server.host,
            port=server.port,
            security=server.security,
            sender=server.sender,
            authority=server.authority,
            account=server.account,
            password=self._open(mail_password(self._site), server.sealed) if server.sealed else Secret(b""),
        )

    def _open(self, name: str, sealed: bytes) -> Secret:
        try:
            return self._vault.open(name, sealed)
        except (IntegrityError, BadInputError):
            raise TrustError(
                "A credential of the alert subscriptions does not open on this server.",
                next_step="After a restore onto another computer, set it again.",
            ) from None


def _prune(connection: Connection, before: int) -> None:
    notifications.prune(connection, before=before)
