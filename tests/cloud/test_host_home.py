"""A cloud host's home: set-up, settings, key files, usage, and what a deletion could not remove."""

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.gateway.config import GatewayConfig, load_config, save_config
from entrepot.cloud.host import runner
from entrepot.cloud.host.address import PortBusyError, ServiceAddress
from entrepot.cloud.host.administration import HostAdministration, Stored
from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.keys import close_key_folder, open_key_folder
from entrepot.cloud.host.removal import remove_parts
from entrepot.cloud.host.services import ServiceRow, Services, Wanted
from entrepot.cloud.host.settings import Folders, HostSettings, load_settings, save_settings
from entrepot.cloud.host.setup import host_identity, init_host
from entrepot.cloud.host.storage import HostStorage, Note
from entrepot.cloud.host.stores import StoreEndpoints
from entrepot.cloud.host.subscriptions import Subscriptions
from entrepot.cloud.host.supervisor import Supervisor
from entrepot.cloud.host.usage import RESERVE, SMALLEST, CountingStore, QuotaExceededError, Usage, measure
from entrepot.core.encoding import to_json
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    EntrepotError,
    ForbiddenError,
    NotFoundError,
    StorageError,
    UnavailableError,
)
from entrepot.core.secret import Secret
from entrepot.core.times import DAY
from entrepot.objects.folder import FolderStore
from entrepot.objects.settings import StoreKind, StoreSettings
from entrepot.trust.certificates import Pair
from entrepot.trust.inspection import expires, load_cer
from entrepot.trust.vault import ServerVault
from entrepot.web.asgi import Receive, Scope, Send, send_response
from entrepot.web.embedded import TlsFiles
from entrepot.web.http import HttpClient
from entrepot.web.ports import lasting_port
from entrepot.web.server import listener_url, open_listener, serve
from entrepot.web.tls import TlsTrust

