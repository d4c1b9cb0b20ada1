"""A store that accepts requests and never answers: what was stopped ends nevertheless, and nobody waits for the store.

No host tells these gateways anything: they poll their documents, as in a container.
"""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.core.errors import UnavailableError
from entrepot.objects.metering import Meter
from entrepot.objects.opening import open_remote
from entrepot.objects.shelf import Shelf
from entrepot.protocol.control import ServiceState
from entrepot.web.dataplane import ShelfHolder

from ..alone import Alone
from .s3_front import S3Front

pytestmark = pytest.mark.process


@pytest.fixture
def alone(tmp_path: Path, site, s3_front: S3Front) -> Iterator[Alone]:
    made = Alone(tmp_path, site, remote=s3_front.settings)
    yield made
    made.end()


def everything(_method: str, _path: str) -> bool:
    return True


def objects(_method: str, path: str) -> bool:
    return "/objects/" in path


async def test_a_stop_ends_downloads_that_wait_for_a_silent_store(alone, site, client_of, s3_front, until) -> None:
    await site.fill(alone.holder)
    client, token = client_of(alone.start()), site.token()
    first = next(iter(site.objects))
    assert await client.read(first, token) == site.objects[first]  # now the gateway knows what the token opens
    s3_front.silent = objects
    waiting = asyncio.ensure_future(client.read(site.big, token))
    await until(lambda: s3_front.held)
    assert not waiting.done()
    await alone.holder.put_document("control", site.control(state=ServiceState.STOPPED).encode())
    with pytest.raises(UnavailableError):
        await waiting
    with pytest.raises(UnavailableError, match="stopped by its administrator"):
        await client.read(site.big, token)


async def test_a_stop_that_a_silent_store_hides_ends_downloads_within_seconds(
    alone, site, client_of, s3_front, until
) -> None:
    """It is told past the silence, so no gateway can know of it. What is on its way from the store would go on."""
    await site.fill(alone.holder)
    client, token = client_of(alone.start()), site.token()
    download = await client.begin(site.big, token)
    s3_front.silent = everything
    past = ShelfHolder(Shelf(open_remote(s3_front.direct, meter=Meter())))
    await past.put_document("control", site.control(state=ServiceState.STOPPED).encode())
    assert len(await download.rest(pause=0.1)) < len(site.objects[site.big])
    with pytest.raises(UnavailableError, match="cannot see its control document"):
        await client.read(site.big, token)
    s3_front.silent = lambda _method, _path: False
    await past.put_document("control", site.control().encode())

    async def served() -> bool:
        return bool(await client.read(site.big, token) == site.objects[site.big])

    await until(served)


async def test_an_end_waits_for_no_store(alone, site, client_of, s3_front, until) -> None:
    await site.fill(alone.holder)
    client = client_of(alone.start())
    first = next(iter(site.objects))
    assert await client.read(first, site.token()) == site.objects[first]
    s3_front.silent = everything
    waiting = asyncio.ensure_future(client.read(site.big, site.token()))
    await until(lambda: any(objects("GET", path) for path in s3_front.held))
    held = list(s3_front.held)
    waiting.cancel()
    alone.send(signal.SIGTERM)
    assert await asyncio.to_thread(alone.wait) == 0
    assert s3_front.held[: len(held)] == held, "none of what it waited for was answered"
