"""What a point fetches from its site by itself: the trust document, and its next TLS certificate.

The site pushes documents; but a point that was away while keys were rolled over believes none of the site's new ones,
so once an hour it asks for the trust document, which proves itself. The certificate (398 days) is renewed when it has
less than 60 days left, or its issuer was withdrawn, with the same key; the server reads it again without a restart.
Where the site does not answer both are tried again every five minutes, for two months until the certificate ends.
"""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entrepot.core.encoding import to_json
from entrepot.core.errors import EntrepotError, FormatError, ReplayError, TrustError
from entrepot.core.secret import Secret
from entrepot.core.times import HOUR, MINUTE, Clock
from entrepot.durable.files import write_file
from entrepot.objects.shelf import Shelf
from entrepot.point.home import PointHome, PointSettings
from entrepot.point.standing import Standing
from entrepot.protocol.control import TRUST_KEY
from entrepot.protocol.enrolment import RenewalReply, RenewalRequest
from entrepot.trust.assertions import make_device_assertion
from entrepot.trust.authority import RENEW_DAYS, issued_by_any, make_csr
from entrepot.trust.inspection import check_validity, days_left, expires, fits
from entrepot.trust.root import verify_trust_by_fingerprint
from entrepot.trust.signing import SigningKey
from entrepot.web import holdings
from entrepot.web.http import HttpClient
from entrepot.web.introduction import fetch_trust
from entrepot.web.tls import TlsTrust

LOOK_SECONDS: Final = float(HOUR)
AGAIN_SECONDS: Final = 5.0 * MINUTE
_log = structlog.get_logger("entrepot.point")


class Renewal:
    """Keeps one point's certificate and trust document current.

    Args:
        renewed: called when the certificate file was replaced.
    """

    def __init__(
        self,
        home: PointHome,
        settings: PointSettings,
        shelf: Shelf,
        standing: Standing,
        *,
        clock: Clock,
        renewed: Callable[[], None],
    ) -> None:
        self._home = home
        self._settings = settings
        self._shelf = shelf
        self._standing = standing
        self._clock = clock
        self._renewed = renewed
        self.problem = ""

    def expires(self) -> int:
        """When the certificate that is in use ends; seconds since 1970."""
        return expires(load_certificate(self._home.tls_certificate))

    def warning(self) -> str:
        """What an operator should know; empty when all is well."""
        left = days_left(load_certificate(self._home.tls_certificate), self._clock())
        if left >= RENEW_DAYS:
            return ""
        if not self._settings.site_url:
            return f"The TLS certificate ends in {max(0, left)} days, and site_url is not set: it cannot be renewed."
        return f"The TLS certificate ends in {max(0, left)} days. {self.problem}".strip()

    async def serve(self) -> None:
        """Do so until cancelled."""
        while True:
            pause = LOOK_SECONDS if await self.run_once() else AGAIN_SECONDS
            await asyncio.sleep(pause)

    async def run_once(self) -> bool:
        """Ask for what is due; False when something could not be had."""
        if not self._settings.site_url:
            return True
        try:
            await self.follow_trust()
            await self.renew_certificate()
        except (EntrepotError, OSError) as error:
            self.problem = error.message if isinstance(error, EntrepotError) else str(error)
            _log.warning("renewal_failed", problem=self.problem)
            return False
        except Exception as error:  # noqa: BLE001  # a defect seen once must not let the certificate end
            self.problem = f"A defect: {type(error).__name__}."
            _log.exception("renewal_broke")
            return False
        self.problem = ""
        return True

    async def follow_trust(self) -> bool:
        """Take in the site's trust document when it is newer; whether it was.

        One that raises the epoch ends the control document in force, so it waits for the site to bring both, unless
        nobody is served anyway.

        Raises:
            UnavailableError: the site does not answer.
            TrustError: what answers is not signed by the pinned root.
        """
        pin = bytes.fromhex(self._settings.root)
        text = (await fetch_trust(self._settings.site_url, pin, proxy=self._settings.proxy or None)).encode()
        offered, held = verify_trust_by_fingerprint(text, pin), self._standing.obeyed.trust
        if held is not None and offered.number <= held.number:
            return False
        if held is not None and offered.epoch > held.epoch and not self._standing.problem():
            return False
        try:
            await self._standing.check(TRUST_KEY, text)
        except ReplayError:
            return False  # the site brought a newer one meanwhile
        await asyncio.to_thread(holdings.write_document, self._shelf, TRUST_KEY, text)
        await self._standing.changed(TRUST_KEY)
        return True

    async def renew_certificate(self) -> bool:
        """Renew the certificate when it is due; whether it was.

        Raises:
            UnavailableError: the site does not answer.
            ForbiddenError: the site does not know this point any more.
            TrustError: what it answered is no certificate for this point's key.
        """
        certificate, authorities = load_certificate(self._home.tls_certificate), self._standing.authorities()
        if days_left(certificate, self._clock()) >= RENEW_DAYS and issued_by_any(certificate, authorities):
            return False
        key = self._home.tls_key.read_bytes()
        csr = make_csr(load_pem_private_key(key, password=None))  # type: ignore[arg-type]  # P-256, made at enrolment
        body = to_json(RenewalRequest(csr=csr))
        identity = SigningKey.from_private(Secret(self._home.identity.read_bytes()))
        assertion = make_device_assertion(
            identity,
            device=self._settings.point,
            site=self._settings.site,
            body=body,
            now=self._clock(),
            jti=secrets.token_hex(16),
        )
        async with HttpClient(TlsTrust.hierarchy(authorities), proxy=self._settings.proxy or None) as http:
            reply = await http.request_json(
                "POST",
                f"{self._settings.site_url}/mp/certificate",
                RenewalRequest(csr=csr),
                RenewalReply,
                bearer=assertion,
            )
        check_chain(reply.certificates, key, authorities, now=self._clock())
        await asyncio.to_thread(write_file, self._home.tls_certificate, reply.certificates.encode())
        _log.info("tls_certificate_renewed", expires=self.expires())
        self._renewed()
        return True


def load_certificate(path: Path) -> x509.Certificate:
    """The point's own certificate, the first in its file.

    Raises:
        FormatError: there is none in it.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise FormatError(f"{path} holds no certificate.", next_step="Enrol the point again.") from None


def check_chain(pem: str, key: bytes, authorities: str, *, now: float) -> None:
    """Check what the site answered before it replaces a certificate that works.

    Raises:
        TrustError: not for this key, not valid now, or not of an authority that the trust document names.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        issuers = x509.load_pem_x509_certificates(authorities.encode())
        check_validity(certificate, now)
    except (ValueError, EntrepotError) as error:
        raise TrustError(f"The site answered with a certificate that cannot be used: {error}") from None
    if not fits(certificate, key):
        raise TrustError("The site answered with a certificate for another key.")
    for issuer in issuers:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise TrustError("The site answered with a certificate of an authority that the trust document does not name.")
