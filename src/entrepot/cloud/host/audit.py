"""The audit log: who changed what, as JSON lines, one durable line per change.

Refused orders and sign-ins are in it too, so that a misused certificate shows; what comes without a good token is no
order. No line holds a token, a key or a request body.

The log is bounded, and nobody can push another's lines out of it: what a subscription does is in files of its own
(``<home>/audit-sub-….log``), and so is what nobody in particular was refused (``audit-unknown.log``); what the host and
its administrator did is in ``audit.log``. Who reads finds all in the order of time.
"""

import heapq
import re
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from entrepot.cloud.host.auditfile import NAME, AuditFile, Line
from entrepot.core.ids import is_prefixed_id
from entrepot.core.sizes import MIB
from entrepot.core.times import Clock
from entrepot.durable.files import storage_errors

ROTATE_BYTES: Final = 16 * MIB
FILES: Final = 12
UNKNOWN: Final = "unknown"
"""The actor of what nobody in particular was refused."""
_LONGEST: Final = 500
_OF_OTHERS: Final = re.compile(rf"-(?P<who>sub-[0-9a-f]{{16}}|{UNKNOWN}){NAME}")
"""How the names of files end that are not the administrator's own."""


class AuditLog:
    """Writes and reads the log. Thread-safe, and safe with other processes that append to it.

    Args:
        path: the administrator's own file; the others lie beside it.
        rotate_bytes: size at which a file is renamed and begun anew.
        files: how many renamed ones of each stay; the oldest go.
    """

    def __init__(self, path: Path, clock: Clock, *, rotate_bytes: int = ROTATE_BYTES, files: int = FILES) -> None:
        self._path = path
        self._clock = clock
        self._rotate_bytes = rotate_bytes
        self._files = files

    def note(self, action: str, *, actor: str, subject: str, outcome: str = "done", **details: str | int) -> None:
        """Add one line.

        Args:
            action: a verb and its object, such as ``service.stop``.
            actor: subscription and certificate thumbprint, ``local`` for the host's own administrator, ``host`` for
                what it does by itself, or :data:`UNKNOWN`.
            subject: what it was done to.
            outcome: ``done``, or the code of the error.

        Raises:
            StorageError: the disk refuses.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        line = {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "action": action,
            "actor": actor[:_LONGEST],
            "subject": subject[:_LONGEST],
            "outcome": outcome,
        } | {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in details.items()}
        self._file(_whose(actor)).append(line)

    def last(self, count: int) -> list[Line]:
        """The newest so many lines of all files, oldest first. A line that a crash cut off is left out.

        Raises:
            StorageError: the disk refuses.
        """
        newest = list[Line]()
        for who in (*self._others(), ""):
            with closing(self._file(who).newest_first()) as lines:  # one file is open at a time, however many there are
                newest = list(islice(heapq.merge(newest, lines, key=_time, reverse=True), count))
        return newest[::-1]

    def _file(self, who: str) -> AuditFile:
        path = self._path.with_stem(f"{self._path.stem}-{who}") if who else self._path
        return AuditFile(path, self._clock, rotate_bytes=self._rotate_bytes, files=self._files)

    def _others(self) -> list[str]:
        with storage_errors("the audit log"):
            names = [one.name for one in self._path.parent.iterdir() if one.name.startswith(self._path.stem)]
        matched = (_OF_OTHERS.fullmatch(name, len(self._path.stem)) for name in names)
        return sorted({match["who"] for match in matched if match})


def _whose(actor: str) -> str:
    """Whose file a line belongs to; empty: the administrator's own."""
    first = actor.partition(" ")[0]
    return first if first == UNKNOWN or is_prefixed_id(first, "sub") else ""


def _time(line: Line) -> str:
    return str(line.get("time", ""))