NOW = time.time()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that was set up."""
    init_host(tmp_path / "host", "127.0.0.1:0", now=NOW)
    return tmp_path / "host"


def test_a_home_is_private_and_set_up_once(home: Path) -> None:
    assert home.stat().st_mode & 0o777 == 0o700
    for name in ("vault.key", "tls/key.pem"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    settings = load_settings(home)
    assert settings.listen == settings.url.removeprefix("https://")
    assert len(host_identity(home, settings).pin) == 32
    with pytest.raises(ConflictError, match="already"):
        init_host(home, "127.0.0.1:0", now=NOW)


def test_an_interrupted_set_up_is_repeated(home: Path) -> None:
    (home / "host.toml").unlink()
    with pytest.raises(NotFoundError):
        HostAdministration(home)
    init_host(home, "127.0.0.1:0", now=NOW)
    assert HostAdministration(home).subscriptions() == []


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:70000", "0.0.0.0:0"])
def test_an_address_that_will_not_do_leaves_no_home(tmp_path: Path, listen: str) -> None:
    with pytest.raises((BadInputError, ConflictError)) as caught:
        init_host(tmp_path / "refused", listen=listen, now=NOW)
    assert caught.value.next_step
    assert not (tmp_path / "refused").exists()


def test_a_subscription_with_a_bad_certificate_is_not_made(home: Path, management: Pair) -> None:
    administration = HostAdministration(home)
    with pytest.raises(BadInputError):
        administration.add_subscription("contoso", certificate=b"no certificate")
    with pytest.raises(BadInputError, match="expired"):
        HostAdministration(home, clock=lambda: NOW + 400 * 86_400).add_subscription(
            "contoso", certificate=management.cer
        )
    assert administration.subscriptions() == []
    made = administration.add_subscription("contoso", certificate=management.cer)
    assert [one.subscription for one in administration.certificates("contoso")] == [made.id]


def test_an_address_that_nobody_can_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="cannot be told"):
        init_host(tmp_path / "host", "0.0.0.0:0", now=NOW)
    told = {"url": "https://cloud.example:8443", "now": NOW}
    for listen, services in (("0.0.0.0:0", ""), ("127.0.0.1:0", "0.0.0.0"), ("127.0.0.1:0", "::"), ("0.0.0.0:0", "::")):
        with pytest.raises(ConflictError, match=r"cannot be told the address (0\.0\.0\.0|::)") as caught:
            init_host(tmp_path / "host", listen, service_host=services, **told)
        assert "--service-name" in str(caught.value.next_step)
    assert not (tmp_path / "host").exists()
    made = init_host(tmp_path / "host", "0.0.0.0:0", service_host="0.0.0.0", service_name="c.example", **told)
    assert made.url == "https://cloud.example:8443"
    with pytest.raises(BadInputError, match="led to all addresses"):
        save_settings(tmp_path / "host", msgspec.structs.replace(load_settings(tmp_path / "host"), service_name=""))


@pytest.mark.parametrize(
    "line",
    [
        "unknown = 1",
        "token_minutes = 5",
        "token_minutes = 61",
        'url = "http://x"',
        "instance_quota = 0",
        "x = [",
        'service_ports = "0"',
    ],
)
def test_settings_that_make_no_sense_are_refused(home: Path, line: str) -> None:
    name = line.partition(" ")[0]
    lines = [kept for kept in (home / "host.toml").read_text().splitlines() if not kept.startswith(name)]
    (home / "host.toml").write_text("\n".join([*lines, line]))
    with pytest.raises(BadInputError):
        load_settings(home)


def test_settings_read_back_as_they_were_written(home: Path) -> None:
    odd = HostSettings(listen="[::1]:1", url="https://x", name='quo"te \\ ü', drain_seconds=1.5)
    save_settings(home, odd)
    assert load_settings(home) == odd


def test_administration_names_what_is_wrong(home: Path, management: Pair) -> None:
    own = HostAdministration(home)
    own.add_subscription("a")
    with pytest.raises(ConflictError):
        own.add_subscription("a")
    for name, quota in (("", 1), ("x\n", 1), ("b", 0)):
        with pytest.raises(BadInputError):
            own.add_subscription(name, storage_quota=quota)
    with pytest.raises(NotFoundError):
        own.upload_certificate("b", management.cer)
    with pytest.raises(BadInputError, match=r"not an X\.509"):
        own.upload_certificate("a", b"no certificate")
    first = own.upload_certificate("a", management.cer)
    assert own.upload_certificate("a", management.cer) == first
    with pytest.raises(NotFoundError, match="at least 8"):
        own.revoke_certificate("a", first.thumbprint[:7])
    assert own.revoke_certificate("a", first.thumbprint.upper()).revoked
    own.remove_subscription("a")
    assert own.subscriptions() == []


def test_a_private_key_lies_sealed_in_the_database_and_is_gone_after_removal(home: Path, site: Any) -> None:
    database = HostDatabase(home / "host.sqlite")
    subscriptions, services = Subscriptions(database), Services(database, ServerVault.load(home / "vault.key"))
    owner = subscriptions.add("a", storage_quota=1, instance_quota=4, now=NOW)
    spec = site.spec(2)
    row = services.put(owner.id, "dp1", spec, expires=1, now=NOW)
    assert services.private_key(row).reveal_text() == spec.private_key
    assert services.put(owner.id, "dp1", spec, expires=1, now=NOW) == row, "the same changes nothing"
    renewed = services.put(owner.id, "dp1", site.spec(1), expires=2, now=NOW)
    assert (renewed.revision, renewed.instances, renewed.id) == (row.revision + 1, 1, row.id)
    with pytest.raises(ConflictError, match="still has services"):
        subscriptions.remove(owner.id)
    services.set_state(owner.id, "dp1", Wanted.DELETING)
    with pytest.raises(ConflictError, match="being deleted"):
        services.set_state(owner.id, "dp1", Wanted.RUNNING)
    with pytest.raises(ConflictError, match="being deleted"):
        services.put(owner.id, "dp1", spec, expires=1, now=NOW)
    services.remove(row.id)
    database.close()
    files = [path.read_bytes() for path in home.glob("host.sqlite*")]
    assert not any(sealed in data for data in files for sealed in (row.private_key, renewed.private_key))
    assert not any(b"PRIVATE KEY" in data for data in files)


def test_a_quota_of_instances_is_never_set_below_what_services_have(home: Path, site: Any) -> None:
    with contextlib.closing(HostDatabase(home / "host.sqlite")) as database:
        subscriptions, services = Subscriptions(database), Services(database, ServerVault.load(home / "vault.key"))
        owner = subscriptions.add("a", storage_quota=1, instance_quota=4, now=NOW)
        services.put(owner.id, "dp1", site.spec(3), expires=1, now=NOW)
        assert subscriptions.instances() == {owner.id: 3}
        with pytest.raises(ConflictError, match="3 instances already"):
            subscriptions.set_quotas(owner.id, storage_quota=7, instance_quota=2)
        assert subscriptions.find("a") == owner
        subscriptions.set_quotas(owner.id, storage_quota=7, instance_quota=3)
        changed = subscriptions.find("a")
        assert (changed.storage_quota, changed.instance_quota) == (7, 3)


def test_a_quota_that_was_lowered_after_an_order_came_in_binds_it(home: Path, site: Any) -> None:
    with contextlib.closing(HostDatabase(home / "host.sqlite")) as database:
        subscriptions, services = Subscriptions(database), Services(database, ServerVault.load(home / "vault.key"))
        owner = subscriptions.add("a", storage_quota=1, instance_quota=4, now=NOW)
        services.put(owner.id, "dp1", site.spec(2), expires=1, now=NOW)
        orders: list[Callable[[], object]] = [
            functools.partial(services.scale, owner.id, "dp1", 3),
            functools.partial(services.put, owner.id, "dp1", site.spec(3), expires=1, now=NOW),
            functools.partial(services.put, owner.id, "dp2", site.spec(1), expires=1, now=NOW),
        ]
        subscriptions.set_quotas(owner.id, storage_quota=None, instance_quota=2)
        for order in orders:
            with pytest.raises(EntrepotError, match="may run 2 instances"):
                order()
        assert subscriptions.instances() == {owner.id: 2}
        subscriptions.set_quotas(owner.id, storage_quota=None, instance_quota=3)
        assert services.scale(owner.id, "dp1", 3).instances == 3


def sizes(stored: dict[str, Stored]) -> dict[str, int | None]:
    return {subscription: one.size for subscription, one in stored.items()}


def test_a_port_belongs_to_one_service_which_keeps_it(home: Path, site: Any) -> None:
    with contextlib.closing(HostDatabase(home / "host.sqlite")) as database:
        owner = Subscriptions(database).add("a", storage_quota=1, instance_quota=9, now=NOW)
        services = Services(database, ServerVault.load(home / "vault.key"))
        asked = msgspec.structs.replace(site.spec(1), port=8443)
        assert services.put(owner.id, "x", asked, expires=1, now=NOW).port == 8443
        with pytest.raises(ConflictError, match="another service") as refused:
            services.put(owner.id, "y", asked, expires=1, now=NOW)
        assert "port 0" in (refused.value.next_step or "")
        assert services.put(owner.id, "x", asked, expires=1, now=NOW).port == 8443, "asked again, it is the same one"
        moved = msgspec.structs.replace(asked, port=9443)
        assert services.put(owner.id, "x", moved, expires=1, now=NOW).port == 8443, "it is kept for ever"
        assert [row.name for row in services.all(owner.id)] == ["x"]


def test_the_administrator_sees_what_each_subscription_stores(home: Path, site: Any) -> None:
    own, folders, far = HostAdministration(home), Folders(home), StoreSettings(kind=StoreKind.S3, bucket="far")
    with contextlib.closing(HostDatabase(home / "host.sqlite")) as database:
        subscriptions, vault = Subscriptions(database), ServerVault.load(home / "vault.key")
        ids = [subscriptions.add(name, storage_quota=1, instance_quota=9, now=NOW).id for name in ("a", "b", "c")]
        near = [Services(database, vault).put(ids[0], name, site.spec(1), expires=1, now=NOW) for name in ("x", "y")]
        bucket = Services(database, vault, far).put(ids[1], "z", site.spec(1), expires=1, now=NOW)
    for size, row in enumerate(near, start=100):
        store = folders.store(row.id) / "objects" / "00"
        store.mkdir(parents=True)
        (store / "one").write_bytes(bytes(size))
    assert sizes(own.stored()) == {ids[0]: None, ids[1]: None}, "nobody has counted yet, and nobody does for a look"
    counted: list[str] = []
    assert sizes(own.stored(counting=counted.append)) == {ids[0]: 201, ids[1]: None}
    assert counted == ["x", "y", "z"]
    assert own.stored(counting=counted.append)[ids[0]].charged == 2 * 3 * SMALLEST, "each file, and its two folders"
    for row, stored in zip(near, (1000, 2000), strict=True):
        (folders.service(row.id) / "usage.json").write_bytes(
            to_json(Note(stored=stored, objects=1, final=False, at=int(NOW) + stored))
        )
    folders.service(bucket.id).mkdir(parents=True)
    (folders.service(bucket.id) / "usage.json").write_bytes(to_json(Note(stored=7, objects=1, final=True)))
    (home / "vault.key").unlink()
    assert sizes(own.stored()) == {ids[0]: 3000, ids[1]: 7}, "looking needs no key"
    assert own.stored()[ids[0]].at == int(NOW) + 1000, "the age of the oldest figure in it"


async def test_sites_recognise_a_host_by_its_pin_also_when_its_certificate_has_expired(tmp_path: Path) -> None:
    identity, folders = init_host(tmp_path / "old", "127.0.0.1:0", now=NOW - 11 * 365 * DAY), Folders(tmp_path / "old")
    assert expires(load_cer(folders.certificate.read_bytes())) < time.time()
    listener, stop, ready = open_listener("127.0.0.1", 0), asyncio.Event(), asyncio.Event()

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send_response(send, 200, b"here")

    tls = TlsFiles(cert=folders.certificate, key=folders.private_key)
    serving = asyncio.create_task(serve(answer, listener=listener, tls=tls, ready=ready.set, stop=stop))
    try:
        await asyncio.wait({serving, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        async with HttpClient(TlsTrust.pinned(identity.pin)) as http:
            assert (await http.request("GET", listener_url(listener))).body == b"here"
    finally:
        stop.set()
        await serving


def test_a_database_of_another_version_is_refused(home: Path) -> None:
    database = HostDatabase(home / "host.sqlite")
    with database.write() as connection:
        connection.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StorageError, match="version 99"):
        HostDatabase(home / "host.sqlite")


def test_key_files_prefer_memory_and_are_private(home: Path, tmp_path: Path) -> None:
    memory = tmp_path / "shm"
    memory.mkdir()
    folder = open_key_folder(home, memory=memory)
    assert folder.in_memory
    files = folder.write("svc-1", 1, "certificate", Secret(b"key"))
    newer = folder.write("svc-1", 2, "certificate", Secret(b"key"))
    assert files.key.stat().st_mode & 0o777 == 0o600
    folder.forget_older("svc-1", 2)
    assert [files.key.exists(), newer.key.exists()] == [False, True]
    folder.lock.release()  # as a SIGKILL does
    again = open_key_folder(home, memory=memory)
    assert again.path == folder.path
    assert [path.name for path in again.path.iterdir()] == ["lock"], "what an earlier run left is removed"
    close_key_folder(again)
    assert list(memory.iterdir()) == []


def test_the_next_host_removes_the_keys_of_one_that_was_killed_for_good(tmp_path: Path) -> None:
    memory = tmp_path / "shm"
    memory.mkdir()
    dead, living = (open_key_folder(tmp_path / name, memory=memory) for name in ("dead", "living"))
    for folder in (dead, living):
        folder.write("svc-1", 1, "certificate", Secret(b"key"))
    dead.lock.release()
    foreign = memory / "someone-elses"
    foreign.mkdir()
    mine = open_key_folder(tmp_path / "new", memory=memory)
    assert sorted(memory.iterdir()) == sorted([foreign, living.path, mine.path])
    assert (living.service("svc-1") / "1.key").exists()


def test_a_memory_folder_that_others_may_enter_is_not_used(home: Path, tmp_path: Path) -> None:
    memory = tmp_path / "shm"
    memory.mkdir()
    first = open_key_folder(home, memory=memory)
    first.path.chmod(0o755)
    first.lock.release()
    folder = open_key_folder(home, memory=memory)
    assert (folder.in_memory, folder.path) == (False, home / "keys")
    folder.lock.release()
    assert open_key_folder(home, memory=tmp_path / "missing").path == home / "keys"


def test_what_cannot_be_removed_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders, keys = Folders(home), open_key_folder(home, memory=tmp_path / "missing")
    keys.write("svc-1", 1, "certificate", Secret(b"key"))
    for number in range(12):
        (folders.store("svc-1") / "objects").mkdir(parents=True, exist_ok=True)
        (folders.store("svc-1") / "objects" / str(number)).write_bytes(b"x")

    def refused(path: Path, **options: Any) -> None:
        options["onerror"](os.unlink, str(path), (OSError, OSError(30, "Read-only file system"), None))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refused)
        left = remove_parts("svc-1", folders, keys)
    assert len(left) == 11
    assert left[-1].startswith("and ")
    assert remove_parts("svc-1", folders, keys) == ()
    assert remove_parts("svc-1", folders, keys) == (), "again changes nothing"
    assert not folders.service("svc-1").exists()
    assert not keys.service("svc-1").exists()


def test_usage_follows_what_is_stored(tmp_path: Path) -> None:
    left = [20_000]
    store = CountingStore(FolderStore(tmp_path), measure(tmp_path), lambda: left[0])
    key = f"objects/ab/{'ab' * 32}"
    store.put(key, b"x" * 13_000)
    store.put(key, [b"y" * 13_000, b"y" * 20])
    store.put("control", b"z" * 10)
    assert store.usage == measure(tmp_path) == Usage(stored=13_030, objects=1, charged=13_020 + SMALLEST)
    left[0] = 0
    with pytest.raises(QuotaExceededError):
        store.put(f"objects/cd/{'cd' * 32}", b"x")
    assert store.put("control", b"more"), "documents go a little beyond"
    left[0] = -RESERVE + SMALLEST
    assert store.put("other", b"x")
    store.delete("other")
    left[0] = -RESERVE
    with pytest.raises(QuotaExceededError, match="0 B are left"):
        store.put("other", b"x")
    assert store.put("control", b"much more than before"), "what steers the service is always let in"
    assert store.put("control", b"less")
    store.delete(key)
    store.delete(key)
    assert store.usage == measure(tmp_path) == Usage(stored=4, objects=0, charged=SMALLEST)


def test_empty_files_and_folders_count_towards_the_quota(tmp_path: Path) -> None:
    quota = 10 * SMALLEST - RESERVE

    def store() -> CountingStore:
        return CountingStore(FolderStore(tmp_path), measure(tmp_path), lambda: quota - made[-1].usage.charged)

    made = [CountingStore(FolderStore(tmp_path), Usage(), lambda: 0)]
    made.append(store())
    for key in ("a", "b/c", "d/e/f"):
        made[-1].put(key, b"")
    assert made[-1].usage == measure(tmp_path) == Usage(charged=6 * SMALLEST)
    made.append(store())  # as after a crash: it is counted anew
    with pytest.raises(QuotaExceededError, match="counts as"):
        made[-1].put("g/h/i/j/k", b"")
    made[-1].put("g/h/i/j", [])
    with pytest.raises(QuotaExceededError):
        made[-1].put("l", b"")
    assert made[-1].put("g/h/i/j", b"the same file again")
    made[-1].delete("g/h/i/j")
    assert made[-1].put("l", b"")
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"a", "b", "d", "l"}


@pytest.mark.parametrize("key", ["tx/00000490/gw-1/00000000", "allow/token/1", "marks/gw-1"])
def test_nothing_is_stored_under_the_names_that_are_not_counted(tmp_path: Path, key: str) -> None:
    store = CountingStore(FolderStore(tmp_path), measure(tmp_path), lambda: 10**6)
    with pytest.raises(ForbiddenError, match="own instances"):
        store.put(key, b"x")
    assert list(tmp_path.iterdir()) == []


def test_records_that_the_site_takes_away_do_not_make_what_it_stores_seem_less(tmp_path: Path) -> None:
    instance = FolderStore(tmp_path)
    store = CountingStore(FolderStore(tmp_path), measure(tmp_path), lambda: 10**6)
    store.put(f"objects/ab/{'ab' * 32}", b"x" * 60)
    for number in range(3):
        instance.put(f"tx/00000490/gw-1/0000000{number}", b"r" * 50)
    instance.put("allow/token/1", b"slot")
    assert measure(tmp_path) == store.usage
    store.delete("tx/00000490/gw-1/00000000")
    store.delete("allow/token/1")
    assert store.usage == measure(tmp_path) == Usage(stored=60, objects=1, charged=3 * SMALLEST)


def test_a_service_keeps_its_port_and_listens_only_when_it_runs() -> None:
    address = ServiceAddress("127.0.0.1", 0)
    number, listener = address.slot(())
    assert (number, listener.getsockname()[1]) == (0, address.port)
    assert address.slot(()) == (0, listener)
    assert address.slot((0,))[0] == 1
    address.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", address.port))
    assert address.slot(())[1].getsockname()[1] == address.port
    address.close()
    ServiceAddress("127.0.0.1", address.port).close()


def test_a_port_that_another_program_has_is_not_shared_with_it() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConflictError, match="cannot be had"):
            ServiceAddress("127.0.0.1", other.getsockname()[1])


def test_a_host_chooses_among_the_ports_that_services_may_have_and_says_when_none_is_left() -> None:
    port = lasting_port("127.0.0.1")
    only = (range(port, port + 1),)
    address = ServiceAddress("127.0.0.1", 0, among=only)
    assert address.port == port
    with pytest.raises(ConflictError, match="None of the ports") as caught:
        ServiceAddress("127.0.0.1", 0, among=only)
    assert "service_ports" in str(caught.value.next_step)
    address.close()
    with pytest.raises(ConflictError, match=r"on 192\.0\.2\.1 cannot be had"):
        ServiceAddress("192.0.2.1", 0)


def contoso(database: HostDatabase) -> str:
    """A subscription's id."""
    return Subscriptions(database).add("contoso", storage_quota=10**9, instance_quota=4, now=NOW).id


