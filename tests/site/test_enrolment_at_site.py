"""How devices and points become known to the site."""

import msgspec
import pytest
from cryptography import x509

from entrepot.core.encoding import to_json
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    ForbiddenError,
    LimitedError,
    NotFoundError,
    UnauthenticatedError,
)
from entrepot.protocol.deviceapi import (
    CollectionInfo,
    CollectionRequest,
    DeviceInfo,
    DeviceState,
    EnrolmentCodeInfo,
    EnrolmentCodeReply,
    EnrolmentCodeRequest,
)
from entrepot.protocol.enrolment import EnrolReply, Kind, parse_enrolment_code
from entrepot.protocol.pointapi import PointCode, PointInfo, PointRequest
from entrepot.site import enrolment
from entrepot.trust.authority import make_csr, new_tls_key
from entrepot.trust.enrolment import key_fingerprint

from .cloud_rows import add_cloud_point


async def code_of(site, **more) -> str:
    reply = await site.call("POST", "/enrolment-codes", EnrolmentCodeReply, EnrolmentCodeRequest(**more))
    return reply.code


async def send(site, request) -> EnrolReply:
    return site.decoded(await site.ask("POST", "/mp/enrolment", to_json(request)), EnrolReply)


async def test_a_device_with_a_code_is_approved_and_joins_the_codes_collection(site, new_device) -> None:
    await site.call("POST", "/collections", CollectionInfo, CollectionRequest(name="Pilots"))
    device = new_device("pc-1")
    reply = await device.enrol(await code_of(site, collection="pilots"))
    assert reply.state == "approved"
    (pilots,) = [row for row in await site.call("GET", "/collections", list[CollectionInfo]) if row.name == "Pilots"]
    assert pilots.members == (device.id,)


async def test_a_code_names_site_url_and_root(site) -> None:
    invitation = parse_enrolment_code(await code_of(site))
    assert (invitation.url, invitation.site) == (site.keys.site.url, "PS1")
    assert invitation.fingerprint == site.keys.root_fingerprint


async def test_a_code_is_good_for_so_many_devices(site, new_device) -> None:
    code = await code_of(site, uses=2)
    await new_device("pc-1").enrol(code)
    await new_device("pc-2").enrol(code)
    with pytest.raises(UnauthenticatedError, match="used up"):
        await new_device("pc-3").enrol(code)


async def test_a_code_expires_and_can_be_withdrawn(site, new_device, clock) -> None:
    late, withdrawn = await code_of(site, hours=1), await code_of(site, hours=2)
    clock.advance(3601)
    with pytest.raises(UnauthenticatedError):
        await new_device("pc-1").enrol(late)
    (row,) = await site.call("GET", "/enrolment-codes", list[EnrolmentCodeInfo])
    await site.call("DELETE", f"/enrolment-codes/{row.id}", type(None))
    with pytest.raises(UnauthenticatedError):
        await new_device("pc-1").enrol(withdrawn)


async def test_whoever_lost_the_answer_enrols_again_with_the_same_code(site, new_device) -> None:
    device, code = new_device("pc-1"), await code_of(site)
    first = await device.enrol(code)
    assert await device.enrol(code) == first


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"public_key": bytes(32)},
        {"mac": bytes(32)},
        {"mac": b""},
        {"code_id": "code-0000000000000000"},
        {"nonce": bytes(40)},
        {"nonce": b""},
        {"kind": Kind.POINT, "csr": b"x", "url": "https://x"},
    ],
)
async def test_a_request_that_was_changed_on_the_way_is_refused(site, new_device, change) -> None:
    request = await new_device("pc-1").request(code=await code_of(site))
    with pytest.raises(UnauthenticatedError):
        await send(site, msgspec.structs.replace(request, **change))
    assert await site.call("GET", "/devices", list[DeviceInfo]) == []


async def test_a_recorded_enrolment_cannot_be_replayed(site, new_device) -> None:
    request = await new_device("pc-1").request(code=await code_of(site, uses=5))
    await send(site, request)
    with pytest.raises(UnauthenticatedError, match="before"):
        await send(site, request)


async def test_a_nonce_is_valid_for_five_minutes(site, new_device, clock) -> None:
    request = await new_device("pc-1").request(code=await code_of(site))
    clock.advance(300)
    with pytest.raises(UnauthenticatedError, match="expired"):
        await send(site, request)


async def test_a_device_without_a_code_waits_for_an_administrator(site, new_device) -> None:
    device = new_device("pc-1")
    assert (await device.enrol()).state == "pending"
    (row,) = await site.call("GET", "/devices", list[DeviceInfo])
    assert row.fingerprint == key_fingerprint(device.key.public)
    answer = await device.ask("GET", f"/mp/enrolment/{device.id}")
    assert site.decoded(answer, EnrolReply).state == "pending"
    with pytest.raises(ForbiddenError, match="not approved"):
        site.decoded(await device.ask("GET", "/mp/policy"), EnrolReply)
    approved = await site.call("POST", "/devices/pc-1/approve", DeviceInfo)
    assert approved.state is DeviceState.APPROVED
    answer = await device.ask("GET", f"/mp/enrolment/{device.id}")
    assert site.decoded(answer, EnrolReply).state == "approved"


