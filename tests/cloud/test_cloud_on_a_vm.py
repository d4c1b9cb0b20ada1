"""docs/cloud-on-a-vm.md, with real processes: a cloud host whose services keep their content in S3 or Azure Blob."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
import pytest

from entrepot.client.connections import Connections
from entrepot.client.settings import Settings
from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.host.settings import load_settings, save_settings
from entrepot.cloud.host.setup import init_host
from entrepot.cloud.providers.host import HostProvider
from entrepot.core.errors import EntrepotError, NotFoundError, StorageError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.objects.metering import Meter
from entrepot.objects.opening import open_remote
from entrepot.objects.settings import StoreSettings
from entrepot.objects.store import MAX_LINK_SECONDS, ObjectStore
from entrepot.protocol.control import Delivery, GatewaySettings
from entrepot.protocol.location import Source

from .conftest import FQDN, POINT

pytestmark = pytest.mark.process


@pytest.fixture(params=["moto", "azurite"])
def remote(request: pytest.FixtureRequest) -> StoreSettings:
    """A prefix in a bucket."""
    settings: StoreSettings = request.getfixturevalue(request.param).settings()
    return settings


@pytest.fixture
def bucket(remote: StoreSettings) -> ObjectStore:
    """What lies below the host's prefix, seen by its owner."""
    return open_remote(remote, meter=Meter())


@pytest.fixture
def host(tmp_path: Path, remote: StoreSettings, host_process) -> Iterator[object]:
    """A running cloud host whose services keep their content far away."""
    home = tmp_path / "host"
    identity = init_host(home, "127.0.0.1:0", now=time.time())
    save_settings(home, msgspec.structs.replace(load_settings(home), store=remote))
    process = host_process(home, identity)
    process.start()
    yield process
    process.end()
    assert process.gateways() == []


@pytest.fixture
async def provider(host, management, providers) -> AsyncIterator[HostProvider]:
    administration = HostAdministration(host.home)
    subscription = administration.add_subscription("contoso")
    administration.upload_certificate("contoso", management.cer)
    async with providers(subscription.id, management) as made:
        yield made


def keys(store: ObjectStore) -> list[str]:
    return [entry.key for entry in store.list().entries]


async def test_content_goes_to_the_store_and_from_there_to_clients_and_nothing_is_left(
    site, host, provider, running, client_of, collect, bucket, remote, until
):
    await provider.create("cloud1", site.spec(2))
    holder = provider.holder("cloud1")
    await site.fill(holder)
    status = await running("cloud1", 2)
    assert status.stored_objects == len(site.everything)
    [service] = {key.split("/")[0] for key in keys(bucket)}
    assert f"{service}/control" in keys(bucket)
    assert sum(key.startswith(f"{service}/objects/") for key in keys(bucket)) == len(site.everything)
    assert not list((host.home / "services" / service).rglob("objects")), "nothing lies on the host's own disk"

    client = client_of(status)
    token = site.token()
    for object_id, data in site.everything.items():
        assert await client.read(object_id, token) == data

    async def recorded() -> bool:
        found = await collect(holder)
        return sum(len(records) for records in found.values()) == len(site.everything)

    await until(recorded)

    await provider.stop("cloud1")
    await holder.delete(site.big)
    with pytest.raises(EntrepotError):
        await client.read(next(iter(site.objects)), token)
    assert not await holder.missing(list(site.objects)[:1])
    await provider.start("cloud1")
    status = await running("cloud1", 2)
    client = client_of(status)
    with pytest.raises(NotFoundError):
        await client.read(site.big, token)
    first = next(iter(site.objects))
    assert await client.read(first, token) == site.objects[first]

    assert (await provider.delete("cloud1")).left == ()
    assert keys(bucket) == []


async def test_a_revocation_bites_at_once_although_the_store_is_polled_rarely(
    site, provider, running, client_of, until
):
    await provider.create("cloud1", site.spec(1))
    holder = provider.holder("cloud1")
    await site.fill(holder)
    client = client_of(await running("cloud1", 1))
    token = site.token("dev-7")
    download = await client.begin(site.big, token)
    await holder.put_document("control", site.control(revoked_devices=("dev-7",)).encode())
    assert len(await download.rest()) < len(site.objects[site.big])
    with pytest.raises(EntrepotError):
        await client.read(next(iter(site.objects)), token)
    await provider.delete("cloud1")


