"""The cloud host, its gateways and a site's provider: real processes, real TLS, killed at bad moments."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.gateway.seen import load_seen
from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.providers.host import HostProvider
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    EntrepotError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.core.ids import ObjectId
from entrepot.protocol.control import ServiceState
from entrepot.trust.signing import SigningKey
from entrepot.web.ports import lasting_port

from .. import waiting

pytestmark = pytest.mark.process
Maker = Callable[..., Any]


@pytest.fixture
async def service(provider: HostProvider, site: Any, running: Maker) -> Any:
    """A filled service with two instances."""
    await provider.create("dp1", site.spec(2))
    await site.fill(provider.holder("dp1"))
    return await running("dp1", 2)


async def test_a_service_is_created_serves_and_is_deleted_without_a_trace(
    host: Any, provider: HostProvider, site: Any, service: Any, client_of: Maker, collect: Maker, until: Maker
) -> None:
    assert (await provider.check()).name == "contoso"
    holder, client, token = provider.holder("dp1"), client_of(service), site.token()
    for object_id, data in site.objects.items():
        assert await client.read(object_id, token) == data
    assert (await provider.status("dp1")).stored_objects == len(site.everything)
    assert [status.name for status in await provider.services()] == ["dp1"]

    async def recorded() -> bool:
        return sum(len(records) for records in (await collect(holder)).values()) == len(site.objects)

    await until(recorded)
    assert (await provider.delete("dp1")).left == ()
    assert host.gateways() == []
    assert list((host.home / "services").iterdir()) == []
    assert [path.name for path in host.key_folder().iterdir()] == ["lock"]
    with pytest.raises(UnavailableError):
        await client.read(next(iter(site.objects)), token)
    assert (await provider.delete("dp1")).left == (), "deleting again changes nothing"
    with pytest.raises(NotFoundError):
        await provider.status("dp1")


async def test_a_service_listens_on_the_port_that_was_asked_for_unless_somebody_has_it(
    host: Any, provider: HostProvider, site: Any, running: Maker
) -> None:
    port = lasting_port("127.0.0.1")
    await provider.create("dp1", msgspec.structs.replace(site.spec(1), port=port))
    status = await running("dp1", 1)
    assert status.address.endswith(f":{port}")
    ours = msgspec.structs.replace(site.spec(1), point="pt-00000000000000aa")
    management = int(host.identity.url.rpartition(":")[2])
    for taken, words in ((management, "cannot be had"), (port, "another service")):
        with pytest.raises(ConflictError, match=words) as refused:
            await provider.create("dp2", msgspec.structs.replace(ours, port=taken))
        assert str(taken) in refused.value.message
    with pytest.raises(BadInputError, match="65535"):
        await provider.create("dp2", msgspec.structs.replace(ours, port=70_000))
    with pytest.raises(ForbiddenError, match="may have the ports 443,1024-65535, not 22") as refused:
        await provider.create("dp2", msgspec.structs.replace(ours, port=22))
    assert "service_ports" in str(refused.value.next_step)
    assert [one.name for one in await provider.services()] == ["dp1"], "what was refused left nothing"


async def test_tokens_open_only_what_they_name(
    site: Any, provider: HostProvider, service: Any, client_of: Maker
) -> None:
    client = client_of(service)
    object_id = next(iter(site.objects))
    with pytest.raises(UnauthenticatedError, match="another distribution point"):
        await client.read(object_id, site.token(audience="pt-ffffffffffffffff"))
    with pytest.raises(NotFoundError):
        await client.read(object_id, site.token(sets=(bytes(32),)))
    with pytest.raises(NotFoundError):
        await client.read(ObjectId(bytes(32)), site.token())
    forger = SigningKey.generate()
    real, site.token_key = site.token_key, forger
    try:
        forged = site.token()
    finally:
        site.token_key = real
    with pytest.raises(UnauthenticatedError):
        await client.read(object_id, forged)
    for method in ("PUT", "DELETE", "PATCH"):  # the site's operations are the store endpoint's
        url = f"{client.base}/objects/{bytes(32).hex()}"
        answer = await client.http.request(method, url, bearer=site.token(), accept=(405,))
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_the_store_endpoint_serves_no_client_and_no_stranger(
    site: Any, host: Any, provider: HostProvider, service: Any, client_of: Maker
) -> None:
    object_id = next(iter(site.objects))
    subscription = (await provider.check()).id
    base = f"{host.identity.url}/subscriptions/{subscription}/services/dp1/store"
    holder = provider.holder("dp1")
    async with provider._http.stream("GET", f"{host.identity.url}/healthz") as answer:
        assert answer.status == 200
    with pytest.raises(UnauthenticatedError):
        await provider._http.read_object(base, object_id, bearer=site.token())
    with pytest.raises(ForbiddenError):
        await provider._http.read_object(base, object_id, bearer=await provider._bearer())
    assert await holder.missing([object_id, ObjectId(bytes(32))]) == [ObjectId(bytes(32))]


async def test_stop_cuts_a_running_download_keeps_content_and_start_restores(
    host: Any, site: Any, provider: HostProvider, service: Any, client_of: Maker, running: Maker, collect: Maker
) -> None:
    client, token, holder = client_of(service), site.token(), provider.holder("dp1")
    download = await client.begin(site.big, token)
    status = await provider.stop("dp1")
    assert status.state == "stopped"
    assert status.instances == ()
    assert host.gateways() == []
    received = len(await download.rest())
    assert received < len(site.objects[site.big])
    with pytest.raises(UnavailableError, match="refuses"):
        await client.read(site.big, token)
    assert await holder.missing(list(site.everything)) == []
    # The site goes on transferring while the service is stopped (R27).
    await holder.put_document("control", site.control().encode())
    records = [record for records in (await collect(holder)).values() for record in records]
    assert [record.object_id for record in records] == [site.big], "its record was shipped, cut or not"
    assert 0 < received <= records[0].sent < len(site.objects[site.big])
    assert (await provider.stop("dp1")).state == "stopped"

    await provider.start("dp1")
    again = await running("dp1", 2)
    assert again.address == service.address
    assert await client.read(site.big, token) == site.objects[site.big]


async def test_the_control_document_stops_and_starts_at_once(
    site: Any, provider: HostProvider, service: Any, client_of: Maker, until: Maker
) -> None:
    client, token, holder = client_of(service), site.token(), provider.holder("dp1")
    download = await client.begin(site.big, token)
    stopped = site.control(state=ServiceState.STOPPED)
    await holder.put_document("control", stopped.encode())
    assert len(await download.rest()) < len(site.objects[site.big])

    async def refused() -> bool:
        with pytest.raises(UnavailableError, match="stopped"):
            await client.read(site.big, token)
        return True

    await until(refused)
    # An older document is refused, however it gets into the store.
    await holder.put_document("control", site.control(counter=1).encode())
    await asyncio.sleep(1)
    await refused()
    site._counter = 1000
    await holder.put_document("control", site.control().encode())

    async def served() -> bool:
        return bool(await client.read(site.big, token) == site.objects[site.big])

    await until(served)


async def test_a_revoked_device_is_cut_and_nobody_else(
    site: Any, provider: HostProvider, service: Any, client_of: Maker
) -> None:
    client, holder = client_of(service), provider.holder("dp1")
    bad, good = site.token("dev-bad"), site.token("dev-good")
    cut, kept = await client.begin(site.big, bad), await client.begin(site.big, good)
    await holder.put_document("control", site.control(revoked_devices=("dev-bad",)).encode())
    got = await asyncio.gather(cut.rest(), kept.rest())
    assert len(got[0]) < len(site.objects[site.big])
    assert got[1] == site.objects[site.big]
    with pytest.raises(ForbiddenError):
        await client.read(site.big, bad)


async def test_without_a_valid_control_document_nobody_is_served(
    site: Any, provider: HostProvider, running: Maker, client_of: Maker, until: Maker
) -> None:
    await provider.create("dp1", site.spec(1))
    holder = provider.holder("dp1")
    status = await running("dp1", 1)
    client, token = client_of(status), site.token()
    with pytest.raises(UnavailableError, match="no valid control document"):
        await client.read(site.big, token)
    await site.fill(holder)
    await holder.put_document("control", site.control(lifetime=3).encode())

    async def served() -> bool:
        return bool(await client.read(site.big, token))

    await until(served)
    download = await client.begin(site.big, token)
    assert len(await download.rest(pause=0.05)) < len(site.objects[site.big]), "expiry cuts running downloads"
    with pytest.raises(UnavailableError, match="expired"):
        await client.read(site.big, token)


@pytest.mark.long
async def test_scaling_and_renewing_fail_no_download(
    site: Any, provider: HostProvider, service: Any, client_of: Maker, running: Maker, until: Maker
) -> None:
    client, token = client_of(service), site.token()
    slow = [await client.begin(site.big, token) for _ in range(4)]
    done = asyncio.Event()
    count = 0

    async def load() -> None:
        nonlocal count
        client = client_of(service)
        while not done.is_set():
            for object_id, data in site.objects.items():
                assert await client.read(object_id, token) == data
                count += 1
            await client.http.close()  # and connects anew

    loads = [asyncio.create_task(load()) for _ in range(3)]
    pending = [asyncio.create_task(one.rest(pause=0.02)) for one in slow]
    await provider.scale("dp1", 4)
    await running("dp1", 4)
    await provider.scale("dp1", 1)
    before = await until_ready(provider, 1)
    renewed = site.spec(1)
    await provider.create("dp1", renewed)
    assert await asyncio.gather(*pending) == [site.objects[site.big]] * len(slow)
    done.set()
    await asyncio.gather(*loads)
    assert count
    after = await running("dp1", 1)
    assert {one.id for one in before.instances}.isdisjoint(one.id for one in after.instances)


async def test_a_stop_cuts_also_those_whom_a_replaced_instance_still_serves(
    host: Any, site: Any, provider: HostProvider, client_of: Maker, running: Maker
) -> None:
    await provider.create("dp1", site.spec(1))
    await site.fill(provider.holder("dp1"))
    before = await running("dp1", 1)
    download = await client_of(before).begin(site.big, site.token())
    await provider.create("dp1", site.spec(1))  # with a new certificate: a new instance

    async def replaced() -> bool:
        return len((await provider.status("dp1")).instances) == 2 and len(host.gateways()) == 2

    await waiting.until(replaced, "the old instance drains beside the new one")
    assert (await provider.stop("dp1")).instances == ()
    assert host.gateways() == [], "nobody waits for the ten minutes that a drain may last"
    assert len(await download.rest()) < len(site.objects[site.big])


async def until_ready(provider: HostProvider, wanted: int) -> Any:
    async def ready() -> Any:
        status = await provider.status("dp1")
        return status if status.state == "running" and status.wanted == wanted else None

    return await waiting.until(ready, "the service is ready")


async def test_a_killed_gateway_comes_back_and_its_records_survive(
    host: Any,
    site: Any,
    provider: HostProvider,
    service: Any,
    client_of: Maker,
    collect: Maker,
    until: Maker,
    journalled: Maker,
) -> None:
    holder, token = provider.holder("dp1"), site.token()
    client = client_of(service)
    for object_id in site.objects:
        await client.read(object_id, token)
    await journalled(host.home, holder, site.objects)
    killed = {instance.id for instance in service.instances}
    for pid in host.gateways():
        os.kill(pid, signal.SIGKILL)

    async def back() -> bool:
        status = await provider.status("dp1")
        alive = {instance.id for instance in status.instances if instance.state == "running"}
        return len(alive) == 2 and not alive & killed

    await until(back)
    assert await client_of(service).read(site.big, token) == site.objects[site.big]

    async def shipped() -> bool:
        found = await collect(holder)
        return sum(len(records) for name, records in found.items() if name in killed) == len(site.objects)

    await until(shipped)


async def test_a_journal_that_cannot_be_read_keeps_no_service_from_starting(
    host: Any, site: Any, provider: HostProvider, service: Any, client_of: Maker, until: Maker
) -> None:
    host.end(signal.SIGKILL)

    async def gone() -> bool:
        return not host.gateways()

    await until(gone)
    (state,) = host.home.glob("services/*/state")
    (state / "gw-00000000000000ff" / "00000000000000000001.journal").mkdir(parents=True)
    host.start()
    status = await until_ready(provider, 2)
    assert await client_of(status).read(site.big, site.token()) == site.objects[site.big]


async def test_a_killed_host_leaves_no_orphan_and_brings_everything_back(
    host: Any,
    site: Any,
    provider: HostProvider,
    service: Any,
    client_of: Maker,
    collect: Maker,
    until: Maker,
    journalled: Maker,
) -> None:
    await provider.create("dp2", site.spec(1, fqdn="cloud2.contoso.example"))
    await provider.stop("dp2")
    token = site.token()
    await client_of(service).read(site.big, token)
    await journalled(host.home, provider.holder("dp1"), [site.big])
    host.end(signal.SIGKILL)

    async def gone() -> bool:
        return not host.gateways()

    await until(gone)
    host.start()
    states = await until_ready(provider, 2)
    assert states.address == service.address
    assert (await provider.status("dp2")).state == "stopped"

    async def served() -> bool:
        return bool(await client_of(service).read(site.big, token) == site.objects[site.big])

    await until(served)

    async def shipped() -> bool:
        return any(name in {one.id for one in service.instances} for name in await collect(provider.holder("dp1")))

    await until(shipped)


async def test_a_control_document_of_yesterday_is_refused_by_new_instances_of_a_new_host(
    host: Any, site: Any, provider: HostProvider, service: Any, client_of: Maker, until: Maker
) -> None:
    holder, old = provider.holder("dp1"), site.control().encode()
    newest = site.control(revoked_devices=("dev-1",))
    counter = site.counter
    await holder.put_document("control", newest.encode())

    async def remembered() -> bool:
        [kept] = [load_seen(path) for path in host.home.rglob("seen")]
        return bool(kept.counter == counter)

    await until(remembered)
    host.end(signal.SIGKILL)

    async def gone() -> bool:
        return not host.gateways()

    await until(gone)
    [control] = host.home.rglob("store/control")
    control.write_bytes(old)  # by somebody who can write the store: it was valid, and has not expired
    host.start()
    await until_ready(provider, 2)
    with pytest.raises(EntrepotError, match="no valid control document"):
        await client_of(service).read(site.big, site.token())


async def test_a_deletion_that_was_interrupted_is_finished(
    host: Any, provider: HostProvider, service: Any, until: Maker
) -> None:
    deleting = asyncio.create_task(provider.delete("dp1"))
    await asyncio.sleep(0.05)
    host.end(signal.SIGKILL)
    with pytest.raises(EntrepotError):
        await deleting
    host.start()
    if (await _state(provider)) not in ("deleting", "gone"):  # killed before it was wanted durably
        await provider.delete("dp1")

    async def gone() -> bool:
        return await _state(provider) == "gone" and not list((host.home / "services").iterdir())

    await until(gone)
    assert host.gateways() == []
    assert (await provider.delete("dp1")).left == ()


async def _state(provider: HostProvider) -> str:
    try:
        return str((await provider.status("dp1")).state)
    except NotFoundError:
        return "gone"


async def test_a_disabled_subscription_serves_nobody_and_keeps_its_content(
    host: Any, provider: HostProvider, administration: HostAdministration, service: Any, until: Maker
) -> None:
    administration.disable_subscription("contoso")

    async def ended() -> bool:
        return not host.gateways()

    await until(ended)
    with pytest.raises(ForbiddenError, match="disabled"):
        await provider.check()
    administration.enable_subscription("contoso")
    await until_ready(provider, 2)


async def test_no_secret_reaches_logs_arguments_or_files_in_clear(
    host: Any, site: Any, provider: HostProvider, service: Any, client_of: Maker
) -> None:
    token = site.token()
    await client_of(service).read(site.big, token)
    access = (await provider._bearer()).reveal()
    key = next(host.key_folder().rglob("*.key"))
    secret = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    body = secret.split(b"-----\n")[1].split(b"\n-----")[0].split(b"\n")[0]
    for path in host.home.rglob("*"):
        if path.is_file() and path != host.home / "tls" / "key.pem":
            data = path.read_bytes()
            assert body not in data, path
            assert access not in data, path
            assert token.encode() not in data, path
    for pid in (host.pid, *host.gateways()):
        process = Path(f"/proc/{pid}")
        arguments = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        assert body not in arguments
        assert access not in arguments
    for word in (body, access, token.encode()):
        assert word.decode() not in host.log()


async def test_the_audit_log_says_who_did_what(host: Any, provider: HostProvider, service: Any) -> None:
    await provider.stop("dp1")
    with pytest.raises(NotFoundError):
        await provider.start("dp9")
    [of_tenant] = host.home.glob("audit-sub-*.log")
    assert '"service.' not in (host.home / "audit.log").read_text()
    log = (host.home / "audit.log").read_text() + of_tenant.read_text()
    for words in ('"service.put"', '"service.stop"', '"subscription.add"', '"certificate.upload"', '"token.give"'):
        assert words in log
    assert '"not_found"' in log
    assert time.strftime("%Y-%m-%d", time.gmtime()) in log
