"""SIGKILL of the cloud host after every step of every order: given again to the next host, it is carried out."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.host.setup import init_host
from entrepot.cloud.providers.host import HostProvider
from entrepot.core.errors import NotFoundError, UnavailableError
from entrepot.protocol.cloudhost import RunState, ServiceStatus
from entrepot.trust.certificates import new_management
from entrepot.trust.inspection import key_pem

from ..cloud.conftest import HostProcess, Site
from .orders import STRIDE, assert_host_empty

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]

ROUNDS = range(8) if STRIDE == 1 else (1,)
"""At how many steps after each order the host dies; orders have up to eight."""

SERVE = """
import contextlib, os, signal, sys
from pathlib import Path
from entrepot.cloud.host import supervisor
from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.server import serve_host

home = Path(sys.argv[1])
fate = home / "fate"

def step():
    with contextlib.suppress(FileNotFoundError):
        left = int(fate.read_text())
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.replace(fate, fate.with_suffix(".next"))
        fate.with_suffix(".next").write_text(str(left - 1))
        os.replace(fate.with_suffix(".next"), fate)

whole, content, parts = HostDatabase.write, supervisor.remove_content, supervisor.remove_parts

@contextlib.contextmanager
def write(self):
    with whole(self) as connection:
        yield connection
    step()

def stepping(work):
    def done(*given):
        made = work(*given)
        step()
        return made
    return done

HostDatabase.write = write
supervisor.remove_content, supervisor.remove_parts = stepping(content), stepping(parts)
serve_host(home, command=(sys.executable, "-m", "entrepot.cloud.gateway"))
"""


class MortalHost(HostProcess):
    """A cloud host that dies at the step that it is told."""

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(self.home)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), self._log.read_text()[-3000:]

    @property
    def fate(self) -> Path:
        return self.home / "fate"

    def revive(self) -> bool:
        """Start the next one if this one died; whether it had."""
        assert self._process is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            return False
        self._process.stdout.close()
        self._process = None
        self.start()
        return True


@pytest.fixture
def host(tmp_path: Path) -> Iterator[MortalHost]:
    home = tmp_path / "host"
    process = MortalHost(home, init_host(home, "127.0.0.1:0", now=time.time()), tmp_path / "host.log")
    process.start()
    yield process
    process.end()
    assert process.gateways() == []


@pytest.fixture
async def cloud(host: MortalHost) -> AsyncIterator[HostProvider]:
    pair = new_management("Contoso", 30, "ec", now=time.time())
    administration = HostAdministration(host.home)
    subscription = administration.add_subscription("contoso")
    administration.upload_certificate("contoso", pair.cer)
    async with HostProvider(
        url=host.identity.url,
        pin=host.identity.pin,
        subscription=subscription.id,
        certificate=pair.cer,
        private_key=key_pem(pair.key),
    ) as provider:
        yield provider


async def _given(host: MortalHost, order: Any, at: int) -> tuple[bool, Any]:
    """Give an order to a host that dies at that step; then again, to the next one."""
    host.fate.write_text(str(at))
    with contextlib.suppress(UnavailableError):
        await order()
    await asyncio.sleep(1.0)  # what the host does after its answer counts, too
    host.fate.unlink(missing_ok=True)
    await asyncio.sleep(0.1)
    died = host.revive()
    return died, await order()


async def test_every_order_is_carried_out(host: MortalHost, cloud: HostProvider) -> None:
    site = Site(count=1, size=1000)
    spec, renewed = site.spec(1), site.spec(1)
    died_at: set[int] = set()
    for at in ROUNDS:
        reached: set[bool] = set()

        async def done(order: Any, at: int = at, reached: set[bool] = reached) -> Any:
            died, made = await _given(host, order, at)
            reached.add(died)
            return made

        await done(lambda: cloud.create("cloud1", spec))
        status: ServiceStatus = await cloud.status("cloud1")
        assert (status.point, status.wanted) == (spec.point, 1)
        port = status.address
        await cloud.holder("cloud1").put_document("note", b"kept")
        await done(lambda: cloud.create("cloud1", msgspec.structs.replace(renewed)))
        assert (await cloud.scale("cloud1", 1)).address == port  # clients know it
        await done(lambda: cloud.stop("cloud1"))
        status = await cloud.status("cloud1")
        assert (status.state, status.instances) == (RunState.STOPPED, ())
        await done(lambda: cloud.scale("cloud1", 2))
        assert (await cloud.status("cloud1")).wanted == 2
        await done(lambda: cloud.start("cloud1"))
        assert (await cloud.status("cloud1")).state is not RunState.STOPPED
        assert await cloud.holder("cloud1").get_document("note") == b"kept"
        left = await done(lambda: cloud.delete("cloud1"))
        assert left.left == ()
        with pytest.raises(NotFoundError):
            await cloud.status("cloud1")
        assert_host_empty(host)
        if any(reached):
            died_at.add(at)
    assert died_at >= {ROUNDS[0]}
