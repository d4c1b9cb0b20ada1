"""All connections between site and cloud are opened by the site (R7): host and gateways work where they can open none.

Every test that uses the fixture ``host`` runs like that, and so does the whole demonstration; these show that it bites.
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrepot.cloud.providers.host import HostProvider

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel's filter is Linux's"),
]
Maker = Callable[..., Any]
CONNECT = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print("listens", flush=True)
socket.create_connection(server.getsockname())
print("connected", flush=True)
"""


def has_filter(pid: int) -> bool:
    return "\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize(
    ("banned", "code", "printed"),
    [("host serve", -signal.SIGSYS, "listens\n"), ("site serve", 0, "listens\nconnected\n")],
)
def test_the_kernel_kills_whoever_opens_a_connection_and_is_not_to(
    no_way_out: Maker, banned: str, code: int, printed: str
) -> None:
    command = [sys.executable, "-c", CONNECT, "host", "serve"]
    done = subprocess.run(command, env=no_way_out(banned), stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, printed)


async def test_host_and_gateways_do_their_work_without_being_able_to_open_a_connection(
    host: Any, site: Any, provider: HostProvider, running: Maker, client_of: Maker, collect: Maker, until: Maker
) -> None:
    await provider.create("dp1", site.spec(1))
    holder = provider.holder("dp1")
    await site.fill(holder)
    client = client_of(await running("dp1", 1))
    assert await client.read(site.big, site.token()) == site.objects[site.big]
    assert all(has_filter(pid) for pid in (host.pid, *host.gateways()))

    async def recorded() -> bool:
        return any((await collect(holder)).values())

    await until(recorded)  # and the site fetched the records: nobody brought them
    await provider.stop("dp1")
    await provider.start("dp1")
    await running("dp1", 1)
    assert (await provider.delete("dp1")).left == ()