async def test_a_waiting_device_that_gets_a_code_is_approved(site, new_device) -> None:
    device = new_device("pc-1")
    await device.enrol()
    assert (await device.enrol(await code_of(site))).state == "approved"


async def test_a_waiting_device_that_gets_a_code_joins_the_codes_collection(site, new_device) -> None:
    await site.call("POST", "/collections", CollectionInfo, CollectionRequest(name="Pilots"))
    device = new_device("pc-1")
    await device.enrol()
    await device.enrol(await code_of(site, collection="pilots"))
    info = await site.call("GET", "/devices/pc-1", DeviceInfo)
    (pilots,) = [row for row in await site.call("GET", "/collections", list[CollectionInfo]) if row.name == "Pilots"]
    assert (info.state, pilots.members) == (DeviceState.APPROVED, (device.id,))


async def test_nobody_who_only_waits_keeps_a_name_from_a_device_with_a_code(site, new_device) -> None:
    """Anybody can ask to be approved, under any name."""
    squatter, device = new_device("pc-1"), new_device("pc-1")
    assert (await squatter.enrol()).state == "pending"
    assert (await device.enrol(await code_of(site))).state == "approved"
    (info,) = await site.call("GET", "/devices", list[DeviceInfo])
    assert (info.id, info.fingerprint) == (device.id, key_fingerprint(device.key.public))
    with pytest.raises(ConflictError, match="is taken"):
        await new_device("PC-1").enrol(await code_of(site))
    with pytest.raises(ConflictError, match="is taken"):
        await squatter.enrol()


async def test_nobody_who_only_waits_keeps_a_name_from_a_point(site, new_device) -> None:
    _, request = await point_request(site, new_device, "Berlin")
    assert (await send(site, request)).state == "pending"
    added = await site.call("POST", "/points", PointCode, PointRequest(name="berlin"))
    (info,) = await site.call("GET", "/points", list[PointInfo])
    assert info.id == added.point.id


async def test_a_service_keeps_its_name_from_who_waited_under_it(site, new_device) -> None:
    """Who waits keeps no service from being made, and is not approved afterwards (R4: its name is unique)."""
    waiting = new_device("cloud-eu.example")
    await waiting.enrol()
    await send(site, (await point_request(site, new_device, "cloud-eu"))[1])
    await site.database.write(add_cloud_point)
    with pytest.raises(ConflictError, match="is taken"):
        await site.call("POST", f"/devices/{waiting.id}/approve", DeviceInfo)
    with pytest.raises(ConflictError, match="is taken"):
        await waiting.enrol(await code_of(site))
    await site.call("POST", f"/devices/{waiting.id}/block", DeviceInfo)
    with pytest.raises(ConflictError, match="is taken"):
        await site.call("POST", f"/devices/{waiting.id}/approve", DeviceInfo)


async def test_what_cannot_be_enrolled_keeps_nobody_from_writing(site, new_device, monkeypatch) -> None:
    async def nobody_writes(*_: object) -> None:
        raise AssertionError("a stranger got at the database for writing")

    good = await new_device("pc-1").request(code=await code_of(site))
    monkeypatch.setattr(site.database, "write", nobody_writes)
    monkeypatch.setattr(enrolment, "MAX_PENDING", 0)
    for wrong, kind in (
        ({"nonce": bytes(40)}, UnauthenticatedError),
        ({"mac": bytes(32)}, UnauthenticatedError),
        ({"code_id": "code-0000000000000000"}, UnauthenticatedError),
        ({"code_id": ""}, LimitedError),
    ):
        with pytest.raises(kind):
            await send(site, msgspec.structs.replace(good, **wrong))


async def test_a_points_code_goes_with_the_point(site, new_device) -> None:
    added = await site.call("POST", "/points", PointCode, PointRequest(name="Berlin"))
    assert [code.kind for code in await site.call("GET", "/enrolment-codes", list[EnrolmentCodeInfo])] == ["point"]
    await site.call("DELETE", "/points/Berlin", type(None))
    assert await site.call("GET", "/enrolment-codes", list[EnrolmentCodeInfo]) == []
    request = await new_device("berlin").request(
        code=added.code, kind=Kind.POINT, csr=make_csr(new_tls_key()), url="https://dp.contoso.example:8443"
    )
    with pytest.raises(UnauthenticatedError, match="used up or expired"):
        await send(site, request)


