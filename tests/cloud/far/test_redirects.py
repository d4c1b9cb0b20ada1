"""Clients fetch from the store itself, by links; and are counted here."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from entrepot.client.connections import Connections
from entrepot.client.settings import Settings
from entrepot.core.errors import EntrepotError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.objects.settings import StoreSettings
from entrepot.objects.store import MAX_LINK_SECONDS
from entrepot.protocol.control import Delivery, GatewaySettings
from entrepot.protocol.location import Source

from ..conftest import FQDN, POINT
from .s3_front import S3Front

pytestmark = pytest.mark.process


@pytest.fixture(params=["azurite", "s3"])
def remote(request: pytest.FixtureRequest) -> StoreSettings:
    """A prefix in a container of Azure Blob, or in a bucket of S3."""
    if request.param == "s3":
        front: S3Front = request.getfixturevalue("s3_front")
        return front.settings
    settings: StoreSettings = request.getfixturevalue("azurite").settings()
    return settings


@pytest.fixture
def services_only(site, tmp_path: Path) -> Path:
    """The issuer of services, and not the store's."""
    path = tmp_path / "services.pem"
    path.write_text(site.authority.pem())
    return path


@pytest.fixture
def ca(site, remote, tmp_path: Path) -> Path:
    """Both issuers."""
    path = tmp_path / "trusted.pem"
    path.write_text(site.authority.pem() + Path(remote.ca).read_text())
    return path


@pytest.fixture
async def agent(ca: Path) -> AsyncIterator[Connections]:
    """The agent's own connections; the store's issuer is among those that its settings trust."""
    async with Connections(Settings(service_ca=str(ca), resolve={FQDN: "127.0.0.1"}), "") as connections:
        yield connections


@pytest.fixture
async def source(site, provider, running) -> Source:
    """A cloud point that redirects."""
    await provider.create("cloud1", site.spec(1))
    holder = provider.holder("cloud1")
    await site.fill(holder)
    settings = GatewaySettings(segment_seconds=1.0, minimum_rate=1, delivery=Delivery.REDIRECT)
    await holder.put_document("control", site.control(settings=settings).encode())
    status = await running("cloud1", 1)
    url = f"https://{FQDN}:{status.address.rpartition(':')[2]}"
    return Source(point=POINT, name="cloud1", url=url, audience=POINT, trust="system", reason="")


async def link_to(agent: Connections, source: Source, object_id: ObjectId, token: str) -> str:
    """Where a gateway sends whoever asks for an object, once all of them have heard of it."""
    http = agent.client("system")
    async with asyncio.timeout(60):
        while True:
            url = f"{source.url}/objects/{object_id.hex()}"
            answer = await http.request("GET", url, bearer=token, accept=(307,))
            if answer.status == 307:
                return answer.headers["location"]
            await asyncio.sleep(0.1)


def lifetime(link: str) -> tuple[float, str]:
    """For how many seconds a link says that it is good, and the same link with more."""
    told = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    if "X-Amz-Expires" in told:
        seconds = told["X-Amz-Expires"]
        return float(seconds), link.replace(f"X-Amz-Expires={seconds}", "X-Amz-Expires=9999")
    begins, ends = told["st"], told["se"]
    longer = link.replace(quote(ends, safe=""), quote("2099-01-01T00:00:00Z", safe=""))
    return (datetime.fromisoformat(ends) - datetime.fromisoformat(begins)).total_seconds(), longer


