"""Instances are killed while clients download: the agent's own downloader has no failure to report."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.client.connections import Connections
from entrepot.client.downloader import Downloader
from entrepot.client.settings import Settings
from entrepot.client.sources import SourceList
from entrepot.cloud.providers.host import HostProvider
from entrepot.content.objectset import encode_set
from entrepot.content.sealing import Generation, Purpose, seal
from entrepot.core.secret import Secret
from entrepot.core.sizes import MIB
from entrepot.core.times import HOUR
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import Freshness, SealedRef
from entrepot.protocol.location import LocationReply, Network, Source, Tier, TierKind

from .conftest import FQDN, POINT

pytestmark = pytest.mark.process
Maker = Callable[..., Any]
PARALLEL = 8
COUNT = 12


class Content:
    """Chunks as a site seals them, and what a management point would tell a client about them."""

    def __init__(self, site: Any, folder: Path) -> None:
        dice, generation = random.Random(3), Generation(1, Secret(bytes(32)))
        self.plain = [dice.randbytes(2 * MIB + number) for number in range(COUNT)]
        self.sealed = [seal(data, purpose=Purpose.CHUNK, generation=generation) for data in self.plain]
        self.set = b"".join(encode_set(sorted(one.ref.object_id for one in self.sealed)))
        self.set_id = object_id_of(self.set)
        self._site = site
        ca = folder / "services.pem"
        ca.write_text(site.authority.pem())
        self.settings = Settings(service_ca=str(ca), resolve={FQDN: "127.0.0.1"}, parallel=PARALLEL)

    async def fill(self, holder: Any) -> None:
        await self._site.fill(holder)
        for object_id, data in ((self.set_id, self.set), *((one.ref.object_id, one.data) for one in self.sealed)):
            await holder.put(object_id, len(data), lambda data=data: [data])

    def reply(self, url: str) -> LocationReply:
        now = int(time.time())
        source = Source(point=POINT, name="cloud", url=url, audience=POINT, trust="system", reason="")
        nothing = {field.name: bytes(32) if field.type is bytes else 0 for field in msgspec.structs.fields(SealedRef)}
        return LocationReply(
            nonce="n",
            fresh=Freshness(epoch=1, counter=1, issued=now, expires=now + HOUR),
            site="PS1",
            device="dev-1",
            network=Network.INTERNET,
            content="pkg-1",
            name="App",
            version=1,
            root=SealedRef(**nothing),
            set_id=self.set_id,
            tiers=(Tier(kind=TierKind.CLOUD, sources=(source,)),),
            withheld=(),
            tokens={POINT: self._site.token(sets=(self.set_id,))},
        )


async def test_killed_instances_fail_no_download(
    host: Any, site: Any, provider: HostProvider, running: Maker, until: Maker, tmp_path: Path
) -> None:
    content = Content(site, tmp_path)
    await provider.create("dp1", site.spec(3))
    await content.fill(provider.holder("dp1"))
    status = await running("dp1", 3)
    reply = content.reply(f"https://{FQDN}:{status.address.rpartition(':')[2]}")

    async def relocate() -> LocationReply:
        return reply

    done = 0
    ended = asyncio.Event()
    killed: list[int] = []

    async def load(downloader: Downloader, first: int) -> None:
        nonlocal done
        number = first
        while not ended.is_set():
            number = (number + 1) % COUNT
            opened = await downloader.get(content.sealed[number].ref, "chunk")
            assert opened.plain == content.plain[number]
            done += 1

    async with Connections(content.settings, "") as connections:
        downloader = Downloader(connections, SourceList(reply), relocate, retries=3, clock=time.time)
        loads = [asyncio.create_task(load(downloader, number)) for number in range(PARALLEL)]

        async def more(count: int) -> None:
            wanted = done + count

            async def there() -> bool:
                for task in loads:
                    if task.done():
                        task.result()
                return done >= wanted

            await until(there)

        await more(COUNT)
        for pid in host.gateways():  # one after the other, each under load
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            await more(2 * PARALLEL)
        ended.set()
        await asyncio.gather(*loads)
    assert len(killed) == 3
    status = await running("dp1", 3)
    assert {one.restarts for one in status.instances} == {3}
    assert set(host.gateways()).isdisjoint(killed)
