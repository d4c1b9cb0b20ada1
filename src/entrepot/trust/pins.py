"""What a participant remembers: the pinned root with the highest trust document, and how fresh each document was.

Both are small files replaced durably *before* the new state is used, so that no crash can bring an older one back.
One process uses a file at a time (``durable.locks``); threads of it may share the object.
"""

import hashlib
import hmac
import threading
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import FormatError, ReplayError, StorageError, TrustError
from entrepot.core.sizes import MIB
from entrepot.core.times import iso
from entrepot.durable.files import storage_errors, write_file
from entrepot.protocol import Freshness
from entrepot.protocol.trust import Role, TrustDocument
from entrepot.trust.root import verify_trust_by_fingerprint
from entrepot.trust.signing import Ring

T = TypeVar("T")

_MAX_FILE: Final = 16 * MIB


class _Pinned(msgspec.Struct, frozen=True, kw_only=True):
    fingerprint: bytes
    document: str = ""


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    epoch: int
    counter: int
    digest: str


class TrustStore:
    """The pinned root and the highest trust document seen.

    Args:
        path: its file; made by the first :meth:`accept`.
        fingerprint: SHA-256 of the root's raw public key; needed when there is no file yet, and compared when
            there is one.

    Raises:
        TrustError: nothing is pinned, or another root.
        FormatError: the file is damaged.
    """

    def __init__(self, path: Path, *, fingerprint: bytes | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        pinned = _read(path, _Pinned, "trust store")
        if pinned is None and fingerprint is None:
            raise TrustError("No hierarchy root is pinned yet.", next_step="Enrol first.")
        if pinned is not None and fingerprint is not None and pinned.fingerprint != fingerprint:
            raise TrustError(f"{path} pins another hierarchy root.", next_step="Use a new home for a new hierarchy.")
        chosen = pinned.fingerprint if pinned is not None else fingerprint
        assert chosen is not None
        self.fingerprint: Final = chosen
        self._jws = pinned.document if pinned is not None else ""
        self._document = verify_trust_by_fingerprint(self._jws, self.fingerprint) if self._jws else None
        self._ring = Ring(self._document) if self._document else None

    def accept(self, document: str | bytes) -> bool:
        """Take in a trust document if it is the pinned root's and not older than the one held.

        Returns:
            whether it is newer than the one held; the one held itself is accepted and changes nothing.

        Raises:
            TrustError: another root's, or not signed.
            ReplayError: older than the one held.
            FormatError: no trust document.
        """
        offered = verify_trust_by_fingerprint(document, self.fingerprint)
        jws = document if isinstance(document, str) else document.decode("ascii")
        with self._lock:
            held = self._document
            if held is not None:
                if offered == held:
                    return False
                _check_successor(held, offered)
            ring = Ring(offered)
            write_file(self._path, to_json(_Pinned(fingerprint=self.fingerprint, document=jws)))
            self._document, self._ring, self._jws = offered, ring, jws
        return True

    @property
    def document(self) -> TrustDocument:
        """The highest document.

        Raises:
            TrustError: none was accepted yet.
        """
        if self._document is None:
            raise TrustError("No trust document has been received yet.")
        return self._document

    @property
    def jws(self) -> str:
        """The highest document in its signed form, to pass on; empty when there is none yet."""
        return self._jws

    @property
    def ring(self) -> Ring:
        """The keys of the highest document.

        Raises:
            TrustError: none was accepted yet.
        """
        if self._ring is None:
            raise TrustError("No trust document has been received yet.")
        return self._ring

    def ca_certificates(self, *, now: float | None = None) -> str:
        """PEM of the hierarchy's issuers, one after the other; only those valid at ``now`` when it is given."""
        return ca_certificates(self.document, now=now)


def ca_certificates(document: TrustDocument, *, now: float | None = None) -> str:
    """PEM of the issuers that a trust document lists, as :meth:`TrustStore.ca_certificates`.

    Raises:
        FormatError: one of them is not an X.509 certificate.
    """
    entries = (entry for entry in document.keys if entry.role is Role.CA)
    valid = (entry for entry in entries if now is None or entry.not_before <= now < entry.not_after)
    try:
        found = [x509.load_der_x509_certificate(entry.public) for entry in valid]
    except ValueError:
        raise FormatError("The trust document lists an issuer that is not an X.509 certificate.") from None
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in found)


def _check_successor(held: TrustDocument, offered: TrustDocument) -> None:
    if offered.number < held.number or offered.epoch < held.epoch:
        raise ReplayError(
            f"The trust document number {offered.number} is older than number {held.number}, which is known already.",
            next_step="The server shows an old state: it was restored without raising the epoch, or replays.",
        )
    if offered.number == held.number:
        raise TrustError(f"There are two different trust documents with the number {held.number}.")
    if offered.hierarchy != held.hierarchy:
        raise TrustError("The trust document names another hierarchy than the one before it.")


class FreshnessLog:
    """The highest (epoch, counter) seen of each subject, kept durably.

    A subject names one line of documents, such as ``policy`` or ``location:<content>``.

    Raises:
        FormatError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen = _read(path, dict[str, _Seen], "freshness log") or {}

    def accept(
        self, subject: str, fresh: Freshness, *, now: float, document: str | bytes = b"", minimum_epoch: int = 0
    ) -> None:
        """Take note of a document that was verified already, or refuse it as old.

        Args:
            subject: which line of documents.
            fresh: of the document.
            now: seconds since 1970.
            document: the signed document, when an equal counter must mean the very same document; leave it empty
                where each answer differs (a location reply echoes its nonce).
            minimum_epoch: of the trust document.

        Raises:
            ReplayError: expired, or older than one already seen, or of an epoch that has ended.
        """
        if now >= fresh.expires:
            raise ReplayError(
                f"The document expired at {iso(max(0, fresh.expires))}.",
                next_step="Check the clock of this computer; if it is right, the site does not renew its documents.",
            )
        raw = document.encode() if isinstance(document, str) else document
        digest = hashlib.sha256(raw).hexdigest() if raw else ""
        with self._lock:
            last = self._seen.get(subject)
            if fresh.epoch < minimum_epoch or (last and (fresh.epoch, fresh.counter) < (last.epoch, last.counter)):
                raise ReplayError(f"The document for {subject} is older than one that was seen already.")
            if last and (fresh.epoch, fresh.counter) == (last.epoch, last.counter):
                if digest and last.digest and not hmac.compare_digest(digest, last.digest):
                    raise ReplayError(f"There are two different documents for {subject} with the same counter.")
                if last.digest or not digest:
                    return
            seen = self._seen | {subject: _Seen(fresh.epoch, fresh.counter, digest)}
            write_file(self._path, to_json(seen))
            self._seen = seen

    def highest(self, subject: str) -> tuple[int, int] | None:
        """Highest (epoch, counter) seen of a subject."""
        last = self._seen.get(subject)
        return (last.epoch, last.counter) if last else None


def _read(path: Path, kind: type[T], what: str) -> T | None:
    with storage_errors(str(path)):
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raise StorageError(f"{path} is a folder, where a file belongs.", next_step="Move it away.") from None
    if len(data) > _MAX_FILE:
        raise FormatError(f"The {what} {path} is larger than 16 MiB.")
    try:
        return from_json(data, kind, what)
    except FormatError as error:
        raise FormatError(
            f"{path} is damaged: {error.message}", next_step="Restore it from a backup, or enrol again."
        ) from None
