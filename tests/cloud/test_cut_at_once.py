"""On the cloud host a stop and a revocation end running downloads at once: instances are told, they need not look.

Here instances look at their control documents once in many hours only, so whatever they obey they were told: the
download would otherwise outlast the test's patience. No clock is compared, whatever the machine does meanwhile.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.host.setup import init_host
from entrepot.cloud.providers.host import HostProvider
from entrepot.protocol.control import ServiceState
from entrepot.protocol.transactions import Record

pytestmark = pytest.mark.process
SELDOM = """
import sys
from pathlib import Path
import msgspec
from entrepot.cloud.gateway import app

load = app.load_config
app.load_config = lambda path: msgspec.structs.replace(load(path), poll=86_400.0)  # a configuration may say 60 at most
app.run_gateway(Path(sys.argv[-1]))
"""
HOST = f"""
import sys
from pathlib import Path
from entrepot.cloud.host.server import serve_host

serve_host(Path(sys.argv[1]), command=(sys.executable, "-c", {SELDOM!r}, "entrepot.cloud.gateway"))
"""


@pytest.fixture
def host(tmp_path: Path, host_process: Callable[..., Any]) -> Iterator[Any]:
    """A cloud host whose gateways look as good as never."""
    home = tmp_path / "host"
    process = host_process(home, init_host(home, "127.0.0.1:0", now=time.time()))
    process.program = HOST
    process.start()
    yield process
    process.end()


@pytest.fixture
async def provider(host: Any, management: Any, providers: Callable[..., HostProvider]) -> AsyncIterator[HostProvider]:
    administration = HostAdministration(host.home)
    subscription = administration.add_subscription("contoso")
    administration.upload_certificate("contoso", management.cer)
    async with providers(subscription.id, management) as made:
        yield made


@pytest.mark.parametrize("order", ["revocation", "stop"])
async def test_an_order_ends_a_download_although_its_instance_does_not_look(
    site: Any,
    provider: HostProvider,
    running: Callable[..., Awaitable[Any]],
    client_of: Callable[[Any], Any],
    collect: Callable[[Any], Awaitable[dict[str, list[Record]]]],
    until: Callable[..., Awaitable[Any]],
    order: str,
) -> None:
    await provider.create("dp1", site.spec(1))
    holder = provider.holder("dp1")
    await site.fill(holder)
    client, device = client_of(await running("dp1", 1)), "dev-withdrawn"
    download = await client.begin(site.big, site.token(device))
    ordered = (
        site.control(revoked_devices=(device,)) if order == "revocation" else site.control(state=ServiceState.STOPPED)
    )
    await holder.put_document("control", ordered.encode())
    got = len(await download.rest())

    async def recorded() -> list[Record]:
        found = [record for records in (await collect(holder)).values() for record in records]
        return [record for record in found if record.device == device]

    [record] = await until(recorded)
    assert got <= record.sent < len(site.objects[site.big])
