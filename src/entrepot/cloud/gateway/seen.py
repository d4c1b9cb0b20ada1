"""The highest documents that any instance of a service has obeyed, kept apart from the store.

A fresh instance remembers nothing, and whoever can write the store could show it documents of yesterday: a control
document until it expires, a trust document for ever. So the host remembers for its instances, and an instance without
a host for itself; what is older than that is refused from the first look on.
"""

from pathlib import Path
from typing import Final

import msgspec

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import FormatError
from entrepot.durable.files import write_private

FILE: Final = "seen"
_MAX_FILE: Final = 4096


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """(epoch, counter) of a control document, and the number of a trust document; 0: none yet."""

    epoch: int = 0
    counter: int = 0
    trust: int = 0

    def merged(self, other: "Seen") -> "Seen":
        """The higher of each."""
        epoch, counter = max((self.epoch, self.counter), (other.epoch, other.counter))
        return Seen(epoch=epoch, counter=counter, trust=max(self.trust, other.trust))


def load_seen(path: Path) -> Seen:
    """What was kept; nothing when there is no file.

    Raises:
        FormatError: it is damaged.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE)
    except FileNotFoundError:
        return Seen()
    try:
        return from_json(data, Seen, "record of seen documents")
    except FormatError as error:
        raise FormatError(
            f"{path} is damaged: {error.message}", next_step="Remove it: what was seen before is then forgotten."
        ) from None


def keep_seen(path: Path, seen: Seen) -> None:
    """Keep it, durably.

    Raises:
        StorageError: the disk refuses.
    """
    write_private(path, to_json(seen))
