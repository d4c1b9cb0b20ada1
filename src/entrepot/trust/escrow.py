"""Exported secrets: one text file, protected by a passphrase, to be kept apart from backups (R39).

PEM armour (label ``ENTREPOT SECRETS``) around a MessagePack array: version, what the file is for (in clear, so that it
can be recognised), the parameters of Argon2id, salt and nonce, and the secrets under AES-256-GCM with everything before
them as associated data. A reader bounds size and parameters before it spends memory or time on them: a hostile file
costs at most 1 GiB for a few seconds, and only after its header was shown to fit this hierarchy.
"""

import base64
import binascii
import os
import textwrap
from typing import Final

import msgspec
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import BadInputError, FormatError, UnsupportedError
from entrepot.core.secret import Secret
from entrepot.core.sizes import MIB
from entrepot.protocol.trust import Role

VERSION: Final = 1
MIN_PASSPHRASE: Final = 12
MAX_FILE: Final = MIB
MAX_SECRETS: Final = 1000
_BEGIN: Final = "-----BEGIN ENTREPOT SECRETS-----"
_END: Final = "-----END ENTREPOT SECRETS-----"
_TIME, _MEMORY_KIB, _LANES = 3, 256 * 1024, 4
"""Argon2id with 256 MiB: four times RFC 9106's second choice, about half a second."""
_MAX_TIME, _MAX_MEMORY_KIB, _MAX_LANES = 10, 1024 * 1024, 16
_MIN_MEMORY_KIB: Final = 64 * 1024


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What stands in clear, and is authenticated. ``root`` is the raw public key of the hierarchy root."""

    version: int
    hierarchy: str
    root: bytes
    site: str
    created: int
    time: int
    memory_kib: int
    lanes: int
    salt: bytes
    nonce: bytes


class ExportedKey(msgspec.Struct, frozen=True, array_like=True):
    """A role key. ``private`` is what the vault holds: 32 raw bytes, or a CA's PEM key."""

    kid: str
    role: Role
    public: bytes
    private: bytes
    not_before: int
    not_after: int
    listed_in: int
    dropped_in: int
    listed_at: int


class Exported(msgspec.Struct, frozen=True, array_like=True):
    """Secrets by name, role keys, and what else a vault has sealed, by the SHA-256 of its sealed bytes.

    Files of earlier versions have no ``others``; earlier versions read a file that has them and leave them out.
    """

    secrets: dict[str, bytes]
    keys: tuple[ExportedKey, ...]
    others: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Exported({len(self.secrets)} secrets, {len(self.keys)} keys, {len(self.others)} others)"


class _File(msgspec.Struct, frozen=True, array_like=True):
    header: bytes
    sealed: bytes


def check_passphrase(passphrase: Secret) -> None:
    """Refuse a passphrase that is too short to protect a site's secrets.

    Raises:
        BadInputError: it is.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise BadInputError(
            "The passphrase of exported secrets is too short.",
            next_step=f"Use at least {MIN_PASSPHRASE} characters, better several words.",
        )


def protect(exported: Exported, passphrase: Secret, *, hierarchy: str, root: bytes, site: str, now: float) -> bytes:
    """The file.

    Raises:
        BadInputError: the passphrase is too short, or this is more than a reader would take.
    """
    check_passphrase(passphrase)
    header = Header(
        version=VERSION,
        hierarchy=hierarchy,
        root=root,
        site=site,
        created=int(now),
        time=_TIME,
        memory_kib=_MEMORY_KIB,
        lanes=_LANES,
        salt=os.urandom(16),
        nonce=os.urandom(12),
    )
    associated = pack(header)
    sealed = AESGCM(_derive(passphrase, header)).encrypt(header.nonce, pack(exported), associated)
    body = base64.b64encode(pack(_File(associated, sealed))).decode()
    data = "\n".join([_BEGIN, *textwrap.wrap(body, 64), _END, ""]).encode()
    if len(data) > MAX_FILE or _out_of_bounds(exported):
        raise BadInputError(
            f"{exported!r} are more than one file may hold ({MAX_FILE // MIB} MiB, {MAX_SECRETS} of each).",
            next_step="Leave the keys of certificates out: they can be imported again.",
        )
    return data


def _out_of_bounds(exported: Exported) -> bool:
    return max(len(exported.secrets), len(exported.keys), len(exported.others)) > MAX_SECRETS


def read_header(data: bytes) -> Header:
    """What a file is for, without its passphrase: not proven before :func:`unprotect`.

    Raises:
        FormatError: not such a file, another version, or parameters out of bounds.
    """
    return _parse(data)[0]


def unprotect(data: bytes, passphrase: Secret) -> tuple[Header, Exported]:
    """Open a file; header and secrets are proven then.

    Raises:
        FormatError: not such a file, or parameters out of bounds.
        BadInputError: the passphrase does not open it, or it was changed.
    """
    header, associated, sealed = _parse(data)
    try:
        plain = AESGCM(_derive(passphrase, header)).decrypt(header.nonce, sealed, associated)
    except InvalidTag:
        raise BadInputError(
            "The passphrase does not open the exported secrets, or the file was changed.",
            next_step="Check the passphrase and try again.",
        ) from None
    exported = unpack(plain, Exported, "exported secrets")
    if _out_of_bounds(exported):
        raise FormatError("The exported secrets are out of bounds.")
    return header, exported


def _derive(passphrase: Secret, header: Header) -> bytes:
    return hash_secret_raw(
        passphrase.reveal(),
        header.salt,
        time_cost=header.time,
        memory_cost=header.memory_kib,
        parallelism=header.lanes,
        hash_len=32,
        type=Type.ID,
    )


def _parse(data: bytes) -> tuple[Header, bytes, bytes]:
    wrong = FormatError(
        "This is no file of exported secrets.", next_step=f"It begins with {_BEGIN}; see: entrepot key export"
    )
    text = " ".join(data[: MAX_FILE + 1].decode("ascii", "replace").split())
    if len(data) > MAX_FILE or not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise wrong
    try:
        body = base64.b64decode(text[len(_BEGIN) : -len(_END)].replace(" ", ""), validate=True)
    except (binascii.Error, ValueError):
        raise wrong from None
    file = unpack(body, _File, "exported secrets")
    header = unpack(file.header, Header, "header of exported secrets")
    if header.version != VERSION:
        raise UnsupportedError(
            f"The exported secrets have version {header.version}; this version reads version {VERSION}."
        )
    bounded = (
        1 <= header.time <= _MAX_TIME
        and _MIN_MEMORY_KIB <= header.memory_kib <= _MAX_MEMORY_KIB
        and 1 <= header.lanes <= _MAX_LANES
        and (len(header.root), len(header.salt), len(header.nonce)) == (32, 16, 12)
    )
    if not bounded or len(header.hierarchy) > 128 or len(header.site) > 16:
        raise FormatError("The exported secrets ask for parameters that are out of bounds.")
    return header, file.header, file.sealed