def surroundings(home: Path, services: Any = None) -> runner.Surroundings:
    """Of a host that starts no instance."""
    unused: Any = None
    return runner.Surroundings(
        settings=load_settings(home),
        folders=Folders(home),
        keys=unused,
        services=services,
        storage=unused,
        command=(),
        pid=0,
        listen_host="127.0.0.1",
        clock=time.time,
    )


async def test_a_port_that_another_service_got_while_it_was_chosen_is_given_up(home: Path, site: Any) -> None:
    """Two reservations keep each other out no more than two instances of a service do: else both would answer."""
    with contextlib.closing(HostDatabase(home / "host.sqlite")) as database:
        services, owner = Services(database, ServerVault.load(home / "vault.key")), contoso(database)
        asking = site.spec(1)
        chosen = services.put(owner, "dp1", asking, expires=1, now=NOW)

        class Meanwhile(Services):
            """Another service asks for the very port, before it is known to be anybody's."""

            def set_port(self, service: str, port: int) -> None:
                services.put(owner, "dp2", msgspec.structs.replace(asking, port=port), expires=1, now=NOW)
                super().set_port(service, port)

        around = surroundings(home, Meanwhile(database, ServerVault.load(home / "vault.key")))
        own = runner.ServiceRunner(chosen.id, around, lambda: None)
        with pytest.raises(ConflictError, match="that of another service"):
            await own._hold_address(chosen)
        assert (own.port, services.find(owner, "dp1").port) == (0, 0)
        with socket.socket() as anybody:
            anybody.bind(("127.0.0.1", services.find(owner, "dp2").port))


