"""What the host's own administrator does (``entrepot host subscription …``), while the host runs or not.

Each call opens the database, changes it in one transaction, notes it in the audit log, and closes: SQLite keeps it and
a running host out of each other's way, and the host asks the database at every request.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.foresight import Foresight
from entrepot.cloud.host.services import all_services
from entrepot.cloud.host.settings import Folders, audit_log, load_settings
from entrepot.cloud.host.storage import HostStorage, Note
from entrepot.cloud.host.subscriptions import ACTIVE, DISABLED, CertificateRow, SubscriptionRow, Subscriptions
from entrepot.core.times import Clock
from entrepot.trust import inspection

_LOCAL: Final = "local"


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription stores. ``size`` in bytes, None: of some service it was never noted; ``charged``: what counts
    towards its quota (small files count for more); ``at``: when the oldest of the figures in it was noted, seconds
    since 1970, 0: that is not known."""

    size: int | None
    charged: int = 0
    at: int = 0


def _sum(before: Stored | None, note: Note | None) -> Stored:
    if note is None or (before is not None and before.size is None):
        return Stored(size=None)
    if before is None or before.size is None:
        return Stored(size=note.stored, charged=note.usage.charged, at=note.at)
    charged = before.charged + note.usage.charged
    return Stored(size=before.size + note.stored, charged=charged, at=min(before.at, note.at))


