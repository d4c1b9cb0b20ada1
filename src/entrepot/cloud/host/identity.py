"""The host's own TLS key: how sites recognise the host, and how the key is replaced.

The certificate is self-signed: sites pin its SHA-256, so neither its name nor its issuer nor its end counts.

A rotation makes the next key and certificate beside the present ones (``tls/next``), then ``rotation.json``: from then
on the management API tells sites the next pin, over connections that they authenticate by the present one. When its
time has come the next key takes the place of the present one, which exists no more. That are two files, so the switch
is written down before the first is moved, and whoever finds it half done finishes it: there is never a certificate
without its key. Host and administrator's commands exclude each other by a lock on the folder.
"""

import contextlib
import fcntl
import ipaddress
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from entrepot.cloud.host.settings import HostSettings
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import ConflictError, StorageError
from entrepot.durable.files import make_folder, storage_errors, sweep_temporary, sync_folder, write_file, write_private
from entrepot.trust import inspection

CERTIFICATE_DAYS: Final = 3650
_CERTIFICATE: Final = "certificate.pem"
_KEY: Final = "key.pem"


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """A next key that sites are told of.

    Attributes:
        pin: SHA-256 of its certificate, hexadecimal digits.
        announced, due: seconds since 1970: since when sites are told, and from when it is used.
        switching: its files take the place of the present ones right now.
    """

    pin: str
    announced: int
    due: int
    switching: bool = False


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The pin of the present certificate (hexadecimal digits), and the rotation that is under way."""

    pin: str
    rotation: Rotation | None = None


class HostKey:
    """The key of one home; safe with other processes.

    Args:
        folder: ``<home>/tls``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next = folder / "next"
        self._note = folder / "rotation.json"

    def create(self, settings: HostSettings, *, now: float) -> str:
        """Make the first key; its pin.

        Raises:
            StorageError: the disk refuses.
        """
        make_folder(self._folder, mode=0o700)
        return _write_pair(self._folder, settings, now)

    def standing(self) -> Standing:
        """What there is. A switch that a crash interrupted is finished first.

        Raises:
            BadInputError: the certificate is damaged.
            StorageError: the disk refuses.
        """
        with self._locked():
            return self._standing()

    def prepare(self, settings: HostSettings, *, grace: int, now: float) -> Rotation:
        """Make the next key, to be used after ``grace`` seconds.

        Raises:
            ConflictError: one is announced already.
            StorageError: the disk refuses.
        """
        with self._locked():
            announced = self._standing().rotation
            if announced is not None:
                raise ConflictError(
                    f"A next key is announced already (pin {announced.pin}).",
                    next_step="Use it (entrepot host identity switch) or take it back (entrepot host identity cancel).",
                )
            return self._prepare(settings, grace, now)

    def replace(self, settings: HostSettings, *, now: float) -> Standing:
        """Use a new key from now on, announced or not; one that was announced is dropped, unused.

        Raises:
            StorageError: the disk refuses.
        """
        with self._locked():
            self._standing()
            self._drop()
            self._prepare(settings, 0, now)
            self._switch()
            return self._standing()

    def switch(self, *, due_at: float | None = None) -> Standing | None:
        """Use the announced key from now on.

        Args:
            due_at: only if its time has come by then.

        Returns:
            what there is now; None: its time has not come.

        Raises:
            ConflictError: none is announced, and ``due_at`` was not given.
            StorageError: the disk refuses.
        """
        with self._locked():
            rotation = self._standing().rotation
            if due_at is not None and (rotation is None or due_at < rotation.due):
                return None
            if rotation is None:
                raise ConflictError("No next key is announced.", next_step="Make one: entrepot host identity rotate")
            self._switch()
            return self._standing()

    def cancel(self) -> Rotation:
        """Take the announcement back; the next key exists no more.

        Raises:
            ConflictError: none is announced.
            StorageError: the disk refuses.
        """
        with self._locked():
            rotation = self._standing().rotation
            if rotation is None:
                raise ConflictError("No next key is announced.", next_step="See: entrepot host identity show")
            self._drop()
            return rotation

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with storage_errors(str(self._folder)):
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def _standing(self) -> Standing:
        noted = self._noted()
        if noted is not None and noted.switching:
            self._move()
            noted = None
        certificate = inspection.load_cer(_bounded(self._folder / _CERTIFICATE))
        return Standing(pin=inspection.thumbprint(certificate).hex(), rotation=noted)

    def _noted(self) -> Rotation | None:
        try:
            return from_json(_bounded(self._note), Rotation, "note of the next key")
        except FileNotFoundError:
            return None

    def _prepare(self, settings: HostSettings, grace: int, now: float) -> Rotation:
        shutil.rmtree(self._next, ignore_errors=True)  # of an attempt that was interrupted before it was noted
        make_folder(self._next, mode=0o700)
        pin = _write_pair(self._next, settings, now)
        rotation = Rotation(pin=pin, announced=int(now), due=int(now) + grace)
        write_file(self._note, to_json(rotation))
        return rotation

    def _switch(self) -> None:
        noted = self._noted()
        assert noted is not None, "what is switched to was prepared"
        write_file(self._note, to_json(msgspec.structs.replace(noted, switching=True)))
        self._move()

    def _move(self) -> None:
        """Harmless when repeated: what was moved already is no longer where it came from."""
        for name in (_KEY, _CERTIFICATE):
            with contextlib.suppress(FileNotFoundError):
                (self._next / name).replace(self._folder / name)
        sync_folder(self._folder)
        self._drop()

    def _drop(self) -> None:
        """The note goes first: what is left without it counts for nothing."""
        self._note.unlink(missing_ok=True)
        sweep_temporary(self._folder)
        sync_folder(self._folder)
        shutil.rmtree(self._next, ignore_errors=True)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(inspection.MAX_CERTIFICATE + 1)
    if len(data) > inspection.MAX_CERTIFICATE:
        raise StorageError(f"{path} is larger than what belongs there.", next_step="Restore it from a backup.")
    return data


def _write_pair(folder: Path, settings: HostSettings, now: float) -> str:
    """Make a key and its certificate in a folder; the certificate's pin."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, settings, now)
    write_private(folder / _KEY, inspection.key_pem(key).reveal())
    write_file(folder / _CERTIFICATE, inspection.to_pem(certificate).encode())
    return inspection.thumbprint(certificate).hex()


def _self_signed(key: ec.EllipticCurvePrivateKey, settings: HostSettings, now: float) -> x509.Certificate:
    subject = inspection.common_name(settings.name)
    begin, end = inspection.validity(now, CERTIFICATE_DAYS)
    host = urlsplit(settings.url).hostname or "localhost"
    alternative: x509.GeneralName
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
