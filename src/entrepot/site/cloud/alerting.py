"""What administrators do with alerts; what becomes of one is decided in ``rules.alerts``."""

from collections.abc import Callable

from sqlalchemy import Connection

from entrepot.core.times import HOUR, Clock
from entrepot.database import alerts, collection
from entrepot.database.alerts import StoredAlert
from entrepot.database.engine import Database
from entrepot.rules.alerts import Alert, Step, annotate, cancel, disable, enable, postpone

_GAP = "accounting_gap"


class Alerting:
    """Postpone, cancel, disable, enable, comment."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def postpone(self, alert_id: str, hours: int, *, by: str, comment: str) -> StoredAlert:
        """Look again after so many hours."""
        now = self._clock()
        return await self._change(
            alert_id, by, lambda alert: postpone(alert, now + hours * HOUR, comment=comment, now=now)
        )

    async def cancel(self, alert_id: str, *, by: str, comment: str) -> StoredAlert:
        """Close an alert by hand. A gap in the records is thereby accepted: only a new one alerts again."""
        now = self._clock()
        return await self._change(
            alert_id, by, lambda alert: cancel(alert, by=by, comment=comment, now=now), accepts=True
        )

    async def disable(self, alert_id: str, *, by: str, comment: str) -> StoredAlert:
        """Stop it from opening."""
        now = self._clock()
        return await self._change(alert_id, by, lambda alert: disable(alert, by=by, comment=comment, now=now))

    async def enable(self, alert_id: str, *, by: str, comment: str) -> StoredAlert:
        """Let it open again."""
        now = self._clock()
        return await self._change(alert_id, by, lambda alert: enable(alert, comment=comment, now=now))

    async def annotate(self, alert_id: str, *, by: str, comment: str) -> StoredAlert:
        """Replace the comment."""
        now = self._clock()
        return await self._change(alert_id, by, lambda alert: annotate(alert, comment=comment, now=now))

    async def _change(
        self, alert_id: str, by: str, move: Callable[[Alert], Step], *, accepts: bool = False
    ) -> StoredAlert:
        return await self._database.write(_change, alert_id, move, by, accepts=accepts)


def _change(
    connection: Connection, alert_id: str, move: Callable[[Alert], Step], by: str, *, accepts: bool
) -> StoredAlert:
    changed = alerts.change(connection, alert_id, move, by=by)
    if accepts and changed.alert.type == _GAP:
        collection.accept_gaps(connection, changed.alert.subject)
    return changed
