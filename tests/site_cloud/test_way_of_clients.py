"""The health check asks a service for its certificate as clients do, and tells what is wrong with it."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from entrepot.core.secret import Secret
from entrepot.database import clouddetails
from entrepot.protocol.cloudapi import HealthDetail
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.site.cloud.presenting import WAY, ask, ask_nobody
from entrepot.site.cloud.states import CloudAction
from entrepot.trust.certificates import LoadedPfx, load_pfx

from ..lightpfx import light_service_pfx
from .conftest import FQDN, NOW, PASSWORD, SiteUnderTest


def _loaded(site: SiteUnderTest, fqdn: str) -> LoadedPfx:
    pfx = light_service_pfx(site.keys.authority, fqdn, PASSWORD, days=100, now=NOW)
    return load_pfx(pfx, Secret(PASSWORD), NOW)


def _der(site: SiteUnderTest, fqdn: str) -> bytes:
    return _loaded(site, fqdn).certificate.public_bytes(Encoding.DER)


async def _own(site: SiteUnderTest) -> bytes:
    point = await site.services.get("cloud1")
    return ssl.PEM_cert_to_DER_cert(point.certificate[: point.certificate.index("-----END") + 25])


async def _looked_at(site: SiteUnderTest) -> tuple[CloudPointState, HealthDetail | None]:
    await site.services.monitor.check((await site.services.get("cloud1")).point)
    point = await site.services.get("cloud1")
    kept = await site.database.read(clouddetails.detail, point.point)
    return point.state, next((each for each in kept.health if each.name == WAY), None)


async def test_another_certificate_for_the_services_name_degrades_it_until_its_own_is_shown(site) -> None:
    await site.make_point()
    site.shown = [_der(site, FQDN)]
    state, way = await _looked_at(site)
    assert (state, way.state) == (CloudPointState.DEGRADED, "bad")
    assert "127.0.0.1:8443" in (await site.services.get("cloud1")).message
    site.shown = [await _own(site)]
    state, way = await _looked_at(site)
    assert (state, way.state) == (CloudPointState.READY, "good")
    assert (await site.services.get("cloud1")).message == ""


@pytest.mark.parametrize("seen", ["nothing", "rubbish", "something else"])
async def test_where_the_sites_server_cannot_go_the_way_the_service_stays_ready(site, seen: str) -> None:
    await site.make_point()
    site.shown = [{"nothing": b"", "rubbish": b"rubbish"}.get(seen, _der(site, "router.contoso.com"))]
    state, way = await _looked_at(site)
    assert (state, way.state) == (CloudPointState.READY, "unknown")


async def test_one_look_at_an_instance_that_was_just_replaced_degrades_nothing(site) -> None:
    await site.make_point()
    site.shown = [_der(site, FQDN), await _own(site)]
    assert await _looked_at(site) == (
        CloudPointState.READY,
        HealthDetail(name=WAY, state="good", message="The service certificate is shown at 127.0.0.1:8443."),
    )


async def test_nobody_is_asked_for_the_certificate_of_a_stopped_service(site) -> None:
    await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    site.shown = [_der(site, FQDN)]
    assert await _looked_at(site) == (CloudPointState.STOPPED, None)


async def test_a_server_is_asked_by_the_services_name_for_its_certificate_and_nobody_where_none_listens(
    site, tmp_path: Path
) -> None:
    loaded = _loaded(site, FQDN)
    pem = tmp_path / "service.pem"
    pem.write_bytes(loaded.key_pem().reveal() + loaded.certificate.public_bytes(Encoding.PEM))
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        assert await ask(address, FQDN) == loaded.certificate.public_bytes(Encoding.DER)
    finally:
        server.close()
    assert asked == [FQDN]
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and nobody listens there
        assert await ask(f"127.0.0.1:{bound.getsockname()[1]}", FQDN) == b""
    assert await ask("no port", FQDN) == b""
    assert await ask_nobody(address, FQDN) == b""