async def test_only_the_newcomer_itself_learns_what_became_of_it(site, new_device) -> None:
    waiting, stranger = new_device("pc-1"), new_device("pc-2")
    await waiting.enrol()
    await stranger.enrol()
    with pytest.raises(UnauthenticatedError):
        site.decoded(await stranger.ask("GET", f"/mp/enrolment/{waiting.id}"), EnrolReply)
    stranger.id = "dev-0000000000000000"
    with pytest.raises(NotFoundError):
        site.decoded(await stranger.ask("GET", f"/mp/enrolment/{stranger.id}"), EnrolReply)


async def test_newcomers_without_codes_are_bounded(site, new_device, monkeypatch) -> None:
    monkeypatch.setattr(enrolment, "MAX_PENDING", 2)
    await new_device("pc-1").enrol()
    await new_device("pc-2").enrol()
    with pytest.raises(LimitedError):
        await new_device("pc-3").enrol()
    await new_device("pc-3").enrol(await code_of(site))


async def test_a_name_belongs_to_one_device(site, new_device) -> None:
    await new_device("PC-1").enrol(await code_of(site))
    with pytest.raises(ConflictError, match="taken"):
        await new_device("pc-1").enrol(await code_of(site))


async def point_request(site, new_device, name="berlin", *, code="", url="https://dp.example:8443", key=None):
    machine = new_device(name)
    csr = make_csr(key or new_tls_key())
    return machine, await machine.request(code=code, kind=Kind.POINT, csr=csr, url=url)


async def test_a_point_gets_a_certificate_for_the_host_of_its_url_and_its_own_key(site, new_device) -> None:
    added = await site.call("POST", "/points", PointCode, PointRequest(name="berlin"))
    key = new_tls_key()
    _, request = await point_request(site, new_device, "whatever", code=added.code, key=key)
    reply = await send(site, request)
    leaf, issuer = x509.load_pem_x509_certificates(reply.certificates.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["dp.example"]
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(issuer)
    info = await site.call("GET", "/points/berlin", PointInfo)
    assert (info.id, info.state, info.url) == (reply.id, "active", "https://dp.example:8443")
    assert reply.name == info.name == "berlin"  # as it was announced, whatever the machine calls itself


async def test_a_point_that_lost_the_answer_enrols_again_and_nobody_else_can(site, new_device) -> None:
    added = await site.call("POST", "/points", PointCode, PointRequest(name="berlin"))
    machine, request = await point_request(site, new_device, code=added.code)
    first = await send(site, request)
    again = await machine.request(code=added.code, kind=Kind.POINT, csr=request.csr, url=request.url)
    assert (await send(site, again)).id == first.id
    _, other = await point_request(site, new_device, code=added.code)
    with pytest.raises(UnauthenticatedError, match="used up"):
        await send(site, other)


async def test_a_point_without_a_code_waits_and_is_approved_by_fingerprint(site, new_device) -> None:
    machine, request = await point_request(site, new_device, "munich")
    assert (await send(site, request)).state == "pending"
    (row,) = await site.call("GET", "/points", list[PointInfo])
    assert row.fingerprint == key_fingerprint(machine.key.public)
    await site.call("POST", "/points/munich/approve", PointInfo)
    again = await machine.request(kind=Kind.POINT, csr=request.csr, url=request.url)
    reply = await send(site, again)
    assert reply.state == "approved"
    assert reply.certificates
    with pytest.raises(ConflictError):
        await site.call("POST", "/points/munich/approve", PointInfo)


async def test_an_approved_point_cannot_slip_in_another_key_or_url(site, new_device) -> None:
    machine, request = await point_request(site, new_device, "munich")
    await send(site, request)
    await site.call("POST", "/points/munich/approve", PointInfo)
    swapped = await machine.request(kind=Kind.POINT, csr=make_csr(new_tls_key()), url="https://evil.example")
    assert (await send(site, swapped)).certificates == ""
    assert (await site.call("GET", "/points/munich", PointInfo)).url == "https://dp.example:8443"


@pytest.mark.parametrize("url", ["", "http://x", "https://x/path", "https://u:p@x", "https://x:99999", "https://"])
async def test_a_points_url_is_plain_https(site, new_device, url) -> None:
    added = await site.call("POST", "/points", PointCode, PointRequest(name="berlin"))
    _, request = await point_request(site, new_device, code=added.code, url=url)
    with pytest.raises(BadInputError):
        await send(site, request)


async def test_a_request_for_a_certificate_that_is_none_is_refused(site, new_device) -> None:
    added = await site.call("POST", "/points", PointCode, PointRequest(name="berlin"))
    machine = new_device("berlin")
    for csr in (b"", b"garbage", b"x" * 20_000):
        request = await machine.request(code=added.code, kind=Kind.POINT, csr=csr, url="https://dp.example")
        with pytest.raises(BadInputError):
            await send(site, request)
