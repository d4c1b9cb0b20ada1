"""The audit log: who changed what, as JSON lines, one durable line per change (``<home>/audit.log``).

Refused requests are in it too, so that a misused certificate shows. No line holds a token, a key or a request body.
"""

import os
import threading
from pathlib import Path

from entrepot.core.encoding import to_json
from entrepot.core.times import Clock, iso
from entrepot.durable.files import storage_errors

_LONGEST = 500


class AuditLog:
    """Appends to the log. Thread-safe, and safe with other processes that append to it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()

    def note(self, action: str, *, actor: str, subject: str, outcome: str = "done", **details: str | int) -> None:
        """Add one line.

        Args:
            action: a verb and its object, such as ``service.stop``.
            actor: subscription and certificate thumbprint, or ``local`` for the host's own administrator.
            subject: what it was done to.
            outcome: ``done``, or the code of the error.

        Raises:
            StorageError: the disk refuses.
        """
        line = {
            "time": iso(self._clock()),
            "action": action,
            "actor": actor[:_LONGEST],
            "subject": subject[:_LONGEST],
            "outcome": outcome,
        } | {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in details.items()}
        with self._lock, storage_errors("the audit log"):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, to_json(line) + b"\n")
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
