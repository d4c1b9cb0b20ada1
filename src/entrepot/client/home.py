"""The agent's folder: what lies where. Only this file knows names inside it.

``content/<content>.<version>/`` are verified plain trees; what the agent knows about each lies beside them in
``records/``, because a tree holds the content and nothing else. ``staging/`` holds trees that are not whole yet and
``trash/`` what is being deleted: both may be emptied at any time at no loss but that of work.
"""

import hashlib
import sys
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.folders import folder_errors
from entrepot.core.errors import FormatError
from entrepot.core.paths import check_path, windows_problem
from entrepot.durable.files import make_folder

_PRIVATE: Final = 0o700


if sys.platform == "win32":

    def native(path: Path) -> Path:
        r"""The path as the operating system takes it at any length: ``\\?\`` form on Windows."""
        text = str(path.absolute())
        if text.startswith("\\\\?\\"):
            return path
        return Path("\\\\?\\UNC\\" + text[2:] if text.startswith("\\\\") else "\\\\?\\" + text)

else:

    def native(path: Path) -> Path:
        r"""The path as the operating system takes it at any length: ``\\?\`` form on Windows."""
        return path.absolute()


class Home(msgspec.Struct, frozen=True):
    """Names below one agent's folder."""

    root: Path

    @property
    def settings(self) -> Path:
        """``client.toml``."""
        return self.root / "client.toml"

    @property
    def device_key(self) -> Path:
        """The device's private key (0600)."""
        return self.root / "device.key"

    @property
    def device(self) -> Path:
        """What the site calls this device."""
        return self.root / "device.json"

    @property
    def policy(self) -> Path:
        """The policy received last."""
        return self.root / "policy.json"

    @property
    def trust(self) -> Path:
        """The pinned root and the highest trust document."""
        return self.root / "trust"

    @property
    def freshness(self) -> Path:
        """The newest (epoch, counter) seen of each kind of reply."""
        return self.root / "freshness"

    @property
    def cache(self) -> Path:
        """Root of the object store that holds the sealed-object cache."""
        return self.root / "cache"

    @property
    def content(self) -> Path:
        """Verified plain trees."""
        return self.root / "content"

    @property
    def records(self) -> Path:
        """What is known of each tree."""
        return self.root / "records"

    @property
    def targets(self) -> Path:
        """What is known of folders that ``--to`` filled."""
        return self.root / "targets"

    @property
    def staging(self) -> Path:
        """Trees in the making."""
        return self.root / "staging"

    @property
    def trash(self) -> Path:
        """What is being deleted."""
        return self.root / "trash"

    @property
    def reports(self) -> Path:
        """Reports that the management point has not taken yet."""
        return self.root / "reports"

    def target(self, folder: Path) -> Path:
        """Where the record of a ``--to`` folder lies."""
        return self.targets / hashlib.sha256(str(folder.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def prepare(self) -> None:
        """Create the folders, private to their owner.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(str(self.root)):
            make_folder(self.root, mode=_PRIVATE)
            for folder in (self.content, self.records, self.targets, self.staging, self.trash, self.reports):
                make_folder(folder, mode=_PRIVATE)


def tree_name(content: str, version: int) -> str:
    """Folder name of a content version: ``pkg-0123456789abcdef.7``.

    Raises:
        FormatError: the content id is not fit to be part of a file name.
    """
    check_path(content)
    name = f"{content}.{version}"
    if "/" in content or content.startswith(".") or windows_problem(name) or version < 1:
        raise FormatError(f"{content!r} version {version} is not a content version.")
    return name


def split_tree_name(name: str) -> tuple[str, int] | None:
    """Inverse of :func:`tree_name`; None for anything else."""
    content, dot, number = name.rpartition(".")
    if not dot or not content or not number.isascii() or not number.isdigit() or number != str(int(number)):
        return None
    return content, int(number)
