"""How a client decides that it talks to the right server: one of three ways.

*hierarchy*: the certificate chains to the CA in the hierarchy's trust document. *system*: to the device's own trusted
roots, plus what its settings add. *pinned*: it is exactly the certificate that an administrator compared; then names,
chains and dates do not count. While a server's key is being replaced, two certificates are compared with.

One request of the product goes without: the first for the trust document, which proves itself (``introduction``).
"""

import asyncio
import contextlib
import hashlib
import ssl
from typing import Self

import aiohttp
import msgspec

from entrepot.core.errors import BadInputError, TrustError


class TlsTrust(msgspec.Struct, frozen=True, kw_only=True):
    """Which certificates are accepted. Make one with :meth:`hierarchy`, :meth:`system` or :meth:`pinned`."""

    ca_pem: str = ""
    system_roots: bool = False
    pins: tuple[bytes, ...] = ()
    none: bool = False

    @classmethod
    def introduction(cls) -> Self:
        """Trust nobody's name yet: only to fetch a document that is verified by a signature, without a credential."""
        return cls(none=True)

    @classmethod
    def hierarchy(cls, ca_pem: str) -> Self:
        """Trust the hierarchy's CA certificates (PEM, one or more), and nothing else.

        Raises:
            TrustError: no certificate in it.
        """
        if "-----BEGIN CERTIFICATE-----" not in ca_pem:
            raise TrustError(
                "There is no CA certificate to verify the server with.", next_step="Fetch the site's trust document."
            )
        return cls(ca_pem=ca_pem)

    @classmethod
    def system(cls, extra_ca_pem: str = "") -> Self:
        """Trust the operating system's roots, and the extra ones."""
        return cls(ca_pem=extra_ca_pem, system_roots=True)

    @classmethod
    def pinned(cls, *sha256: bytes) -> Self:
        """Trust the one certificate, or these, whose DER encoding has this SHA-256 (32 bytes).

        Raises:
            BadInputError: none, or not 32 bytes.
        """
        if not sha256 or any(len(pin) != hashlib.sha256().digest_size for pin in sha256):
            raise BadInputError("A certificate pin is a SHA-256: 32 bytes, 64 hexadecimal digits.")
        return cls(pins=sha256)

    def verifier(self) -> ssl.SSLContext | aiohttp.Fingerprint:
        """What aiohttp takes as ``ssl``.

        Raises:
            TrustError: a CA certificate cannot be read.
        """
        if self.pins:
            return _AnyOf(self.pins)
        if self.none:
            return _unverified()
        if not self.ca_pem and not self.system_roots:
            raise TrustError("No way to verify the server was chosen.")
        context = ssl.create_default_context() if self.system_roots else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_pem:
            try:
                context.load_verify_locations(cadata=self.ca_pem)
            except (ssl.SSLError, TypeError) as error:  # TypeError: it has other characters than ASCII
                raise TrustError(
                    f"A CA certificate cannot be read: {error}.",
                    next_step="Give certificates in PEM form, and nothing else.",
                ) from None
        return context


class _AnyOf(aiohttp.Fingerprint):
    """Accepts a certificate that has one of several fingerprints."""

    def __init__(self, pins: tuple[bytes, ...]) -> None:
        super().__init__(pins[0])
        self._others = tuple(aiohttp.Fingerprint(pin) for pin in pins[1:])

    def check(self, transport: asyncio.Transport) -> None:
        """See :class:`aiohttp.Fingerprint`."""
        try:
            super().check(transport)
        except aiohttp.ServerFingerprintMismatch:
            for other in self._others:
                with contextlib.suppress(aiohttp.ServerFingerprintMismatch):
                    return other.check(transport)
            raise


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
