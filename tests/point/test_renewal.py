"""A point renews its TLS certificate and follows the trust document by itself; its clients notice nothing."""

import asyncio
import contextlib
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import TrustError
from entrepot.core.times import DAY
from entrepot.point.home import PointSettings, home_of, load_settings, write_settings
from entrepot.point.renewal import check_chain
from entrepot.point.server import Point
from entrepot.protocol.enrolment import RenewalReply, RenewalRequest
from entrepot.trust.assertions import verify_device
from entrepot.trust.authority import create_authority, make_csr, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.web.asgi import read_body, send_json
from entrepot.web.bearer import bearer_token

from ..waiting import until

SHORT_DAYS = 20


@pytest.fixture
def renewing(site: Any, monkeypatch: pytest.MonkeyPatch) -> list[RenewalRequest]:
    """Lets the site answer renewals, once the point has proven its identity key; what it was asked."""
    asked: list[RenewalRequest] = []
    app = site.app

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/mp/certificate":
            return await app(scope, receive, send)
        body = await read_body(scope, receive, 100_000)
        [enrolled] = site.enrolled
        verify_device(bearer_token(scope), enrolled.public_key, "site:PS1", body, time.time())
        request = from_json(body, RenewalRequest, "renewal")
        asked.append(request)
        issued = site.authority.issue_server(request.csr, names=["localhost"], ips=["127.0.0.1"], now=time.time())
        chain = site.certificates or to_pem(issued) + site.authority.pem()
        return await send_json(send, to_json(RenewalReply(certificates=chain)))

    monkeypatch.setattr(site, "app", answer)
    return asked


def shorten(site: Any, home: Path) -> bytes:
    """Give the point a certificate that ends soon; it, as DER."""
    place = home_of(home)
    csr = make_csr(_key(place.tls_key))
    issued = site.authority.issue_server(csr, names=["localhost"], ips=["127.0.0.1"], days=SHORT_DAYS, now=time.time())
    place.tls_certificate.write_text(to_pem(issued) + site.authority.pem())
    return x509.load_pem_x509_certificate(place.tls_certificate.read_bytes()).public_bytes(Encoding.DER)


def _key(path: Path) -> Any:
    return load_pem_private_key(path.read_bytes(), password=None)


async def served(url: str) -> bytes:
    """The certificate that the point shows to a new connection."""
    host, port = url.removeprefix("https://").split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(found, bytes)
    return found


async def test_a_certificate_that_ends_soon_is_renewed_and_shown_without_a_restart(
    site: Any, settings: PointSettings, run: Any, tmp_path: Path, renewing: list[RenewalRequest]
) -> None:
    old = shorten(site, tmp_path / "point")
    async with run(tmp_path / "point") as url:

        async def swapped() -> bytes:
            with contextlib.suppress(ConnectionError):  # it began while the server changed over
                shown = await served(url)
                return b"" if shown == old else shown
            return b""

        certificate = x509.load_der_x509_certificate(await until(swapped))
        left = certificate.not_valid_after_utc.timestamp() - time.time()
        assert left > 390 * DAY
    assert len(renewing) == 1
    assert settings.site_url == site.url


async def test_a_certificate_that_lasts_is_left_alone(
    settings: PointSettings, tmp_path: Path, renewing: list[RenewalRequest]
) -> None:
    home = home_of(tmp_path / "point")
    before = home.tls_certificate.read_bytes()
    point = Point(home, settings)
    assert await point.renewal.run_once()
    assert not renewing
    assert home.tls_certificate.read_bytes() == before
    assert (await point.health())["warning"] == ""
    point.close()


@pytest.mark.parametrize("wrong", ["another key", "another authority", "nothing"])
async def test_what_the_site_should_not_answer_changes_nothing(
    site: Any, settings: PointSettings, tmp_path: Path, renewing: list[RenewalRequest], wrong: str
) -> None:
    shorten(site, tmp_path / "point")
    home = home_of(tmp_path / "point")
    before = home.tls_certificate.read_bytes()
    authority = create_authority("Fabrikam", now=time.time()) if wrong == "another authority" else site.authority
    csr = make_csr(new_tls_key() if wrong == "another key" else _key(home.tls_key))
    issued = authority.issue_server(csr, names=["localhost"], now=time.time())
    site.certificates = to_pem(issued) if wrong != "nothing" else "no certificate"
    point = Point(home, settings)
    await point.start()
    assert not await point.renewal.run_once()
    assert home.tls_certificate.read_bytes() == before
    health = await point.health()
    assert f"ends in {SHORT_DAYS - 1} days" in health["warning"] or f"ends in {SHORT_DAYS} days" in health["warning"]
    assert "The site answered with a certificate" in health["warning"]
    assert renewing
    point.close()


async def test_a_point_without_the_sites_address_says_so(
    site: Any, settings: PointSettings, tmp_path: Path, renewing: list[RenewalRequest]
) -> None:
    shorten(site, tmp_path / "point")
    home = home_of(tmp_path / "point")
    write_settings(home, msgspec.structs.replace(settings, site_url=""))
    point = Point(home, load_settings(home))
    assert await point.renewal.run_once()
    assert "site_url is not set" in (await point.health())["warning"]
    assert not renewing
    point.close()


async def test_a_point_that_was_away_fetches_the_trust_document_by_itself(
    site: Any, settings: PointSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = Point(home_of(tmp_path / "point"), settings)
    await point.start()
    assert point.standing.obeyed.trust is not None
    assert point.standing.obeyed.trust.number == 1
    trust = site.trust
    monkeypatch.setattr(site, "trust", lambda: trust(5))
    assert await point.renewal.run_once()
    assert point.standing.obeyed.trust.number == 5
    monkeypatch.setattr(site, "trust", lambda: trust(4))  # an older one changes nothing
    assert await point.renewal.run_once()
    assert point.standing.obeyed.trust.number == 5
    point.close()
    again = Point(home_of(tmp_path / "point"), settings)
    await again.start()
    assert again.standing.obeyed.trust is not None
    assert again.standing.obeyed.trust.number == 5
    again.close()


def test_a_certificate_of_the_past_is_refused() -> None:
    key = new_tls_key()
    authority = create_authority("Contoso", now=time.time())
    issued = authority.issue_server(make_csr(key), names=["dp"], days=2, now=time.time())
    with pytest.raises(TrustError, match="cannot be used"):
        check_chain(to_pem(issued), key_pem(key).reveal(), authority.pem(), now=time.time() + 3 * DAY)
