"""Who this device is: its key pair, made here and never sent, and what the site calls it."""

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.folders import folder_errors
from entrepot.client.home import Home
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import FormatError, NotFoundError
from entrepot.core.secret import Secret
from entrepot.durable.files import write_private
from entrepot.trust.enrolment import key_fingerprint
from entrepot.trust.signing import SigningKey

_MAX: Final = 64 * 1024


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What the site answered at enrolment. ``state`` is ``approved`` or ``pending``."""

    id: str
    site: str
    name: str
    state: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The device's key with its registration."""

    key: SigningKey
    registration: Registration

    @property
    def device(self) -> str:
        """Device id."""
        return self.registration.id

    @property
    def fingerprint(self) -> str:
        """What user and administrator compare before an approval."""
        return key_fingerprint(self.key.public)


def device_key(home: Path) -> SigningKey:
    """The device's key; made, 0600, when there is none yet.

    Raises:
        StorageError: the disk refuses.
        FormatError: the key file is damaged.
    """
    path = Home(home).device_key
    try:
        with folder_errors(str(path)):
            with contextlib.suppress(FileNotFoundError):
                return SigningKey.from_private(Secret(_bounded(path)))
            key = SigningKey.generate()
            write_private(path, key.private.reveal())
            return key
    except FormatError:
        raise FormatError(
            f"The device key {path} is damaged.", next_step="Delete it and enrol this device again."
        ) from None


def save_registration(home: Path, registration: Registration) -> None:
    """Remember what the site calls this device.

    Raises:
        StorageError: the disk refuses.
    """
    path = Home(home).device
    with folder_errors(str(path)):
        write_private(path, to_json(registration))


def load_identity(home: Path) -> Identity:
    """Key and registration of an enrolled device; it may still wait for approval.

    Raises:
        NotFoundError: the device is not enrolled.
        FormatError: a file is damaged.
    """
    places = Home(home)
    registration = None
    with folder_errors(str(places.device)), contextlib.suppress(FileNotFoundError):
        registration = from_json(_bounded(places.device), Registration, f"registration {places.device}")
    key = places.device_key
    if registration is None or not (key.exists() or key.is_symlink()):  # what stands there and is no key is named later
        raise NotFoundError(
            f"The client in {home} is not enrolled.", next_step="Run entrepot client enrol with a code first."
        )
    return Identity(key=device_key(home), registration=registration)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX)
