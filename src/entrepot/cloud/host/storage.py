"""Where each service's content lies, and how much of it there is after a restart.

A service remembers where its content lies (``ServiceRow.store``); the host's settings hold for new ones only. The count
of what it stores is noted while the host runs and at its end, so that whoever looks need not walk over millions of
files. A folder is walked over at the host's start all the same. A store far away is counted by a listing, which costs
requests: after an orderly end the note does, and only after a crash it is made anew.
"""

import contextlib
import secrets
import threading
import time
from pathlib import Path

import msgspec

from entrepot.cloud.host.services import ServiceRow
from entrepot.cloud.host.settings import Folders
from entrepot.cloud.host.usage import Usage, measure
from entrepot.cloud.storage import ServiceStore, all_values, open_service_store, probe
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import FormatError, NotFoundError, UnavailableError
from entrepot.durable.files import make_folder, write_private
from entrepot.objects.settings import StoreKind, StoreSettings


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted; ``final`` if nothing was stored through the host since. ``at``: when it was noted, in seconds
    since 1970; 0: by an earlier version. ``charged`` -1: likewise."""

    stored: int
    objects: int
    final: bool
    at: int = 0
    charged: int = -1

    @property
    def usage(self) -> Usage:
        """The count. An earlier version's lacks what is charged, which is not less than what is stored."""
        return Usage(stored=self.stored, objects=self.objects, charged=max(self.charged, self.stored))


def store_settings(row: ServiceRow) -> StoreSettings:
    """Where a service's content lies.

    Raises:
        FormatError: the host's database holds something else.
    """
    return from_json(row.store.encode(), StoreSettings, "store of a service") if row.store else StoreSettings()


class HostStorage:
    """The stores of all services. Thread-safe; each is opened once.

    Args:
        default: where new services keep their content.
    """

    def __init__(self, folders: Folders, default: StoreSettings) -> None:
        self._folders = folders
        self._default = default
        self._lock = threading.Lock()
        self._open: dict[str, ServiceStore] = {}

    def open(self, row: ServiceRow) -> ServiceStore:
        """A service's store; no request is made yet.

        Raises:
            StorageError: it cannot be opened.
        """
        with self._lock:
            found = self._open.get(row.id)
            if found is None:
                folder = self._folders.store(row.id)
                make_folder(folder.parent, mode=0o700)
                found = self._open[row.id] = open_service_store(folder, store_settings(row))
                if not found.remote:
                    make_folder(folder, mode=0o700)
            return found

    def probe(self) -> None:
        """Write, read and remove a value where new services keep their content.

        Raises:
            EntrepotError: the store cannot be opened, does not answer, or refuses.
        """
        if self._default.kind is StoreKind.FOLDER:
            return
        prefix = "/".join(filter(None, (self._default.prefix, f"probe-{secrets.token_hex(8)}")))
        settings = msgspec.structs.replace(self._default, prefix=prefix)
        probe(open_service_store(self._folders.home, settings).store)

    def forget(self, service_id: str) -> None:
        """A service is gone."""
        with self._lock:
            self._open.pop(service_id, None)

    def measure(self, row: ServiceRow) -> Usage:
        """Count what a service stores.

        Raises:
            EntrepotError: as the store raises.
        """
        opened = self.open(row)
        if not opened.remote:
            return measure(self._folders.store(row.id))
        usage = Usage()
        for value in all_values(opened.store):
            usage = usage.plus(value.key, value.size)
        self.note(row, usage, final=False)
        return usage

    def noted(self, row: ServiceRow) -> Note | None:
        """What a service stores, as it was noted last, without looking into its store; None: it never was."""
        return self._noted(row.id)

    def counted(self, row: ServiceRow) -> Note | None:
        """As :meth:`noted`, but what lies in a folder is counted now, file by file."""
        if store_settings(row).kind is not StoreKind.FOLDER:
            return self._noted(row.id)
        usage = measure(self._folders.store(row.id))
        return _note(usage, final=False)

    def known(self, row: ServiceRow) -> Usage:
        """What a service stores, from now on counted by the caller: noted by an orderly end, or measured.

        Raises:
            EntrepotError: it must be counted, the store does not answer, and nothing was ever noted.
        """
        opened = self.open(row)
        noted = self._noted(row.id) if opened.remote else None
        if noted is None or not noted.final or noted.charged < 0:
            try:
                return self.measure(row)
            except UnavailableError:
                if noted is None:
                    raise
        assert noted is not None
        self.note(row, noted.usage, final=False)
        return noted.usage

    def note(self, row: ServiceRow, usage: Usage, *, final: bool) -> None:
        """Keep a count for the next start, and for those who look meanwhile.

        Raises:
            StorageError: the disk refuses.
        """
        self.open(row)
        write_private(self._note_file(row.id), to_json(_note(usage, final=final)))

    def _noted(self, service_id: str) -> Note | None:
        with contextlib.suppress(FileNotFoundError, NotFoundError, FormatError):
            return from_json(self._note_file(service_id).read_bytes()[:4096], Note, "count of a store")
        return None

    def _note_file(self, service_id: str) -> Path:
        return self._folders.service(service_id) / "usage.json"


def _note(usage: Usage, *, final: bool) -> Note:
    return Note(stored=usage.stored, objects=usage.objects, charged=usage.charged, final=final, at=int(time.time()))