async def test_only_stores_behind_https_give_links(site, provider, remote):
    await provider.create("cloud1", site.spec(1))
    by_https = remote.endpoint.startswith("https://")
    assert (await provider.check()).redirects is by_https
    assert (await provider.status("cloud1")).redirects is by_https
    await provider.delete("cloud1")


class TestRedirects:
    """The content lies in Azure Blob as Azurite plays it; clients fetch it from there, and are counted here."""

    @pytest.fixture
    def remote(self, azurite) -> StoreSettings:
        return azurite.settings()

    @pytest.fixture
    def services_only(self, site, tmp_path: Path) -> Path:
        """The issuer of services, and not the store's."""
        path = tmp_path / "services.pem"
        path.write_text(site.authority.pem())
        return path

    @pytest.fixture
    def ca(self, site, remote, tmp_path: Path) -> Path:
        """Both issuers."""
        path = tmp_path / "trusted.pem"
        path.write_text(site.authority.pem() + Path(remote.ca).read_text())
        return path

    @pytest.fixture
    async def agent(self, ca: Path) -> AsyncIterator[Connections]:
        """The agent's own connections; the store's issuer is among those that its settings trust."""
        async with Connections(Settings(service_ca=str(ca), resolve={FQDN: "127.0.0.1"}), "") as connections:
            yield connections

    @pytest.fixture
    async def source(self, site, provider, running) -> Source:
        """A cloud point that redirects."""
        await provider.create("cloud1", site.spec(2))
        holder = provider.holder("cloud1")
        await site.fill(holder)
        settings = GatewaySettings(segment_seconds=1.0, minimum_rate=1, delivery=Delivery.REDIRECT)
        await holder.put_document("control", site.control(settings=settings).encode())
        status = await running("cloud1", 2)
        url = f"https://{FQDN}:{status.address.rpartition(':')[2]}"
        return Source(point=POINT, name="cloud1", url=url, audience=POINT, trust="system", reason="")

    async def link(self, agent: Connections, source: Source, object_id: ObjectId, token: str) -> str:
        """Where a gateway sends whoever asks for an object, once all of them have heard of it."""
        http = agent.client("system")
        async with asyncio.timeout(60):
            while True:
                url = f"{source.url}/objects/{object_id.hex()}"
                answer = await http.request("GET", url, bearer=token, accept=(307,))
                if answer.status == 307:
                    return answer.headers["location"]
                await asyncio.sleep(0.1)

    async def test_an_agent_fetches_from_the_store_and_granted_bytes_are_recorded(
        self, site, provider, agent, source, collect, until, host, services_only
    ):
        token, holder = site.token("dev-7"), provider.holder("cloud1")
        first, *others = site.objects
        link = await self.link(agent, source, first, token)
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
        assert "sig=" not in host.log(), "links are secrets"
        # An agent that does not trust the store's issuer has the gateway send the bytes.
        only_services = Settings(service_ca=str(services_only), resolve={FQDN: "127.0.0.1"})
        async with Connections(only_services, "") as stranger:
            assert await stranger.get(source, first, len(site.objects[first]), token) == site.objects[first]
        await provider.delete("cloud1")

    async def test_a_link_opens_one_object_and_nothing_else_and_ends_by_itself(self, site, agent, source, provider):
        first, second, *_ = site.objects
        link = await self.link(agent, source, first, site.token())
        [begins, ends] = [parse_qs(urlsplit(link).query)[name][0] for name in ("st", "se")]
        seconds = (datetime.fromisoformat(ends) - datetime.fromisoformat(begins)).total_seconds()
        assert 0 < seconds <= MAX_LINK_SECONDS
        store = agent._stores()
        assert (await store.request("GET", link)).body == site.objects[first]
        for method, other in (("GET", link.replace(first.hex(), second.hex())), ("DELETE", link)):
            with pytest.raises(EntrepotError, match="403"):
                await store.request(method, other)
        with pytest.raises(EntrepotError, match="403"):
            await store.request("GET", link.replace(quote(ends, safe=""), quote("2099-01-01T00:00:00Z", safe="")))
        await provider.stop("cloud1")
        with pytest.raises(UnavailableError):  # no link is given any more; that one stays good for its minute
            await agent.get(source, first, len(site.objects[first]), site.token())
        assert (await store.request("GET", link)).body == site.objects[first]
        await provider.delete("cloud1")


