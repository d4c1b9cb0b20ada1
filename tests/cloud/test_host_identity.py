"""A host's own key is replaced: sites that were told go on, others refuse it and say what to do; nothing is torn."""

import contextlib
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.host import identity
from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.identity import HostKey
from entrepot.cloud.host.keyadministration import KeyAdministration
from entrepot.cloud.host.keywatch import KeyWatch
from entrepot.cloud.host.settings import Folders, HostSettings, audit_log, load_settings
from entrepot.cloud.host.setup import host_identity, init_host
from entrepot.cloud.host.subscriptions import Caller, Subscriptions
from entrepot.cloud.providers.host import HostProvider
from entrepot.core.errors import BadInputError, ConflictError, TrustError, UnavailableError
from entrepot.core.times import DAY
from entrepot.trust.certificates import Pair, new_management
from entrepot.trust.inspection import key_pem, load_cer, thumbprint

NOW = 1_774_267_200
SETTINGS = HostSettings(listen="127.0.0.1:1", url="https://127.0.0.1:1")


class Crash(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a host that has its first key."""
    HostKey(tmp_path / "tls").create(SETTINGS, now=NOW)
    return tmp_path / "tls"


def assert_usable(folder: Path) -> None:
    """The certificate and the key belong together."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "certificate.pem", folder / "key.pem")


def test_a_next_key_is_announced_and_takes_the_place_of_the_present_one_which_is_gone(folder: Path) -> None:
    key = HostKey(folder)
    first, old = key.standing().pin, (folder / "key.pem").read_bytes()
    rotation = key.prepare(SETTINGS, grace=DAY, now=NOW)
    assert (rotation.due, key.standing().pin, key.standing().rotation) == (NOW + DAY, first, rotation)
    assert key.switch(due_at=NOW + DAY - 1) is None
    switched = key.switch(due_at=NOW + DAY)
    assert switched is not None
    assert (switched.pin, switched.rotation) == (rotation.pin, None)
    assert_usable(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["certificate.pem", "key.pem"]
    assert old != (folder / "key.pem").read_bytes()
    assert (folder / "key.pem").stat().st_mode & 0o077 == 0


def test_what_is_announced_can_be_taken_back_and_is_never_announced_twice(folder: Path) -> None:
    key = HostKey(folder)
    first = key.standing()
    key.prepare(SETTINGS, grace=DAY, now=NOW)
    with pytest.raises(ConflictError, match="announced already"):
        key.prepare(SETTINGS, grace=DAY, now=NOW)
    key.cancel()
    assert key.standing() == first
    with pytest.raises(ConflictError):
        key.cancel()
    with pytest.raises(ConflictError):
        key.switch()
    assert sorted(path.name for path in folder.iterdir()) == ["certificate.pem", "key.pem"]


def test_a_key_that_is_known_to_somebody_is_replaced_by_one_that_was_never_announced(folder: Path) -> None:
    key = HostKey(folder)
    announced = key.prepare(SETTINGS, grace=DAY, now=NOW).pin
    first = key.standing().pin
    assert key.replace(SETTINGS, now=NOW).pin not in (announced, first)
    assert_usable(folder)


def _mortal(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """From now on the process dies before its so-manieth change of the disk."""
    left = [steps]

    def dying(work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Crash
            return work(*args, **kwargs)

        return step

    for name in ("write_file", "write_private", "sync_folder", "make_folder"):
        monkeypatch.setattr(identity, name, dying(getattr(identity, name)))
    monkeypatch.setattr(identity.shutil, "rmtree", dying(shutil.rmtree))
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, dying(getattr(Path, name)))


def test_wherever_it_is_killed_there_is_one_key_with_its_certificate_and_the_next_order_is_done(folder: Path) -> None:
    steps = 0
    while True:
        pins = {HostKey(folder).standing().pin}
        with pytest.MonkeyPatch.context() as patch:
            _mortal(patch, steps)
            try:
                pins.add(HostKey(folder).prepare(SETTINGS, grace=0, now=NOW).pin)
                HostKey(folder).switch()
            except Crash:
                died = True
            else:
                died = False
        standing = HostKey(folder).standing()
        assert_usable(folder)
        if standing.rotation is not None:
            pins.add(standing.rotation.pin)
            HostKey(folder).cancel()
        assert standing.pin in pins
        HostKey(folder).replace(SETTINGS, now=NOW)
        assert_usable(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["certificate.pem", "key.pem"]
        if not died:
            break
        steps += 1
    assert steps > 8, "each change of the disk was tried"


def test_a_host_that_was_off_when_the_time_came_switches_at_its_start_and_notes_it(tmp_path: Path) -> None:
    home = tmp_path / "host"
    first = init_host(home, "127.0.0.1:0", now=NOW).pin.hex()
    own = KeyAdministration(home, clock=lambda: NOW)
    coming = own.rotate(14).next_pin
    assert host_identity(home, load_settings(home)).rotation is not None
    folders, later = Folders(home), NOW + 15 * DAY
    audit = audit_log(folders, load_settings(home), lambda: later)
    watch = KeyWatch(HostKey(folders.tls), audit, lambda: later)
    assert (watch.standing.pin, watch.standing.rotation) == (coming, None)
    *_, announced, switched = audit.last(10)
    assert (announced["action"], announced["actor"], announced["subject"]) == ("identity.announce", "local", coming)
    assert (switched["action"], switched["actor"], switched["before"]) == ("identity.switch", "host", first)
    assert watch.look() is False, "nothing new"
    own.replace()
    assert watch.look() is True


@pytest.mark.parametrize("days", [0, 366])
def test_a_grace_time_that_makes_no_sense_makes_no_key(tmp_path: Path, days: int) -> None:
    init_host(tmp_path / "host", "127.0.0.1:0", now=NOW)
    with pytest.raises(BadInputError, match="1 to 365 days"):
        KeyAdministration(tmp_path / "host").rotate(days)


def test_a_database_from_before_gets_its_table(tmp_path: Path) -> None:
    home = tmp_path / "host"
    init_host(home, "127.0.0.1:0", now=NOW)
    database = HostDatabase(Folders(home).database)
    with database.write() as connection:
        connection.execute("DROP TABLE knows_pin")
        connection.execute("PRAGMA user_version=2")
    database.close()
    assert KeyAdministration(home).show().holders == ()


def test_each_subscription_that_keeps_the_next_pin_is_noted_once_also_with_one_certificate(tmp_path: Path) -> None:
    home, pair = tmp_path / "host", new_management("shared", 30, "ec", now=NOW)
    init_host(home, "127.0.0.1:0", now=NOW)
    accounts = [
        HostAdministration(home, clock=lambda: NOW).add_subscription(name, certificate=pair.cer)
        for name in ("contoso", "fabrikam")
    ]
    own = KeyAdministration(home, clock=lambda: NOW)
    pin = own.rotate(14).next_pin
    with contextlib.closing(HostDatabase(Folders(home).database)) as database:
        subscriptions = Subscriptions(database)
        for later, account in ((0, accounts[0]), (5, accounts[1]), (9, accounts[0])):
            caller = Caller(
                subscription=account, thumbprint=thumbprint(load_cer(pair.cer)).hex(), certificate_expires=1
            )
            subscriptions.note_pin(caller, pin, now=NOW + later)
    assert [(one.subscription, one.knows) for one in own.show().holders] == [("contoso", NOW), ("fabrikam", NOW + 5)]
    own.cancel()
    other = own.rotate(14).next_pin
    assert {one.knows for one in own.show().holders} == {0}
    with contextlib.closing(HostDatabase(Folders(home).database)) as database:
        Subscriptions(database).note_pin(caller, other, now=NOW + 20)
    assert [one.knows for one in own.show().holders] == [NOW + 20, 0]


def _provider(host: Any, subscription: str, pair: Pair, *pins: str) -> HostProvider:
    present, following = (*pins, "")[:2]
    return HostProvider(
        url=host.identity.url,
        pin=bytes.fromhex(present),
        next_pin=bytes.fromhex(following),
        subscription=subscription,
        certificate=pair.cer,
        private_key=key_pem(pair.key),
    )


@pytest.mark.process
async def test_a_site_that_was_told_goes_on_and_one_that_was_not_refuses_the_host_and_says_what_to_do(
    host: Any, provider: HostProvider, management: Pair, until: Callable[..., Any]
) -> None:
    own, first = KeyAdministration(host.home), host.identity.pin.hex()
    told = await provider.check()
    assert (told.pin, told.next_pin) == (first, "")
    coming = own.rotate(14).next_pin

    async def announced() -> bool:
        return (await provider.check()).next_pin == coming

    await until(announced)
    assert [one.knows for one in own.show().holders] == [0], "it was told, and has not said that it keeps it"
    async with _provider(host, told.id, management, first, coming) as knowing:
        assert (await knowing.check()).pin == first
        assert own.show().holders[0].knows > 0
        own.switch()

        async def switched() -> bool:
            return (await knowing.check()).pin == coming

        await until(switched)
        assert (await knowing.check()).next_pin == ""
        async with _provider(host, told.id, management, first) as away:

            async def refused() -> bool:
                try:
                    await away.check()
                except TrustError as error:
                    assert coming in error.message
                    assert "entrepot cloud accept-pin NAME --host-pin" in error.next_step
                    return True
                await away.close()  # the next question is put on a connection of its own
                return False

            await until(refused)
        async with _provider(host, told.id, management, coming) as accepted:
            assert (await accepted.check()).id == told.id


@pytest.mark.process
async def test_a_running_host_switches_by_itself_when_the_time_has_come(
    host: Any, provider: HostProvider, management: Pair, until: Callable[..., Any]
) -> None:
    told = await provider.check()
    rotation = HostKey(Folders(host.home).tls).prepare(load_settings(host.home), grace=0, now=time.time())
    async with _provider(host, told.id, management, rotation.pin) as knowing:

        async def serves() -> bool:
            try:
                return (await knowing.check()).pin == rotation.pin
            except TrustError as error:
                raise UnavailableError(error.message) from error

        await until(serves)
    (line,) = (one for one in KeyAdministration(host.home)._audit.last(20) if one["action"] == "identity.switch")
    assert (line["actor"], line["subject"]) == ("host", rotation.pin)


def test_a_pin_tells_nothing_of_the_key(folder: Path) -> None:
    rotation = HostKey(folder).prepare(SETTINGS, grace=DAY, now=NOW)
    assert set(msgspec.structs.asdict(rotation)) == {"pin", "announced", "due", "switching"}
    assert (folder / "next").stat().st_mode & 0o077 == 0
