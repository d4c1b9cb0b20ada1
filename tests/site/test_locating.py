"""Location and policy answers, as a device sees them."""

import base64

import msgspec
import pytest

from entrepot.content.reading import open_root
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import BadInputError, ForbiddenError, NotFoundError, UnauthenticatedError
from entrepot.core.ids import ObjectId
from entrepot.database import cloud, distribution, pointsets
from entrepot.protocol import SignedType
from entrepot.protocol.contentapi import ContentInfo, CurrentRequest
from entrepot.protocol.deviceapi import (
    ClientSettingsInfo,
    ClientSettingsRequest,
    CollectionInfo,
    CollectionRequest,
    DeploymentInfo,
    DeploymentOptions,
    DeploymentRequest,
    DeviceInfo,
    DownloadInfo,
    EffectiveSettings,
    SettingsValues,
)
from entrepot.protocol.location import LocationReply, LocationRequest, Network, TierKind
from entrepot.protocol.pointapi import BoundaryGroupInfo, BoundaryGroupRequest, BoundaryPoint, PointInfo, Speed
from entrepot.protocol.policy import DownloadReport, Policy, SourceBytes
from entrepot.protocol.trust import Role
from entrepot.trust.tokens import set_ids, verify_content_token

from .cloud_rows import add_cloud_point


async def locate(device, content="App", **more) -> LocationReply:
    """Ask, and believe the answer only as a client would."""
    request = LocationRequest(nonce="n1", content=content, **more)
    answer = await device.ask("POST", "/mp/locations", to_json(request))
    if answer.status != 200:
        device.site.decoded(answer, LocationReply)
    site = device.site
    ring = site.keys.ring
    found = ring.verify(answer.body, typ=SignedType.LOCATION, role=Role.POLICY, now=site.clock(), site="PS1")
    return from_json(found.payload, LocationReply, "reply")


def tiers(reply: LocationReply) -> dict[str, list[str]]:
    return {tier.kind.value: [source.name for source in tier.sources] for tier in reply.tiers}


async def deploy(site, content="App", **more) -> DeploymentInfo:
    return await site.call("POST", "/deployments", DeploymentInfo, DeploymentRequest(content=content, **more))


async def group(site, name, ranges, *members) -> None:
    request = BoundaryGroupRequest(name=name, ranges=ranges, points=members)
    await site.call("POST", "/boundary-groups", BoundaryGroupInfo, request)


@pytest.fixture
async def device(site, source):
    """An enrolled device; App is published, on point Berlin, and deployed to everyone."""
    await site.publish("App", source)
    await site.enrolled_point("Berlin")
    await site.distributed("App", "Berlin")
    await deploy(site)
    await group(site, "Office", ("10.0.0.0/8",), BoundaryPoint(name="Berlin"))
    return await site.enrolled_device("pc-1")


async def test_an_intranet_client_is_sent_to_its_preferred_point(device) -> None:
    reply = await locate(device, addresses=("10.1.2.3",))
    assert (reply.network, tiers(reply)) == (Network.INTRANET, {"preferred": ["Berlin"]})
    assert (reply.nonce, reply.device, reply.name, reply.version) == ("n1", device.id, "App", 1)


async def test_the_answer_opens_the_manifest(device) -> None:
    reply = await locate(device)
    site = device.site

    def verify(document: bytes) -> bytes:
        return site.keys.ring.verify(document, typ=SignedType.MANIFEST, role=Role.MANIFEST, now=site.clock()).payload

    root = open_root(site.server.shelf.read_whole(ObjectId(reply.root.object_id)), reply.root, verify)
    assert (root.content, root.number, root.files) == (reply.content, 1, 21)


async def test_tokens_name_the_versions_set_and_nothing_else(device) -> None:
    reply = await locate(device, addresses=("10.1.2.3",))
    site = device.site
    (audience,) = reply.tokens
    claims = verify_content_token(
        reply.tokens[audience], site.keys.ring, "PS1", "points:PS1", site.keys.token_kids(site.clock()), site.clock()
    )
    assert (claims.sub, set_ids(claims)) == (device.id, (reply.set_id,))
    assert claims.exp - claims.iat <= 8 * 3600


