"""What an instance recorded before it died reaches the store, although the store was away when it died."""

import asyncio
import os
import signal
import time

import pytest

from entrepot.cloud.gateway.app import CUT_SECONDS
from entrepot.cloud.gateway.pipes import HEARTBEAT_SECONDS
from entrepot.objects.settings import StoreSettings
from entrepot.protocol.control import GatewaySettings

pytestmark = pytest.mark.process
SLOW = GatewaySettings(segment_seconds=3600.0, minimum_rate=1)
"""Nothing travels by itself."""


@pytest.fixture
def remote(own_azurite) -> StoreSettings:
    return own_azurite.settings()


@pytest.fixture
async def read_once(site, host, provider, running, client_of, until, journalled) -> bytes:
    """A service whose only instance has served one object, and recorded that on its disk; the object."""
    await provider.create("cloud1", site.spec(1))
    holder = provider.holder("cloud1")
    await site.fill(holder)
    await holder.put_document("control", site.control(settings=SLOW).encode())
    client = client_of(await running("cloud1", 1))

    async def obeyed() -> bool:
        return [one.control for one in (await provider.status("cloud1")).instances] == [site.counter]

    await until(obeyed)
    settled = time.time() + CUT_SECONDS + HEARTBEAT_SECONDS

    async def beats() -> bool:
        return all(one.heartbeat >= settled for one in (await provider.status("cloud1")).instances)

    await until(beats)  # by its own clock: no longer does it hand over what it has because of the document
    first = next(iter(site.objects))
    assert await client.read(first, site.token()) == site.objects[first]
    await journalled(host.home, holder, [first])
    assert states(host)
    return first


def records(found: dict) -> list[bytes]:
    return [one.object_id for batch in found.values() for one in batch]


def states(host) -> list[str]:
    """Instances of which something is on the host's disk."""
    return [path.name for path in host.home.glob("services/*/state/*") if list(path.glob("*.journal"))]


@pytest.mark.parametrize("away", ["refusing", "silent"])
async def test_of_an_instance_killed_while_the_store_is_away(
    host, provider, collect, until, own_azurite, read_once, away
):
    """The service is stopped then: nobody asks it for anything, and no instance runs that could look."""
    holder = provider.holder("cloud1")
    dead = states(host)
    if away == "silent":
        own_azurite.pause()
    else:
        await asyncio.to_thread(own_azurite.end)
    for pid in host.gateways():
        os.kill(pid, signal.SIGKILL)
    await provider.stop("cloud1")
    assert states(host) == dead
    if away == "silent":
        own_azurite.resume()
    else:
        await asyncio.to_thread(own_azurite.start)

    async def there() -> bool:
        return bool(await collect(holder))

    await until(there)
    assert records(await collect(holder)) == [read_once]
    assert states(host) == []
    await provider.delete("cloud1")


async def test_of_a_host_killed_again_and_again_while_the_store_is_away(
    host, provider, collect, until, own_azurite, read_once, running
):
    holder = provider.holder("cloud1")
    dead = states(host)
    await asyncio.to_thread(own_azurite.end)
    for lives in (1, 2):
        await asyncio.to_thread(host.end, signal.SIGKILL)
        await asyncio.to_thread(host.start)

        async def tried(lives: int = lives) -> bool:
            return host.log().count("journal.not_shipped") >= lives

        await until(tried)
    await asyncio.to_thread(own_azurite.start)
    await running("cloud1", 1)

    async def there() -> bool:
        return bool(await collect(holder))

    await until(there)
    await asyncio.to_thread(host.end, signal.SIGKILL)
    await asyncio.to_thread(host.start)
    await running("cloud1", 1)
    found = await collect(holder)
    assert (list(found), records(found)) == (dead, [read_once])
    await provider.delete("cloud1")