async def test_two_services_never_see_each_other(site, provider, bucket):
    for name in ("cloud1", "cloud2"):
        await provider.create(name, site.spec(1, fqdn=f"{name}.contoso.example"))
    first, second = provider.holder("cloud1"), provider.holder("cloud2")
    [object_id, *_] = site.objects
    data = site.objects[object_id]
    await first.put(object_id, len(data), lambda: [data])
    assert await second.missing([object_id]) == [object_id]
    assert (await provider.delete("cloud2")).left == ()
    assert not await first.missing([object_id])
    assert (await provider.delete("cloud1")).left == ()
    assert keys(bucket) == []


async def test_the_count_of_what_is_stored_survives_restart_and_sigkill(site, host, provider, until):
    await provider.create("cloud1", site.spec(1))
    await site.fill(provider.holder("cloud1"))
    before = await provider.status("cloud1")
    for number in (15, 9):
        await asyncio.to_thread(host.end, number)
        await asyncio.to_thread(host.start)
        assert '"event": "store.metered"' in host.log() or number == 9, "an orderly end says what the store cost"
        after = await provider.status("cloud1")
        assert after.stored_objects == before.stored_objects
        assert after.stored_bytes >= before.stored_bytes
    await provider.delete("cloud1")


async def test_credentials_appear_nowhere(site, host, provider, running, remote):
    await provider.create("cloud1", site.spec(1))
    status = await running("cloud1", 1)
    await asyncio.to_thread(no_trace_of_credentials, remote, host, json.dumps(msgspec.to_builtins(status)))
    await provider.delete("cloud1")


def no_trace_of_credentials(remote: StoreSettings, host, reply: str) -> None:
    secret = Path(remote.credentials).read_text().rsplit('"', 2)[1]
    assert len(secret) > 8
    arguments = [path.read_bytes() for pid in host.gateways() for path in Path(f"/proc/{pid}").glob("cmdline")]
    assert arguments
    for place in (*arguments, host.log().encode(), reply.encode()):
        assert secret.encode() not in place
    files = [path for path in host.home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".json" for path in files), "the gateway's configuration is among them"
    for path in files:
        assert secret.encode() not in path.read_bytes(), path


class TestAStoreThatCannotBeUsed:
    """The host says so before it creates anything, and blames nobody else."""

    @pytest.fixture
    def remote(self, moto, tmp_path: Path) -> StoreSettings:
        return msgspec.structs.replace(moto.settings(), bucket="no-such-bucket")

    async def test_no_service_is_created(self, site, provider):
        with pytest.raises(StorageError, match="no such bucket"):
            await provider.create("cloud1", site.spec(1))
        assert await provider.services() == []


class TestAStoreThatIsAway:
    """Azurite ends and comes back; nothing is lost."""

    @pytest.fixture
    def remote(self, own_azurite) -> StoreSettings:
        return own_azurite.settings()

    async def test_clients_are_told_and_served_again(
        self, site, host, provider, running, client_of, own_azurite, until
    ):
        await provider.create("cloud1", site.spec(1))
        holder = provider.holder("cloud1")
        await site.fill(holder)
        client = client_of(await running("cloud1", 1))
        token = site.token()
        first, second, *_ = site.objects
        assert await client.read(first, token) == site.objects[first]
        await asyncio.to_thread(own_azurite.end)
        with pytest.raises(UnavailableError):
            await client.read(second, token)
        with pytest.raises(UnavailableError):
            await holder.put_document("control", site.control().encode())
        left = (await provider.delete("cloud1")).left
        assert left
        assert "object store" in left[0]
        await asyncio.to_thread(own_azurite.start)

        async def is_gone() -> bool:
            return await provider.services() == []

        await until(is_gone)
        assert keys(open_remote(load_settings(host.home).store, meter=Meter())) == []


def test_the_commands_of_the_page_set_a_host_up(tmp_path: Path) -> None:
    """As they are written there, but for folders and ports of this machine."""
    page = Path(__file__).parents[2] / "docs" / "cloud-on-a-vm.md"
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    home = tmp_path / "host"
    lines = [
        line for line in text.splitlines() if re.match(r"entrepot (host (init|subscription)|certificate new)", line)
    ]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.replace("/var/lib/entrepot/host", str(home)).replace("0.0.0.0:8443", "0.0.0.0:0"))
        words = [str(tmp_path / "certs" / word) if word.endswith(".cer") else word for word in words]
        words = [str(tmp_path / "certs") if word == "certs" else word for word in words]
        if "new-management" in words:
            (tmp_path / "password").write_text("correct horse\n")
            (tmp_path / "password").chmod(0o600)
            words += ["--password-file", str(tmp_path / "password")]
        ran = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, (line, ran.stderr)
    (subscription,) = HostAdministration(home).subscriptions()
    assert subscription.name == "contoso"
