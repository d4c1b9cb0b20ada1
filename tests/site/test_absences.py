"""What a device is told when no source is offered: which points lack the version it asks for, and why."""

import base64

import msgspec
import pytest

from entrepot.core.encoding import from_json, to_json
from entrepot.database import distribution
from entrepot.protocol.contentapi import ContentInfo, DistributionInfo, DistributionState, Priority
from entrepot.protocol.deviceapi import DeploymentInfo, DeploymentRequest
from entrepot.protocol.location import LocationReply, LocationRequest, Network
from entrepot.site import absences

ROW = DistributionInfo(
    content="pkg-1",
    content_name="App",
    point="pt-1",
    point_name="Berlin",
    state=DistributionState.PENDING,
    priority=Priority.NORMAL,
    version=2,
    held=1,
    done=0,
    total=0,
    sent_objects=0,
    sent_bytes=0,
    objects=0,
    attempts=0,
    next_try=0,
    message="",
    changed=0,
)


async def locate(device, **more) -> LocationReply:
    body = to_json(LocationRequest(nonce="n1", content="App", **more))
    answer = await device.ask("POST", "/mp/locations", body)
    assert answer.status == 200, answer.body
    return from_json(base64.urlsafe_b64decode(answer.body.split(b".")[1] + b"=="), LocationReply, "reply")


def said(reply: LocationReply) -> dict[str, str]:
    return {each.name: each.reason for each in reply.withheld}


@pytest.fixture
async def device(site, source):
    """An enrolled device; App is published and deployed to everyone, and on no point."""
    await site.publish("App", source)
    await site.enrolled_point("Berlin")
    await site.call("POST", "/deployments", DeploymentInfo, DeploymentRequest(content="App"))
    return await site.enrolled_device("pc-1")


async def test_content_that_was_distributed_to_no_point(device) -> None:
    reply = await locate(device)
    assert reply.tiers == ()
    assert said(reply) == {"every point": "the content is distributed to none; an administrator has to distribute it"}


async def test_a_version_that_waits_to_be_sent_and_then_arrives(device, source) -> None:
    site = device.site
    await site.distributed("App", "Berlin")
    (source / "new").write_text("new")
    await site.next_version("App")
    assert said(await locate(device, addresses=("10.0.0.1",))) == {"Berlin": "version 2 waits to be sent there"}
    await site.distribute_due()
    reply = await locate(device, addresses=("10.0.0.1",))
    assert "version 2" not in str(reply.withheld)


async def test_an_older_version_that_no_point_is_to_have(device, source) -> None:
    site = device.site
    (source / "new").write_text("new")
    await site.next_version("App")
    await site.distributed("App", "Berlin")
    assert said(await locate(device, version=1)) == {"Berlin": "it is to have version 2, not version 1"}


async def test_of_many_points_some_are_named(device, monkeypatch: pytest.MonkeyPatch) -> None:
    site = device.site
    monkeypatch.setattr(absences, "MAX_NAMED", 1)
    content = await site.call("GET", "/contents/App", ContentInfo)
    await site.enrolled_point("Paris")
    with site.database.transaction() as connection:
        for point in site.points:
            distribution.want(connection, content=content.id, point=point, version=1, now=1)
    assert list(said(await locate(device))) == ["Berlin", "further points"]


async def test_points_that_have_the_version_are_not_named_twice(device) -> None:
    await device.site.distributed("App", "Berlin")
    reply = await locate(device, addresses=("203.0.113.9",))
    assert (reply.tiers, [each.name for each in reply.withheld]) == ((), ["Berlin"])
    assert "does not serve clients on the internet" in reply.withheld[0].reason


async def test_the_answer_names_the_addresses_that_it_was_judged_by(device) -> None:
    reply = await locate(device, addresses=("203.0.113.9", "nonsense", "::ffff:10.0.0.1"))
    assert (reply.network, reply.addresses) == (Network.INTERNET, ("203.0.113.9", "10.0.0.1"))
    seen = await device.ask(
        "POST", "/mp/locations", to_json(LocationRequest(nonce="n", content="App")), peer="10.9.9.9"
    )
    assert b"10.9.9.9" in base64.urlsafe_b64decode(seen.body.split(b".")[1] + b"==")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "in_progress"}, "version 2 is on its way there"),
        ({"state": "in_progress", "done": 41, "total": 100}, "version 2 is on its way there (41 %)"),
        ({"state": "retrying"}, "version 2 could not be sent there so far, and is tried again"),
        ({"state": "failed", "message": "a secret of the site"}, "version 2 could not be sent there"),
        ({"state": "failed", "version": 3}, "it is to have version 3, not version 2"),
        ({"state": "cancelled", "version": 3}, "an administrator cancelled the distribution to it"),
        ({"state": "removing"}, "the content is being removed from it"),
    ],
)
def test_each_state_has_its_words(changes, words: str) -> None:
    row = msgspec.structs.replace(ROW, **(changes | {"state": DistributionState(changes["state"])}))
    assert absences.why_absent(row, 2) == words


def test_every_state_has_words() -> None:
    for state in DistributionState:
        assert absences.why_absent(msgspec.structs.replace(ROW, state=state), 2)