async def test_outside_every_boundary_group_is_the_internet(device) -> None:
    reply = await locate(device, addresses=("203.0.113.9",))
    assert (reply.network, reply.tiers, reply.tokens) == (Network.INTERNET, (), {})
    assert [each.name for each in reply.withheld] == ["Berlin"]
    await device.site.call("PATCH", "/points/Berlin", PointInfo, {"internet_facing": True})
    assert tiers(await locate(device, addresses=("203.0.113.9",))) == {"internet-facing": ["Berlin"]}


async def test_the_address_that_is_seen_counts_when_the_client_names_none(device) -> None:
    request = to_json(LocationRequest(nonce="n", content="App"))
    answer = await device.ask("POST", "/mp/locations", request, peer="10.9.9.9")
    payload = base64.urlsafe_b64decode(answer.body.split(b".")[1] + b"==")
    assert from_json(payload, LocationReply, "reply").network is Network.INTRANET


async def test_slow_links_and_fallback_need_the_deployments_permission(device) -> None:
    site = device.site
    await site.enrolled_point("Far", fallback=True)
    await site.enrolled_point("Slow")
    await site.distributed("App", "Far", "Slow")
    await group(site, "Slow link", ("10.0.0.0/8",), BoundaryPoint(name="Slow", speed=Speed.SLOW))
    assert tiers(await locate(device, addresses=("10.0.0.1",))) == {"preferred": ["Berlin"]}
    (old,) = await site.call("GET", "/deployments", list[DeploymentInfo])
    await site.call("DELETE", f"/deployments/{old.id}", type(None))
    await deploy(site, options=DeploymentOptions(allow_remote=True))
    reply = await locate(device, addresses=("10.0.0.1",))
    assert tiers(reply) == {"preferred": ["Berlin"], "remote": ["Slow", "Far"]}


async def test_content_that_is_not_deployed_to_the_device_does_not_exist_for_it(site, source) -> None:
    await site.publish("App", source)
    device = await site.enrolled_device("pc-1")
    for name in ("App", "Nothing"):
        with pytest.raises(NotFoundError, match="no such content for this device"):
            await locate(device, name)
    await site.call("POST", "/collections", CollectionInfo, CollectionRequest(name="Pilots"))
    await deploy(site, collection="Pilots")
    with pytest.raises(NotFoundError):
        await locate(device)
    await site.call("PUT", f"/collections/Pilots/members/{device.id}", type(None))
    assert (await locate(device)).name == "App"


async def test_a_blocked_device_gets_nothing_more(device) -> None:
    await device.site.call("POST", "/devices/pc-1/block", DeviceInfo)
    with pytest.raises(ForbiddenError, match="blocked"):
        await locate(device)
    await device.site.call("POST", "/devices/pc-1/approve", DeviceInfo)
    assert await locate(device)


async def test_assertions_are_for_one_request_and_are_used_once(device) -> None:
    site = device.site
    body = to_json(LocationRequest(nonce="n", content="App"))
    token = device.assertion(body)
    assert (await device.ask("POST", "/mp/locations", body, assertion=token)).status == 200
    for other_body in (body, body.replace(b"App", b"Apx")):
        with pytest.raises(UnauthenticatedError):
            answer = await device.ask("POST", "/mp/locations", other_body, assertion=token)
            site.decoded(answer, LocationReply)


async def test_an_old_assertion_is_refused(device, clock) -> None:
    body = to_json(LocationRequest(nonce="n", content="App"))
    token = device.assertion(body)
    clock.advance(301)
    with pytest.raises(UnauthenticatedError):
        device.site.decoded(await device.ask("POST", "/mp/locations", body, assertion=token), LocationReply)