async def test_an_agent_fetches_from_the_store_and_granted_bytes_are_recorded(
    site, provider, agent, source, collect, until, host, services_only
):
    token, holder = site.token("dev-7"), provider.holder("cloud1")
    first, *others = site.objects
    link = await link_to(agent, source, first, token)
    assert link.startswith("https://127.0.0.1:")
    assert first.hex() in link
    for object_id in others:
        assert await agent.get(source, object_id, len(site.objects[object_id]), token) == site.objects[object_id]

    async def recorded() -> bool:
        found = [one for records in (await collect(holder)).values() for one in records]
        return set(others) <= {one.object_id for one in found if one.delivery == "redirect"}

    await until(recorded)
    for records in (await collect(holder)).values():
        for one in records:
            size = len(site.objects[one.object_id])
            redirected = (307, "redirect", 0, size)
            streamed = (200, "stream", size, 0)  # before that instance had heard of it
            assert (one.status, one.delivery, one.sent, one.granted) in (redirected, streamed)
    signature = next(word for word in urlsplit(link).query.split("&") if word.lower().startswith(("sig=", "x-amz-sig")))
    assert signature.partition("=")[0] not in host.log(), "links are secrets"
    # An agent that does not trust the store's issuer has the gateway send the bytes.
    only_services = Settings(service_ca=str(services_only), resolve={FQDN: "127.0.0.1"})
    async with Connections(only_services, "") as stranger:
        assert await stranger.get(source, first, len(site.objects[first]), token) == site.objects[first]
    await provider.delete("cloud1")


async def test_a_link_opens_one_object_and_nothing_else_and_ends_by_itself(site, agent, source, provider):
    first, second, *_ = site.objects
    link = await link_to(agent, source, first, site.token())
    seconds, prolonged = lifetime(link)
    assert 0 < seconds <= MAX_LINK_SECONDS
    store = agent._stores()
    assert (await store.request("GET", link)).body == site.objects[first]
    for method, other in (("GET", link.replace(first.hex(), second.hex())), ("DELETE", link)):
        with pytest.raises(EntrepotError, match="403"):
            await store.request(method, other)
    with pytest.raises(EntrepotError, match="403"):
        await store.request("GET", prolonged)
    await provider.stop("cloud1")
    with pytest.raises(UnavailableError):  # no link is given any more; that one stays good for its minute
        await agent.get(source, first, len(site.objects[first]), site.token())
    assert (await store.request("GET", link)).body == site.objects[first]
    await provider.delete("cloud1")


class TestLinksThatS3Refuses:
    """Then the gateway is asked again, and at last sends the bytes itself."""

    @pytest.fixture
    def remote(self, s3_front: S3Front) -> StoreSettings:
        return s3_front.settings

    async def test_the_gateway_streams_where_the_bucket_refuses_links(self, site, agent, source, provider, s3_front):
        first, second, third, *_ = site.objects
        await link_to(agent, source, first, site.token())
        s3_front.refuses = True
        for object_id in (first, second):
            data = site.objects[object_id]
            assert await agent.get(source, object_id, len(data), site.token()) == data
        assert s3_front.links == [("GET", 403)] * 2, "asked again once, then never more"
        s3_front.refuses = False
        assert await agent.get(source, third, len(site.objects[third]), site.token()) == site.objects[third]
        assert len(s3_front.links) == 2
        await provider.delete("cloud1")

    async def test_a_link_that_expired_on_its_way_is_replaced_once(self, site, agent, source, provider, s3_front):
        first, second, *_ = site.objects
        await link_to(agent, source, first, site.token())
        late = iter([MAX_LINK_SECONDS + 1.0])
        s3_front.clock = lambda: time.time() + next(late, 0.0)
        assert await agent.get(source, first, len(site.objects[first]), site.token()) == site.objects[first]
        assert s3_front.links == [("GET", 403), ("GET", 200)]
        assert await agent.get(source, second, len(site.objects[second]), site.token()) == site.objects[second]
        assert s3_front.links[2:] == [("GET", 200)], "links are followed as before"
        await provider.delete("cloud1")

    async def test_curl_follows_a_link_without_showing_the_store_its_token(
        self, site, agent, source, provider, s3_front, ca, tmp_path
    ):
        first, token = next(iter(site.objects)), site.token()
        await link_to(agent, source, first, token)
        port = source.url.rpartition(":")[2]
        out = tmp_path / "object"
        words = ["curl", "-sSfL", "--noproxy", "*", "--cacert", str(ca), "--resolve", f"{FQDN}:{port}:127.0.0.1"]
        words += ["-H", f"Authorization: Bearer {token}", "-o", str(out), f"{source.url}/objects/{first.hex()}"]
        ran = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert out.read_bytes() == site.objects[first]
        assert s3_front.links == [("GET", 200)]
        assert token not in " ".join(s3_front.credentials)
        await provider.delete("cloud1")
