"""A gateway without a host, as it runs in a container or on any machine; and everything killed at random moments."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.gateway.config import GatewayConfig
from entrepot.cloud.gateway.seen import load_seen
from entrepot.cloud.providers.host import HostProvider
from entrepot.core.errors import EntrepotError, ForbiddenError, NotFoundError, UnavailableError
from entrepot.protocol.control import ServiceState

from .. import waiting
from .alone import Alone

pytestmark = pytest.mark.process
Maker = Callable[..., Any]


async def test_on_sigterm_running_downloads_finish_and_everything_is_shipped(
    alone: Alone, site: Any, client_of: Maker, collect: Maker
) -> None:
    await site.fill(alone.holder)
    client, token = client_of(alone.start()), site.token()
    download = await client.begin(site.big, token)
    alone.send(signal.SIGTERM)
    assert await download.rest(pause=0.01) == site.objects[site.big]
    assert await asyncio.to_thread(alone.wait) == 0
    [records] = (await collect(alone.holder)).values()
    assert [(record.status, record.sent) for record in records] == [(200, len(site.objects[site.big]))]
    assert [left.name for left in alone.state.iterdir()] == ["seen"]


async def test_the_next_instance_ships_what_a_killed_one_left(
    alone: Alone, site: Any, client_of: Maker, collect: Maker, until: Maker, journalled: Maker
) -> None:
    await site.fill(alone.holder)
    await client_of(alone.start()).read(site.big, site.token())
    await journalled(alone.state, alone.holder, [site.big])
    alone.send(signal.SIGKILL)
    alone.wait()
    [left] = [path for path in alone.state.iterdir() if path.is_dir()]
    alone.start()

    async def shipped() -> bool:
        all_of_it = [len(records) for records in (await collect(alone.holder)).values()] == [1]
        return all_of_it and not left.exists()

    await until(shipped)
    assert list(await collect(alone.holder)) == [left.name]


async def test_what_a_killed_gateway_was_sending_is_counted(
    alone: Alone, site: Any, client_of: Maker, collect: Maker, until: Maker
) -> None:
    await site.fill(alone.holder)
    download = await client_of(alone.start()).begin(site.big, site.token())
    [folder] = [path for path in alone.state.iterdir() if path.is_dir()]

    async def noted() -> bool:
        return (folder / "running").exists()

    await until(noted)
    alone.send(signal.SIGKILL)
    alone.wait()
    download.close()
    await asyncio.sleep(0)
    alone.start()

    async def shipped() -> bool:
        return [len(records) for records in (await collect(alone.holder)).values()] == [1]

    await until(shipped)
    [[record]] = (await collect(alone.holder)).values()
    assert (record.status, record.object_id) == (200, site.big)
    assert 0 < record.sent <= len(site.objects[site.big])


@pytest.mark.parametrize("how", ["stop", "revocation"])
async def test_every_instance_of_a_service_cuts_off_whom_the_control_document_no_longer_allows(
    alone: Alone, site: Any, tmp_path: Path, client_of: Maker, collect: Maker, until: Maker, how: str
) -> None:
    """Without a host nobody tells them: each polls, every 2 s unless its configuration says otherwise."""
    assert {one.name: one.default for one in msgspec.structs.fields(GatewayConfig)}["poll"] == 2.0
    await site.fill(alone.holder)
    other = Alone(tmp_path, site, name="other", shared=alone)
    try:
        clients = [client_of(one.start()) for one in (alone, other)]
        cut = [await client.begin(site.big, site.token("dev-bad")) for client in clients for _ in range(2)]
        kept = [await client.begin(site.big, site.token("dev-good")) for client in clients]
        if how == "stop":
            document = site.control(state=ServiceState.STOPPED)
        else:
            document = site.control(revoked_devices=("dev-bad",))
        await alone.holder.put_document("control", document.encode())
        got = await asyncio.gather(*(one.rest() for one in (*cut, *kept)))
        whole = site.objects[site.big]
        assert all(len(one) < len(whole) for one in got[:4])
        assert [one == whole for one in got[4:]] == [how == "revocation"] * 2
        for client in clients:
            with pytest.raises(ForbiddenError if how == "revocation" else UnavailableError):
                await client.read(site.big, site.token("dev-bad"))

        async def shipped() -> bool:
            return sum(len(records) for records in (await collect(alone.holder)).values()) >= 6

        await until(shipped)
        records = [one for found in (await collect(alone.holder)).values() for one in found]
        bad = sorted(one.sent for one in records if one.device == "dev-bad" and one.status == 200)
        assert len(bad) == 4
        assert all(mine <= counted for mine, counted in zip(sorted(map(len, got[:4])), bad, strict=True))
    finally:
        other.end()


async def test_health_says_whether_clients_are_served(alone: Alone, site: Any, client_of: Maker, until: Maker) -> None:
    client = client_of(alone.start())
    answer = await client.http.request("GET", f"{client.base}/healthz", accept=(503,))
    assert answer.status == 503
    assert b"no valid control document" in answer.body
    await site.fill(alone.holder)

    async def healthy() -> bool:
        answer = await client.http.request("GET", f"{client.base}/healthz", accept=(503,))
        return bool(answer.status == 200)

    await until(healthy)
    assert b"entrepot_downloads_running" in (await client.http.request("GET", f"{client.base}/metrics")).body


async def test_kills_at_random_moments_change_nothing_that_was_wanted(
    host: Any, site: Any, provider: HostProvider, client_of: Maker, collect: Maker, until: Maker
) -> None:
    """Host or gateways are killed while an order is carried out; the order is repeated, and then it is so."""
    dice = random.Random(11)
    spec = site.spec(2)
    holder = provider.holder("dp1")

    async def filled() -> None:
        await site.fill(holder)

    orders: list[tuple[Callable[[], Any], str, int]] = [
        (lambda: provider.create("dp1", spec), "running", 2),
        (filled, "running", 2),
        (lambda: provider.scale("dp1", 3), "running", 3),
        (lambda: provider.stop("dp1"), "stopped", 0),
        (lambda: provider.start("dp1"), "running", 3),
        (lambda: provider.scale("dp1", 1), "running", 1),
    ]
    for order, state, instances in orders:
        task = asyncio.ensure_future(order())
        await asyncio.sleep(dice.uniform(0, 0.4))
        if dice.random() < 0.6:
            host.end(signal.SIGKILL)
            await asyncio.gather(task, return_exceptions=True)
            host.start()
        else:
            for pid in host.gateways():
                os.kill(pid, signal.SIGKILL)
            await asyncio.gather(task, return_exceptions=True)
        await until_obeyed(order)
        await until(lambda state=state, instances=instances: is_so(provider, state, instances))
    status = await provider.status("dp1")
    token = site.token()

    async def served() -> bool:
        return bool(await client_of(status).read(site.big, token) == site.objects[site.big])

    await until(served)
    await provider.stop("dp1")
    found = await collect(holder)
    assert [record.object_id for records in found.values() for record in records].count(site.big) >= 1
    task = asyncio.ensure_future(provider.delete("dp1"))
    await asyncio.sleep(0.02)
    host.end(signal.SIGKILL)
    await asyncio.gather(task, return_exceptions=True)
    host.start()
    await until_obeyed(lambda: provider.delete("dp1"))
    with pytest.raises(NotFoundError):
        await provider.status("dp1")
    assert list((host.home / "services").iterdir()) == []
    assert host.gateways() == []


async def until_obeyed(order: Callable[[], Any]) -> None:
    """As a durable task does: try again while it may help."""

    async def obeyed() -> bool:
        await order()
        return True

    await waiting.until(obeyed, "the order was obeyed")


async def is_so(provider: HostProvider, state: str, instances: int) -> bool:
    status = await provider.status("dp1")
    running = [one for one in status.instances if one.state == "running"]
    return status.state == state and len(running) == len(status.instances) == instances


async def test_an_instance_that_starts_anew_refuses_what_is_older_than_what_was_obeyed(
    alone: Alone, site: Any, client_of: Maker, until: Maker
) -> None:
    await site.fill(alone.holder)
    old_control, old_trust = site.control().encode(), site.trust().encode()
    await alone.holder.put_document("trust", site.trust(2).encode())
    newest = site.control(revoked_devices=("dev-1",))
    counter = site.counter
    await alone.holder.put_document("control", newest.encode())
    alone.start()

    async def remembered() -> bool:
        kept = load_seen(alone.state / "seen")
        return (kept.trust, kept.counter) == (2, counter)

    await until(remembered)
    alone.send(signal.SIGKILL)
    alone.wait()
    await alone.holder.put_document("control", old_control)  # by somebody who can write the store
    client = client_of(alone.start())
    with pytest.raises(EntrepotError, match="no valid control document"):
        await client.read(site.big, site.token())
    await alone.holder.put_document("trust", old_trust)
    await alone.holder.put_document("control", site.control().encode())
    alone.send(signal.SIGKILL)
    alone.wait()
    client = client_of(alone.start())
    with pytest.raises(EntrepotError, match="no valid control document"):
        await client.read(site.big, site.token())
    await alone.holder.put_document("trust", site.trust(2).encode())

    async def served() -> bool:
        return bool(await client.read(site.big, site.token()) == site.objects[site.big])

    await until(served)