class HostAdministration:
    """Local administration of one host's home.

    Raises:
        NotFoundError: the home was not set up.
    """

    def __init__(self, home: Path, *, clock: Clock = time.time) -> None:
        self._settings = load_settings(home)
        self._folders = Folders(home)
        self._audit = audit_log(self._folders, self._settings, clock)
        self._clock = clock

    def add_subscription(
        self,
        name: str,
        *,
        storage_quota: int | None = None,
        instance_quota: int | None = None,
        certificate: bytes | None = None,
    ) -> SubscriptionRow:
        """Create a subscription; quotas default to the host's settings.

        Args:
            certificate: its management certificate (``.cer``, DER or PEM), to be let in at once.

        Raises:
            BadInputError: no proper name or quota; not a certificate, or an expired one. Nothing was made.
            ConflictError: the name is taken.
        """
        if certificate is not None:
            inspection.check_validity(inspection.load_cer(certificate), self._clock())
        with self._open() as subscriptions:
            row = subscriptions.add(
                name,
                storage_quota=self._settings.storage_quota if storage_quota is None else storage_quota,
                instance_quota=self._settings.instance_quota if instance_quota is None else instance_quota,
                now=self._clock(),
            )
        self._audit.note("subscription.add", actor=_LOCAL, subject=row.id, name=name)
        if certificate is not None:
            self.upload_certificate(row.id, certificate)
        return row

    def subscriptions(self) -> list[SubscriptionRow]:
        """All subscriptions, by name."""
        with self._open() as subscriptions:
            return subscriptions.all()

    def instances(self) -> dict[str, int]:
        """How many instances the services of each subscription have, by its id; of one without services: nothing."""
        with self._open() as subscriptions:
            return subscriptions.instances()

    def stored(self, *, counting: Callable[[str], None] | None = None) -> dict[str, Stored]:
        """What the services of each subscription store, by its id; of one without services: nothing.

        Args:
            counting: what lies in folders is counted now, file by file; told before each service. Else, and of stores
                far away, it is as the host noted it last.
        """
        storage, found = HostStorage(self._folders, self._settings.store), dict[str, Stored]()
        with contextlib.closing(HostDatabase(self._folders.database)) as database:
            rows = all_services(database)
        for row in rows:
            if counting is not None:
                counting(row.name)
            note = storage.noted(row) if counting is None else storage.counted(row)
            found[row.subscription] = _sum(found.get(row.subscription), note)
        return found

    def set_quotas(
        self, id_or_name: str, *, storage_quota: int | None = None, instance_quota: int | None = None
    ) -> SubscriptionRow:
        """Change a subscription's quotas; what is None stays. They count at once, while the host runs, too.

        Raises:
            NotFoundError: there is none.
            BadInputError: no proper quota.
            ConflictError: its services have more instances than that.
        """
        with self._open() as subscriptions:
            found = subscriptions.find(id_or_name).id
            subscriptions.set_quotas(found, storage_quota=storage_quota, instance_quota=instance_quota)
            row = subscriptions.find(found)
        self._audit.note(
            "subscription.set",
            actor=_LOCAL,
            subject=row.id,
            storage_quota=row.storage_quota,
            instance_quota=row.instance_quota,
        )
        return row

    def disable_subscription(self, id_or_name: str) -> SubscriptionRow:
        """Serve its services no more and refuse its certificates; content stays.

        Raises:
            NotFoundError: there is none.
        """
        return self._set_state(id_or_name, DISABLED)

    def enable_subscription(self, id_or_name: str) -> SubscriptionRow:
        """Take :meth:`disable_subscription` back.

        Raises:
            NotFoundError: there is none.
        """
        return self._set_state(id_or_name, ACTIVE)

    def remove_subscription(self, id_or_name: str) -> SubscriptionRow:
        """Remove a subscription that has no services.

        Raises:
            NotFoundError: there is none.
            ConflictError: it still has services.
        """
        with self._open() as subscriptions:
            row = subscriptions.find(id_or_name)
            subscriptions.remove(row.id)
        self._audit.note("subscription.remove", actor=_LOCAL, subject=row.id)
        return row

    def upload_certificate(self, id_or_name: str, cer: bytes) -> CertificateRow:
        """Let a management certificate (``.cer``, DER or PEM) in.

        Raises:
            NotFoundError: no such subscription.
            BadInputError: not a certificate, or expired.
            ConflictError: it was revoked.
        """
        with self._open() as subscriptions:
            row = subscriptions.upload_certificate(subscriptions.find(id_or_name).id, cer, now=self._clock())
        self._audit.note("certificate.upload", actor=_LOCAL, subject=row.subscription, thumbprint=row.thumbprint)
        return row

    def certificates(self, id_or_name: str) -> list[CertificateRow]:
        """A subscription's certificates, revoked ones too.

        Raises:
            NotFoundError: no such subscription.
        """
        with self._open() as subscriptions:
            return subscriptions.certificates(subscriptions.find(id_or_name).id)

    def revoke_certificate(self, id_or_name: str, thumbprint: str) -> CertificateRow:
        """Refuse a certificate from now on, and the access tokens it opened.

        Raises:
            NotFoundError: no such subscription or certificate.
        """
        with self._open() as subscriptions:
            row = subscriptions.revoke_certificate(subscriptions.find(id_or_name).id, thumbprint, now=self._clock())
        self._audit.note("certificate.revoke", actor=_LOCAL, subject=row.subscription, thumbprint=row.thumbprint)
        return row

    def audited(self, count: int) -> list[dict[str, str | int]]:
        """The newest so many lines of the audit log, oldest first: time, action, actor, subject, outcome, and details.

        Raises:
            StorageError: the disk refuses.
        """
        return self._audit.last(count)

    def _set_state(self, id_or_name: str, state: str) -> SubscriptionRow:
        with self._open() as subscriptions:
            row = subscriptions.find(id_or_name)
            subscriptions.set_state(row.id, state)
            row = subscriptions.find(row.id)
        self._audit.note("subscription.state", actor=_LOCAL, subject=row.id, state=state)
        return row

    @contextlib.contextmanager
    def foresight(self) -> Iterator[Foresight]:
        """What orders to a host would do; none is carried out."""
        with contextlib.closing(HostDatabase(self._folders.database, rehearsal=True)) as database:
            yield Foresight(database, clock=self._clock)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Subscriptions]:
        with contextlib.closing(HostDatabase(self._folders.database)) as database:
            yield Subscriptions(database)