async def test_another_devices_key_does_not_pass(device) -> None:
    stranger = await device.site.enrolled_device("pc-2")
    stranger.id = device.id
    with pytest.raises(UnauthenticatedError):
        await locate(stranger)


async def test_the_answer_changes_with_what_the_points_hold_and_never_goes_back(device) -> None:
    site = device.site
    before = await locate(device, addresses=("10.0.0.1",))
    await site.call("DELETE", "/contents/App/distribution/Berlin", type(None))
    gone = await locate(device, addresses=("10.0.0.1",))
    assert gone.tiers == ()
    await site.distribute_due()
    await site.distributed("App", "Berlin")
    back = await locate(device, addresses=("10.0.0.1",))
    assert tiers(back) == {"preferred": ["Berlin"]}
    counters = [reply.fresh.counter for reply in (before, gone, back)]
    assert counters == sorted(set(counters))


async def test_a_version_is_offered_only_where_it_is_whole(device, source) -> None:
    site = device.site
    (source / "new file").write_bytes(b"new")
    await site.next_version("App")
    reply = await locate(device, addresses=("10.0.0.1",))
    assert (reply.version, reply.tiers) == (2, ())
    await site.distribute_due()
    reply = await locate(device, addresses=("10.0.0.1",))
    assert tiers(reply) == {"preferred": ["Berlin"]}


async def test_a_delta_is_offered_to_whoever_holds_its_base(device, source) -> None:
    site = device.site
    data = bytearray((source / "big.bin").read_bytes())
    data[100_000:100_010] = b"0123456789"
    (source / "big.bin").write_bytes(bytes(data))
    info = await site.next_version("App")
    await site.distribute_due()
    (made,) = info.versions[-1].deltas
    assert (await locate(device, addresses=("10.0.0.1",))).deltas == ()
    reply = await locate(device, addresses=("10.0.0.1",), held=(1, 7))
    (offer,) = reply.deltas
    assert (offer.from_version, offer.set_id.hex(), offer.size) == (1, made.set_id, made.size)
    assert reply.tiers[0].sources[0].deltas == (1,)
    claims = verify_content_token(reply.tokens["points:PS1"], site.keys.ring, "PS1", "points:PS1", None, site.clock())
    assert set_ids(claims) == (reply.set_id, offer.set_id)


async def test_rolling_back_is_a_newer_answer_that_names_the_older_version(device, source) -> None:
    site = device.site
    (source / "new file").write_bytes(b"new")
    await site.next_version("App")
    await site.distribute_due()
    newer = await locate(device, addresses=("10.0.0.1",))
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    await site.distribute_due()
    older = await locate(device, addresses=("10.0.0.1",))
    assert (newer.version, older.version) == (2, 1)
    assert older.fresh.counter > newer.fresh.counter
    assert tiers(older) == {"preferred": ["Berlin"]}


async def a_cloud_point(site, content) -> None:
    """A cloud point that holds the content, as the cloud part would have made it."""
    with site.database.transaction() as connection:
        add_cloud_point(connection)
        version = bytes.fromhex(content.versions[-1].set_id)
        distribution.want(connection, content=content.id, point="pt-cloud", version=1, now=1)
        new = pointsets.PointSet(
            point="pt-cloud",
            set_id=version,
            content=content.id,
            version=1,
            from_version=0,
            state=pointsets.SENDING,
            size=1,
            changed=1,
            retired=0,
        )
        pointsets.begin_set(connection, new)
        pointsets.hold_set(connection, "pt-cloud", version, now=1)


@pytest.fixture
async def with_cloud(device):
    """The same, with App on a cloud point as well and remote points allowed."""
    site = device.site
    await a_cloud_point(site, await site.call("GET", "/contents/App", ContentInfo))
    (old,) = await site.call("GET", "/deployments", list[DeploymentInfo])
    await site.call("DELETE", f"/deployments/{old.id}", type(None))
    await deploy(site, options=DeploymentOptions(allow_remote=True))
    return device