async def test_the_port_of_a_service_that_has_not_got_it_yet_is_not_chosen_for_another(home: Path, site: Any) -> None:
    ports = sorted({lasting_port("127.0.0.1") for _ in range(9)})[:2]
    settings = msgspec.structs.replace(load_settings(home), service_ports=",".join(map(str, ports)))
    with contextlib.closing(HostDatabase(home / "host.sqlite")) as database:
        services, owner = Services(database, ServerVault.load(home / "vault.key")), contoso(database)
        asking = site.spec(1)
        for taken, left in (ports, ports[::-1]):
            name = f"dp{taken}"
            services.put(owner, name, msgspec.structs.replace(asking, port=taken), expires=1, now=NOW)
            chosen = services.put(owner, "dp1", asking, expires=1, now=NOW)
            around = msgspec.structs.replace(surroundings(home, services), settings=settings)
            own = runner.ServiceRunner(chosen.id, around, lambda: None)
            await own._hold_address(chosen)
            assert own.port == services.find(owner, "dp1").port == left
            await own.close()
            for each in (name, "dp1"):
                services.remove(services.set_state(owner, each, Wanted.DELETING).id)


async def test_a_service_that_is_just_being_made_has_one_runner_only(home: Path) -> None:
    go_on = threading.Event()

    class JustMade:
        """The supervisor has read what there is before the service came."""

        def all(self) -> list[ServiceRow]:
            return []

        def get(self, _: str) -> None:
            go_on.wait(60)

    async def nothing(_: ServiceRow) -> None:
        """Nobody else uses its parts."""

    supervisor = Supervisor(surroundings(home, JustMade()), nothing)
    made = supervisor.runner("svc-1")
    step = asyncio.create_task(made.converge())
    await asyncio.sleep(0)
    await supervisor.run_once()
    found = supervisor.runner("svc-1")
    go_on.set()
    await step
    assert found is made, "another one would start instances of its own, which no deletion would end"
    await supervisor.run_once()
    assert supervisor.runner("svc-1") is not made, "it is forgotten when it has nothing to do"


