"""Control documents: signed, fresh, never going back, and there at once when something changes."""

import asyncio
import contextlib

import pytest
from sqlalchemy import update

from entrepot.core.errors import ReplayError, UnavailableError
from entrepot.core.times import HOUR
from entrepot.database import controldocuments
from entrepot.database.hierarchy import note_change
from entrepot.database.tables.devices import device
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.control import CONTROL_LIFETIME, ServiceState
from entrepot.protocol.tokens import CLOCK_SKEW, MAX_TOKEN_LIFETIME
from entrepot.site.cloud.loops import CloudLoops
from entrepot.site.cloud.states import CloudAction
from entrepot.trust.pins import FreshnessLog

from .conftest import NOW, Gateway, SiteUnderTest, record
from .test_cloud_life_cycle import _add_device


def _block(connection, now: float = NOW) -> None:
    connection.execute(update(device).values(state="blocked", changed=int(now)))
    note_change(connection)


async def _publish(site: SiteUnderTest, **options: bool) -> int:
    point = await site.services.get("cloud1")
    store = await site.services.providers.store_of(point)
    return await site.services.control.publish(point.point, store, **options)


async def test_nothing_is_signed_while_nothing_changes(site) -> None:
    await site.make_point()
    first = site.control_of()
    assert await _publish(site) == first.fresh.counter
    assert site.control_of() == first
    assert first.fresh.expires - first.fresh.issued == CONTROL_LIFETIME


async def test_a_document_is_signed_anew_every_hour(site) -> None:
    await site.make_point()
    before = site.control_of().fresh
    site.clock.advance(HOUR - 1)
    await _publish(site)
    assert site.control_of().fresh == before
    site.clock.advance(60)
    await _publish(site)
    after = site.control_of().fresh
    assert (after.counter, after.issued) == (before.counter + 1, int(site.clock()))


async def test_a_blocked_device_is_revoked(site) -> None:
    await site.make_point()
    await site.database.write(_add_device, "laptop-7")
    await _publish(site)
    assert site.control_of().revoked_devices == ()
    await site.database.write(_block)
    await _publish(site)
    assert site.control_of().revoked_devices == ("dev-0123456789abcdef",)


async def test_a_revocation_ends_when_the_devices_last_token_has(site) -> None:
    await site.make_point()
    await site.database.write(_add_device, "laptop-7")
    await site.database.write(_block)
    site.clock.now = NOW + MAX_TOKEN_LIFETIME
    await _publish(site)
    assert site.control_of().revoked_devices == ("dev-0123456789abcdef",)
    site.clock.advance(2 * CLOCK_SKEW + 1)
    await _publish(site)
    assert site.control_of().revoked_devices == ()


async def test_a_document_that_did_not_arrive_is_sent_again_with_a_higher_counter(site) -> None:
    point = await site.make_point()
    before = site.control_of().fresh.counter
    site.cloud.failures["put_document"] = [UnavailableError("Store down.")]
    with pytest.raises(UnavailableError):
        await _publish(site, always=True)
    row = await site.database.read(controldocuments.control, point.point)
    assert (row.error, row.pushed) == ("Store down.", before)
    await _publish(site)
    assert site.control_of().fresh.counter == before + 2
    row = await site.database.read(controldocuments.control, point.point)
    assert (row.error, row.pushed) == ("", before + 2)


async def test_readers_accept_every_next_document_and_no_older_one(site, tmp_path) -> None:
    await site.make_point()
    log = FreshnessLog(tmp_path / "seen.json")
    first = site.control_of()
    log.accept("control", first.fresh, now=site.clock())
    await _publish(site, always=True)
    log.accept("control", site.control_of().fresh, now=site.clock())
    with pytest.raises(ReplayError):
        log.accept("control", first.fresh, now=site.clock())


async def test_a_late_publication_cannot_undo_a_stop(site) -> None:
    """What is wanted is read with the counter: whoever publishes last says what was ordered last."""
    await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await _publish(site, always=True)  # a loop that looked at the point before the order was given
    assert site.state_of() is ServiceState.STOPPED


async def test_the_loops_publish_a_revocation_without_being_asked(site) -> None:
    await site.make_point()
    await site.database.write(_add_device, "laptop-7")
    loops = CloudLoops(site.services)
    running = asyncio.create_task(loops.serve())
    try:
        await asyncio.sleep(0)
        await site.database.write(_block)
        async with asyncio.timeout(30):
            while site.control_of().revoked_devices == ():  # noqa: ASYNC110  # the store cannot tell when it is written
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_one_pass_of_every_loop_brings_everything_up_to_date(site) -> None:
    point = await site.make_point()
    loops = CloudLoops(site.services)
    key, data = Gateway(point.point).segment([record(77)])
    await site.cloud.services["cloud1"].holder.put_document(key, data)
    for once in (loops.control_once, loops.health_once, loops.collect_once, loops.reconcile_once, loops.meter_once):
        await once()
    await asyncio.gather(*loops._busy.values())
    assert "bytes=77" in (site.folder / "logs" / "CloudDP-cloud1.log").read_text()
    assert (await site.services.get("cloud1")).checked == int(site.clock())


async def test_a_point_that_fails_does_not_hold_up_another(site) -> None:
    await site.make_point("cloud1")
    await site.services.create(site.request("cloud2", "cloud2.contoso.com"))
    await site.settle()
    assert (await site.services.get("cloud2")).state is CloudPointState.READY
    before = site.control_of("cloud2").fresh.counter
    del site.cloud.services["cloud1"]
    site.clock.advance(2 * HOUR)
    loops = CloudLoops(site.services)
    await loops.control_once()
    await asyncio.gather(*loops._busy.values())
    assert site.control_of("cloud2").fresh.counter == before + 1