async def allow_cloud(site, **more) -> None:
    request = ClientSettingsRequest(settings=SettingsValues(allow_cloud=True), **({"name": "default"} | more))
    await site.call("POST", "/client-settings", ClientSettingsInfo, request)


async def test_nobody_is_sent_to_the_cloud_unless_an_administrator_allows_it(with_cloud) -> None:
    reply = await locate(with_cloud, addresses=("203.0.113.9",))
    assert reply.tiers == ()
    assert any("Allow access to cloud" in each.reason for each in reply.withheld)
    await allow_cloud(with_cloud.site)
    reply = await locate(with_cloud, addresses=("203.0.113.9",))
    assert tiers(reply) == {"cloud": ["cloud-eu"]}
    (source,) = reply.tiers[0].sources
    assert (source.audience, source.trust, source.url) == ("pt-cloud", "system", "https://cloud-eu.example:9443")
    assert set(reply.tokens) == {"pt-cloud"}


async def test_cloud_access_can_be_allowed_for_a_collection_only(with_cloud) -> None:
    site = with_cloud.site
    await site.call("POST", "/collections", CollectionInfo, CollectionRequest(name="Travellers"))
    await allow_cloud(site, name="travel", collection="Travellers")
    assert (await locate(with_cloud, addresses=("203.0.113.9",))).tiers == ()
    await site.call("PUT", "/collections/travellers/members/pc-1", type(None))
    assert tiers(await locate(with_cloud, addresses=("203.0.113.9",))) == {"cloud": ["cloud-eu"]}
    effective = await site.call("GET", "/devices/pc-1/settings", EffectiveSettings)
    assert effective.settings.allow_cloud
    assert (effective.decided_by["allow_cloud"], effective.decided_by["poll_minutes"]) == ("travel", "default")


async def test_on_the_intranet_the_cloud_comes_last(with_cloud) -> None:
    await allow_cloud(with_cloud.site)
    reply = await locate(with_cloud, addresses=("10.0.0.1",))
    assert [tier.kind for tier in reply.tiers] == [TierKind.PREFERRED, TierKind.CLOUD]


@pytest.fixture
def cloud_afterwards(home):
    """The site's setting, before the site starts."""
    home.settings_file.write_text(f"cloud_after_internet_facing = true\n{home.settings_file.read_text()}")


async def _tiers_on_the_internet(device) -> list[TierKind]:
    await allow_cloud(device.site)
    await device.site.call("PATCH", "/points/Berlin", PointInfo, {"internet_facing": True})
    return [tier.kind for tier in (await locate(device, addresses=("203.0.113.9",))).tiers]


async def test_r33_with_an_internet_facing_point_the_cloud_is_not_offered(with_cloud) -> None:
    assert await _tiers_on_the_internet(with_cloud) == [TierKind.INTERNET_FACING]


async def test_r33_a_setting_of_the_site_offers_the_cloud_after_an_internet_facing_point(
    cloud_afterwards, with_cloud
) -> None:
    assert await _tiers_on_the_internet(with_cloud) == [TierKind.INTERNET_FACING, TierKind.CLOUD]


@pytest.mark.parametrize("state", ["upgrading", "scaling", "degraded"])
async def test_a_cloud_point_that_is_worked_on_while_it_serves_goes_on_being_offered(with_cloud, state) -> None:
    site = with_cloud.site
    await allow_cloud(site)
    with site.database.transaction() as connection:
        cloud.update_cloud_point(connection, "pt-cloud", state=cloud.CloudPointState(state))
    reply = await locate(with_cloud, addresses=("203.0.113.9",))
    assert tiers(reply)["cloud"] == ["cloud-eu"]
    assert [each for each in reply.withheld if each.name == "cloud-eu"] == []


