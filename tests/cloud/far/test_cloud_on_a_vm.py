"""docs/cloud-on-a-vm.md, with real processes: a cloud host whose services keep their content in S3 or Azure Blob."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from entrepot.cloud.host.administration import HostAdministration
from entrepot.core.errors import EntrepotError, NotFoundError
from entrepot.objects.settings import StoreSettings

from .conftest import keys

pytestmark = pytest.mark.process


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


def test_the_commands_of_the_page_set_a_host_up(tmp_path: Path) -> None:
    """As they are written there, but for folders and ports of this machine."""
    page = Path(__file__).parents[3] / "docs" / "cloud-on-a-vm.md"
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