async def test_a_port_that_is_still_a_killed_hosts_is_waited_for_once(
    home: Path, two_tenants: "Tenants", monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Busy(ServiceAddress):
        def __init__(self, host: str, port: int, **more: Any) -> None:
            asked.append(port)
            if len(asked) != 4:
                raise PortBusyError("taken")
            super().__init__(host, port, **more)

    monkeypatch.setattr(runner, "ServiceAddress", Busy)
    monkeypatch.setattr(runner, "_AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(runner, "FREE_SECONDS", 10**6)
    _, _, (row, _) = two_tenants
    row = msgspec.structs.replace(row, port=lasting_port("127.0.0.1"))
    own = runner.ServiceRunner(row.id, surroundings(home), lambda: None)
    address = await own._opened(row)
    address.close()
    assert asked == [row.port] * 4
    with pytest.raises(PortBusyError):
        await own._opened(row)
    assert len(asked) == 5, "its next look comes anyway: the other services do not wait for it"


def test_new_connections_go_to_the_chosen_slots_evenly_and_to_no_other() -> None:
    address = ServiceAddress("127.0.0.1", 0)
    listeners = [address.slot(range(number))[1] for number in range(4)]
    for chosen in ((1, 3), (0, 1, 2, 3), (2,)):
        address.choose(chosen)
        clients = [socket.create_connection(("127.0.0.1", address.port)) for _ in range(200)]
        counts = [accept_all(listener) for listener in listeners]
        assert sum(counts) == len(clients)
        assert all(bool(count) == (number in chosen) for number, count in enumerate(counts))
        assert min(counts[number] for number in chosen) > 200 / len(chosen) / 3
        for client in clients:
            client.close()
    address.close()


def accept_all(listener: socket.socket) -> int:
    """How many connections wait there."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_a_gateway_refuses_a_configuration_that_contradicts_itself(tmp_path: Path) -> None:
    good = GatewayConfig(
        instance="gw-1",
        point="pt",
        root=bytes(32),
        store="s",
        state="t",
        certificate="c",
        private_key="k",
        listen="h:1",
    )
    path = tmp_path / "gateway.json"
    save_config(path, good)
    assert load_config(path) == good
    assert path.stat().st_mode & 0o777 == 0o600
    changes: list[dict[str, Any]] = [
        {"root": b"x"},
        {"listener": 5},
        {"listen": ""},
        {"poll": 0.0},
        {"drain_seconds": -1.0},
        {"instance": "../up"},
    ]
    for change in changes:
        save_config(path, msgspec.structs.replace(good, **change))
        with pytest.raises(BadInputError):
            load_config(path)
    path.write_bytes(b'{"unknown": 1}')
    with pytest.raises(BadInputError):
        load_config(path)
    with pytest.raises(NotFoundError):
        load_config(tmp_path / "missing")


class Counted(HostStorage):
    """Stores of which one takes long to count."""

    def __init__(self, folders: Folders) -> None:
        super().__init__(folders, StoreSettings())
        self.slow = ""
        self.failing = ""
        self.go_on = threading.Event()

    def known(self, row: ServiceRow) -> Usage:
        if row.id == self.slow:
            self.go_on.wait(60)
        return super().known(row)

    def measure(self, row: ServiceRow) -> Usage:
        if row.id == self.failing:
            raise UnavailableError("The store does not answer.")
        return super().measure(row)


Tenants = tuple[StoreEndpoints, Counted, list[ServiceRow]]


@pytest.fixture
def two_tenants(tmp_path: Path, site: Any) -> Iterator[Tenants]:
    with contextlib.closing(HostDatabase(tmp_path / "host.sqlite", create=True)) as database:
        subscriptions = Subscriptions(database)
        services = Services(database, ServerVault.create(tmp_path / "vault"))
        rows = []
        for name in ("a", "b"):
            owner = subscriptions.add(name, storage_quota=10**9, instance_quota=4, now=NOW)
            rows.append(services.put(owner.id, "dp1", site.spec(1), expires=1, now=NOW))
        storage = Counted(Folders(tmp_path))
        yield StoreEndpoints(storage, services, subscriptions, lambda _: None), storage, rows
        storage.go_on.set()


async def test_a_store_that_takes_long_to_count_holds_up_its_own_tenant_only(
    two_tenants: Tenants,
) -> None:
    stores, storage, (slow, quick) = two_tenants
    storage.slow = slow.id
    waiting = asyncio.create_task(stores.usage(slow))
    await asyncio.sleep(0.1)
    assert await asyncio.wait_for(stores.usage(quick), 30) == Usage()
    assert not waiting.done()
    storage.go_on.set()
    assert await waiting == Usage()
    for row in (slow, quick):
        await stores.close(row)
        assert await stores.usage(row) == Usage()


async def test_a_store_that_cannot_be_counted_keeps_no_other_from_being_counted(
    two_tenants: Tenants, tmp_path: Path
) -> None:
    stores, storage, (failing, other) = two_tenants
    for row in (failing, other):
        await stores.usage(row)
        (Folders(tmp_path).store(row.id) / "document").write_bytes(b"12345")
    storage.failing = failing.id
    await stores.recount()
    assert [(await stores.usage(row)).stored for row in (failing, other)] == [0, 5]
    for row in (failing, other):
        await stores.close(row)


async def test_what_changed_is_noted_for_those_who_look_and_nothing_of_a_service_that_is_going(
    two_tenants: Tenants, tmp_path: Path
) -> None:
    stores, storage, (going, staying) = two_tenants
    for row in (going, staying):
        await stores.usage(row)
        (Folders(tmp_path).store(row.id) / "document").write_bytes(b"12345")
    await stores.note_changed()
    assert [note.stored for note in map(storage.noted, (going, staying)) if note] == [0, 0]
    await stores.recount()
    (tmp_path / "services" / staying.id / "usage.json").rename(tmp_path / "kept")
    await stores.close(going)
    shutil.rmtree(tmp_path / "services" / going.id)
    await stores.note_changed()
    assert not (tmp_path / "services" / going.id).exists(), "nothing brings it back"
    noted = storage.noted(staying)
    assert noted is not None
    assert (noted.stored, noted.final) == (5, False)
    (tmp_path / "services" / staying.id / "usage.json").unlink()
    await stores.note_changed()
    assert storage.noted(staying) is None, "nothing has changed since"
    await stores.close(staying)