async def test_a_stopped_cloud_point_is_not_offered_and_named_as_stopped(with_cloud) -> None:
    site = with_cloud.site
    await allow_cloud(site)
    with site.database.transaction() as connection:
        cloud.update_cloud_point(
            connection, "pt-cloud", state=cloud.CloudPointState.STOPPED, wanted=cloud.ServiceState.STOPPED
        )
    reply = await locate(with_cloud, addresses=("203.0.113.9",))
    assert reply.tiers == ()
    assert ("cloud-eu", "the service is stopped") in [(each.name, each.reason) for each in reply.withheld]


async def test_a_device_gets_its_policy(device) -> None:
    site = device.site
    answer = await device.ask("GET", "/mp/policy")
    found = site.keys.ring.verify(answer.body, typ=SignedType.POLICY, role=Role.POLICY, now=site.clock(), site="PS1")
    policy = from_json(found.payload, Policy, "policy")
    assert (policy.device, policy.settings.allow_cloud) == (device.id, False)
    assert [(each.name, each.version) for each in policy.assignments] == [("App", 1)]


async def test_reports_are_kept_once(device) -> None:
    site = device.site
    source = SourceBytes(kind="point", form="full", point="pt-1", bytes=10, requests=1)
    report = DownloadReport(
        id="r1",
        content="pkg-1",
        version=1,
        network="intranet",
        started=1,
        finished=2,
        outcome="success",
        sources=(source,),
    )
    for _ in range(2):
        assert (await device.ask("POST", "/mp/reports", to_json(report))).status == 204
    (row,) = await site.call("GET", "/downloads", list[DownloadInfo])
    assert (row.device_name, row.sources[0].bytes) == ("pc-1", 10)
    for bad in ({"started": -1}, {"id": ""}, {"id": "x" * 65}, {"error": "e" * 5000}, {"outcome": "o" * 17}):
        changed = msgspec.structs.replace(report, **bad)
        with pytest.raises(BadInputError):
            site.decoded(await device.ask("POST", "/mp/reports", to_json(changed)), type(None))


async def test_a_reported_download_names_its_content_while_the_site_has_it(device) -> None:
    known = (await locate(device)).content
    for content in (known, "pkg-deleted"):
        report = {"id": content, "content": content, "version": 1, "network": "intranet", "started": 1, "finished": 2}
        body = to_json(report | {"outcome": "success", "sources": []})
        assert (await device.ask("POST", "/mp/reports", body)).status == 204
    rows = await device.site.call("GET", "/downloads", list[DownloadInfo])
    assert {row.content: row.content_name for row in rows} == {known: "App", "pkg-deleted": ""}


async def test_no_device_fills_the_disk_with_reports(device, monkeypatch) -> None:
    monkeypatch.setattr("entrepot.site.managementpoint.REPORTS_PER_SECOND", 1e-9)  # one, then none for years
    body = {"content": "pkg-1", "version": 1, "network": "intranet", "started": 1, "finished": 2, "outcome": "success"}
    reports = [to_json({"id": f"r{number}", "sources": [], **body}) for number in range(2)]
    answers = [await device.ask("POST", "/mp/reports", report) for report in reports]
    assert [answer.status for answer in answers] == [204, 429]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"nonce": "", "content": "App"}',
        b'{"nonce": "n", "content": "App", "version": -1}',
        b'{"nonce": "n", "content": "App", "version": 99999999999999999999}',
        b'{"nonce": 5, "content": "App"}',
        b'{"nonce": "n", "content": "' + b"x" * 5000 + b'"}',
        b"\xff\xfe",
    ],
)
async def test_malformed_location_requests_are_the_clients_fault(device, body) -> None:
    answer = await device.ask("POST", "/mp/locations", body)
    assert answer.status == 400, answer.body
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("addresses", [("nonsense",), ("10.0.0.1", "::ffff:10.0.0.2", ""), ("x" * 500,)])
async def test_odd_addresses_do_not_break_a_request(device, addresses) -> None:
    assert await locate(device, addresses=addresses)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "x" * 7000])
async def test_without_a_proper_assertion_there_is_no_answer(device, token) -> None:
    answer = await device.site.ask("POST", "/mp/locations", b"{}", bearer=token)
    assert answer.status == 401
