"""Budgets with real gateway processes (R23): whatever clients do, and whenever instances die, the bytes that arrive are
no more than the bytes recorded, and these no more than was granted."""

import asyncio
import os
import random
import signal
import ssl
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from entrepot.cloud.providers.host import HostProvider
from entrepot.core.sizes import KIB, MIB
from entrepot.protocol.allowances import ALLOWANCE_PREFIX, MARK_PREFIX, decode_mark, decode_slot, mark_key
from entrepot.rules.allowance import slots

pytestmark = pytest.mark.process
Maker = Any

ALLOW = 40 * MIB
DEVICES = ("dev-a", "dev-b", "dev-c")
FLOWING = 2 * MIB
GONE = (aiohttp.ClientError, ConnectionError, TimeoutError, ssl.SSLError)


class Thief:
    """Somebody with a good token who wants more than it allows, on as many connections as he can have."""

    def __init__(self, device: str, token: str, base: str, site: Any, seed: int) -> None:
        self.device = device
        self.received = 0
        self.flowing = asyncio.Event()
        self.refusals: Counter[int] = Counter()
        self.refusal = ""
        self._name, _, port = base.removeprefix("https://").rpartition(":")
        self._url = f"https://127.0.0.1:{port}/objects/"
        self._site, self._draw = site, random.Random(seed)
        self._headers = {"Authorization": f"Bearer {token}"}

    async def steal(self, session: aiohttp.ClientSession, enough: asyncio.Event) -> None:
        """Ask in every way until told to end."""
        ways = (self._whole, self._whole, self._big_and_leave, self._range, self._head, self._revalidate)
        while not enough.is_set():
            with suppress(*GONE):
                await self._draw.choice(ways)(session)

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        object_id: bytes,
        *,
        most: int = 2**40,
        method: str = "GET",
        **more: str,
    ) -> None:
        url, headers = f"{self._url}{object_id.hex()}", self._headers | more
        async with session.request(method, url, headers=headers, server_hostname=self._name) as answer:
            if answer.status in (200, 206):
                begun = 0
                async for piece in answer.content.iter_any():
                    begun += len(piece)
                    self.received += len(piece)
                    if self.received >= FLOWING:
                        self.flowing.set()
                    if begun >= most:
                        answer.close()
                        return
            elif answer.status >= 400:
                text = await answer.text()
                if "transfer budget" in text:
                    self.refusals[answer.status] += 1
                    self.refusal = text

    async def _whole(self, session: aiohttp.ClientSession) -> None:
        small = [one for one in self._site.objects if one != self._site.big]
        await self._ask(session, self._draw.choice(small))

    async def _big_and_leave(self, session: aiohttp.ClientSession) -> None:
        await self._ask(session, self._site.big, most=self._draw.choice([1, 300 * KIB, 3 * MIB]))

    async def _range(self, session: aiohttp.ClientSession) -> None:
        begin = self._draw.randrange(15 * MIB)
        await self._ask(session, self._site.big, Range=f"bytes={begin}-{begin + self._draw.choice([0, 999, 99_999])}")

    async def _head(self, session: aiohttp.ClientSession) -> None:
        await self._ask(session, self._site.big, method="HEAD")

    async def _revalidate(self, session: aiohttp.ClientSession) -> None:
        await self._ask(session, self._site.big, **{"If-None-Match": f'"{self._site.big.hex()}"'})


@pytest.mark.long
async def test_thieves_and_crashes_get_no_more_than_was_granted(
    host: Any,
    site: Any,
    provider: HostProvider,
    client_of: Maker,
    running: Maker,
    until: Maker,
    collect: Maker,
) -> None:
    await provider.create("dp1", site.spec(3))
    holder = provider.holder("dp1")
    await site.fill(holder)
    await holder.put_document("control", site.control(bounded=True).encode())
    client = client_of(await running("dp1", 3))
    with pytest.raises(Exception, match="transfer budget was set"):
        await client.read(site.big, site.token())
    thieves = [
        Thief(device, site.token(device, allow=ALLOW), client.base, site, seed) for seed, device in enumerate(DEVICES)
    ]
    draw, killed = random.Random(1), list[str]()
    enough = asyncio.Event()
    context = ssl.create_default_context(cadata=site.authority.pem())
    connector = aiohttp.TCPConnector(ssl=context, force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for thief in thieves:  # one after the other: each has an allowance to lose when an instance is killed
            before = await _won(holder)
            for _ in range(8):
                group.create_task(thief.steal(session, enough))
            await asyncio.wait_for(thief.flowing.wait(), 60)
            killed.append(draw.choice(_winners(before, await _won(holder))))
            os.kill(_process(host, killed[-1]), signal.SIGKILL)
            await until(lambda: _replaced(provider, killed))

        async def all_refused() -> bool:
            return all(thief.refusals[429] > 20 for thief in thieves)

        await until(all_refused)
        enough.set()
    won = await _won(holder)
    await until(lambda: _dead_are_accounted_for(holder, killed))
    await provider.stop("dp1")
    records = [record for found in (await collect(holder)).values() for record in found]
    recorded: Counter[str] = Counter()
    for record in records:
        recorded[record.device] += record.sent
    for thief in thieves:
        assert FLOWING <= thief.received <= recorded[thief.device] <= ALLOW, (thief.device, thief.received, recorded)
        assert "Ask the management point again later" in thief.refusal
    marks = [key.removeprefix(MARK_PREFIX) for key in (await holder.list_documents(MARK_PREFIX)).keys]
    assert set(killed) <= set(won) <= set(marks), "every instance, killed or not, has accounted for what it won"


async def _won(holder: Any) -> dict[str, int]:
    """Bytes that each instance won."""
    found: dict[str, int] = {}
    keys = (await holder.list_documents(ALLOWANCE_PREFIX)).keys
    for key, document in zip(keys, await asyncio.gather(*map(holder.get_document, keys)), strict=True):
        instance = decode_slot(document)
        found[instance] = found.get(instance, 0) + slots(ALLOW)[int(key.rpartition("/")[2])]
    return found


def _winners(before: dict[str, int], now: dict[str, int]) -> list[str]:
    """Instances that won something meanwhile: they serve, and have something to account for."""
    return sorted(one for one in now if now[one] > before.get(one, 0))


def _process(host: Any, instance: str) -> int:
    """Process id of an instance, whose configuration bears its name."""
    return next(pid for pid in host.gateways() if instance.encode() in Path(f"/proc/{pid}/cmdline").read_bytes())


async def _replaced(provider: HostProvider, killed: list[str]) -> bool:
    """Whether the host has noticed the last death, and all instances serve again."""
    status = await provider.status("dp1")
    return status.state == "running" and not {one.id for one in status.instances} & set(killed)


async def _dead_are_accounted_for(holder: Any, killed: list[str]) -> bool:
    """Whether whoever adopted the journals of those that were killed has said so, of each."""
    marks = (await holder.list_documents(MARK_PREFIX)).keys
    dead = {mark_key(one) for one in killed}
    return dead <= set(marks) and all([decode_mark(await holder.get_document(key)).ended for key in dead])
