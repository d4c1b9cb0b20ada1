"""How a point becomes known to its site, from one enrolment code (``protocol.enrolment``).

Crash-safe by repetition: keys are made once and kept, so a second try with the same code is the same newcomer;
``point.toml``, written last, says that it succeeded.
"""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entrepot.core.addresses import parse_listen, server_url
from entrepot.core.errors import BadInputError, ConflictError, FormatError, TrustError
from entrepot.core.secret import Secret
from entrepot.durable.files import make_folder, write_file, write_private
from entrepot.durable.locks import HomeLock
from entrepot.point.home import PointHome, PointSettings, check_name, home_of, write_settings
from entrepot.protocol.enrolment import (
    EnrolmentCode,
    EnrolReply,
    EnrolRequest,
    Kind,
    NonceReply,
    parse_enrolment_code,
)
from entrepot.trust.authority import make_csr, new_tls_key
from entrepot.trust.enrolment import enrolment_mac
from entrepot.trust.inspection import key_pem
from entrepot.trust.pins import TrustStore
from entrepot.trust.signing import SigningKey
from entrepot.web.embedded import check_tls
from entrepot.web.http import HttpClient
from entrepot.web.introduction import fetch_trust
from entrepot.web.ports import lasting_port
from entrepot.web.server import TlsFiles, open_listener
from entrepot.web.tls import TlsTrust

USUAL_PORT: Final = 8443
_HTTPS_PORT: Final = 443
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # clients come from anywhere


async def init_point(
    home: Path,
    code: str,
    listen: str,
    url: str = "",
    name: str = "",
    *,
    resolve: Mapping[str, str] | None = None,
    proxy: str | None = None,
) -> PointSettings:
    """Make a point in ``home`` and enrol it.

    Args:
        code: from the site's administrator.
        listen: ``host:port``; port 0 picks a free one and keeps it; empty: every address, at the port of ``url``.
        url: where clients and the site will reach the point; by default ``https://`` and ``listen``, which then must
            name one address.
        name: how people call it; by default this computer's name.
        resolve: host names with fixed addresses, as a hosts file.
        proxy: HTTP proxy to the site.

    Raises:
        BadInputError: the code, the listening address or the URL.
        ConflictError: there is a point in this folder already, or the site wants an administrator to approve.
        TrustError: the site is not of the hierarchy that the code names.
        UnavailableError: the site cannot be reached.
        UnauthenticatedError: the code is used up or expired.
    """
    invitation = parse_enrolment_code(code)
    listen, url = _addresses(listen, url)
    name = check_name(name or socket.gethostname())
    folder = home_of(home)
    make_folder(folder.folder, mode=0o700)
    with HomeLock(folder.folder, "a point"):
        if folder.settings.exists():
            raise ConflictError(f"There is a point in {folder.folder} already.", next_step="Choose another --home.")
        identity = _identity(folder)
        reply = await _enrol(folder, invitation, identity, url, name, resolve, proxy)
        settings = PointSettings(
            site=reply.site,
            point=reply.id,
            root=invitation.fingerprint.hex(),
            listen=listen,
            url=url,
            name=_called(reply.name, name),
            site_url=invitation.url.rstrip("/"),
            proxy=proxy or "",
        )
        write_settings(folder, settings)
    return settings


def _addresses(listen: str, url: str) -> tuple[str, str]:
    """Settle the port, and check that it can be had."""
    host, port = parse_listen(listen) if listen else (_EVERY_ADDRESS[0], _port_of(url))
    if not url and host in _EVERY_ADDRESS:
        raise BadInputError(
            f"Nobody can reach a point at {host}.", next_step="Give --url, such as https://dp1.contoso.com:8443."
        )
    with open_listener(host, port or lasting_port(host)) as listener:
        port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}", server_url(url.rstrip("/") or f"https://{shown}:{port}", "a point")


def _port_of(url: str) -> int:
    """The port at which the point shall be reached."""
    if not url:
        return USUAL_PORT
    return urlsplit(server_url(url.rstrip("/"), "a point")).port or _HTTPS_PORT


def _called(answered: str, offered: str) -> str:
    """What the site calls this point, where it says so in a way that can be kept."""
    try:
        return check_name(answered) if answered else offered
    except BadInputError:
        return offered


def _identity(home: PointHome) -> SigningKey:
    """The point's keys: those of an earlier try, or new ones."""
    if not home.identity.exists():
        write_private(home.identity, SigningKey.generate().private.reveal())
    if not home.tls_key.exists():
        write_private(home.tls_key, key_pem(new_tls_key()).reveal())
    return SigningKey.from_private(Secret(home.identity.read_bytes()))


async def _enrol(
    home: PointHome,
    code: EnrolmentCode,
    identity: SigningKey,
    url: str,
    name: str,
    resolve: Mapping[str, str] | None,
    proxy: str | None,
) -> EnrolReply:
    trust = TrustStore(home.trust, fingerprint=code.fingerprint)
    trust.accept(await fetch_trust(code.url, code.fingerprint, resolve=resolve, proxy=proxy))
    key = load_pem_private_key(home.tls_key.read_bytes(), password=None)
    csr = make_csr(key)  # type: ignore[arg-type]  # P-256, made above
    async with HttpClient(TlsTrust.hierarchy(trust.ca_certificates()), resolve, proxy) as http:
        site = code.url.rstrip("/")
        nonce = (await http.request_json("POST", f"{site}/mp/enrolment/nonce", None, NonceReply)).nonce
        mac = enrolment_mac(
            Secret(code.secret), nonce=nonce, kind=Kind.POINT, name=name, public_key=identity.public, csr=csr
        )
        request = EnrolRequest(
            nonce=nonce,
            kind=Kind.POINT,
            name=name,
            public_key=identity.public,
            code_id=code.code_id,
            mac=mac,
            csr=csr,
            url=url,
        )
        reply = await http.request_json("POST", f"{site}/mp/enrolment", request, EnrolReply)
    _keep_certificate(home, code, reply)
    return reply


def _keep_certificate(home: PointHome, code: EnrolmentCode, reply: EnrolReply) -> None:
    """Check that the answer is complete and usable, then keep the certificate.

    Raises:
        ConflictError: an administrator must approve first.
        FormatError: the certificate is not one, or not for this point's key.
    """
    if reply.state != "approved":
        raise ConflictError(
            f"The site has not approved this point yet (state: {reply.state}).",
            next_step="Ask an administrator to approve it, then run this command again.",
        )
    if reply.site != code.site:
        raise TrustError(f"The site calls itself {reply.site}, but the code is for {code.site}.")
    try:
        x509.load_pem_x509_certificates(reply.certificates.encode())
    except ValueError:
        raise FormatError("The site answered with something that is no certificate.") from None
    write_file(home.tls_certificate, reply.certificates.encode())
    check_tls(TlsFiles(cert=home.tls_certificate, key=home.tls_key))
