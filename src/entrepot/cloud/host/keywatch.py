"""Keeps a running host at the key that its home says: whoever replaces it there need not know that the host runs."""

import asyncio

import structlog

from entrepot.cloud.host.audit import AuditLog
from entrepot.cloud.host.identity import HostKey, Standing
from entrepot.core.errors import EntrepotError
from entrepot.core.times import Clock

LOOK_SECONDS = 1.0
_log = structlog.get_logger("entrepot.host")


class KeyWatch:
    """Uses an announced key when its time has come, and notices what an administrator's command did.

    Attributes:
        standing: what sites are told.

    Raises:
        EntrepotError: there is no key that can be used.
    """

    def __init__(self, key: HostKey, audit: AuditLog, clock: Clock) -> None:
        self._key = key
        self._audit = audit
        self._clock = clock
        self.standing: Standing = key.standing()
        self.look()

    def look(self) -> bool:
        """Look once; whether another certificate is to be served than before."""
        before = self.standing
        if self._key.switch(due_at=self._clock()) is not None:
            self._audit.note("identity.switch", actor="host", subject=self._key.standing().pin, before=before.pin)
        self.standing = self._key.standing()
        if self.standing.pin == before.pin:
            return False
        _log.info("host.key_replaced", pin=self.standing.pin)
        return True

    async def run(self, renew: asyncio.Event) -> None:
        """Look again and again until cancelled.

        Args:
            renew: set when the files of another certificate are to be read.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self.look):
                    renew.set()
            except (EntrepotError, OSError) as error:
                _log.error("host.key_not_looked_at", problem=str(error))
