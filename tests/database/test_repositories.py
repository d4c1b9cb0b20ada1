"""Contents, devices, points, collections, settings and administrators in the database."""

import pytest
from sqlalchemy import select

from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, RefusedError, UnauthenticatedError
from entrepot.database import (
    administrators,
    client_settings,
    device_collections,
    devices,
    hierarchy,
    locations,
    points,
)
from entrepot.database.administrators import Administrator
from entrepot.database.devices import Code, Device
from entrepot.database.engine import CHANGES, Database
from entrepot.database.hierarchy import Hierarchy
from entrepot.database.names import check_name, name_key
from entrepot.database.points import Point
from entrepot.database.tables.hierarchy import session
from entrepot.protocol.deviceapi import ClientSettingsRequest, DeviceState, SettingsValues
from entrepot.protocol.enrolment import Kind
from entrepot.protocol.pointapi import BoundaryGroupRequest, BoundaryPoint, Speed
from entrepot.protocol.policy import DownloadReport, SourceBytes

NOW = 1_774_267_200.0


def a_device(number: int, *, state: DeviceState = DeviceState.APPROVED, name: str = "") -> Device:
    return Device(
        id=f"dev-{number:016x}",
        name=name or f"pc-{number}",
        public_key=bytes([number]) * 32,
        state=state,
        changed=int(NOW),
        site="PS1",
        enrolled=int(NOW),
        seen=int(NOW),
        address="10.0.0.1",
    )


def a_point(name: str) -> Point:
    return Point(id=f"pt-{name}", name=name, kind="standard", site="PS1", state="active", url="https://x")


def counter(database: Database) -> int:
    with database.reading() as connection:
        return hierarchy.count(connection, CHANGES)


@pytest.mark.parametrize(("first", "second"), [("Straße", "STRASSE"), ("App", " app "), ("é", "e\u0301")])
def test_names_that_people_cannot_tell_apart_are_the_same(first: str, second: str) -> None:
    assert name_key(first) == name_key(second)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a/b", "..", "x" * 129, "pkg-0123456789abcdef", "a\x00b"])
def test_names_that_would_confuse_are_refused(name: str) -> None:
    with pytest.raises(BadInputError):
        check_name(name, "thing")


@pytest.mark.parametrize(
    ("asked", "meant"), [("dp-berlim", "dp-berlin"), ("DP-MUNCHEN", "dp-münchen"), ("berlin-dp", ""), ("x" * 5000, "")]
)
def test_a_name_that_nothing_has_is_answered_with_the_one_that_was_probably_meant(
    database: Database, asked: str, meant: str
) -> None:
    with database.transaction() as connection:
        for name in ("dp-berlin", "dp-münchen"):
            points.add_point(connection, a_point(name))
        with pytest.raises(NotFoundError, match="There is no distribution point") as caught:
            points.get_point(connection, asked)
    assert ("Did you mean" in caught.value.next_step) == bool(meant)
    assert meant in caught.value.next_step
    assert "entrepot point list" in caught.value.next_step


def test_a_device_name_is_unique_without_regard_to_case(database: Database) -> None:
    with database.transaction() as connection:
        devices.add_device(connection, a_device(1, name="Laptop"))
    with pytest.raises(ConflictError, match="taken"), database.transaction() as connection:
        devices.add_device(connection, a_device(2, name="LAPTOP"))


def test_enrolling_the_same_key_again_gives_the_same_device(database: Database) -> None:
    with database.transaction() as connection:
        first = devices.add_device(connection, a_device(1))
        again = devices.add_device(connection, a_device(1))
        assert again.id == first.id
    with pytest.raises(ConflictError, match="another name"), database.transaction() as connection:
        devices.add_device(connection, a_device(1, name="other"))


def test_a_device_is_removed_only_when_its_tokens_have_ended(database: Database) -> None:
    with database.transaction() as connection:
        device = devices.add_device(connection, a_device(1))
    with pytest.raises(ConflictError, match="approved"), database.transaction() as connection:
        devices.remove_device(connection, device.id, now=NOW)
    with database.transaction() as connection:
        devices.set_state(connection, device.id, DeviceState.BLOCKED, now=NOW)
    with pytest.raises(ConflictError, match="eight hours"), database.transaction() as connection:
        devices.remove_device(connection, device.id, now=NOW + 8 * 3600)
    with database.transaction() as connection:
        devices.remove_device(connection, device.id, now=NOW + 8 * 3600 + 121)
        assert devices.find_device(connection, device.id) is None


def test_a_nonce_is_used_once(database: Database) -> None:
    with database.transaction() as connection:
        devices.use_nonce(connection, b"n" * 40, now=NOW, expires=NOW + 300)
    with pytest.raises(UnauthenticatedError), database.transaction() as connection:
        devices.use_nonce(connection, b"n" * 40, now=NOW + 1, expires=NOW + 300)


def test_codes_expire_and_are_counted(database: Database) -> None:
    code = Code(id="code-1", kind=Kind.DEVICE, name="", sealed=b"s", uses_left=1, expires=int(NOW + 60))
    with database.transaction() as connection:
        devices.add_code(connection, code, now=NOW)
        devices.use_code(connection, code.id)
        found = devices.find_code(connection, code.id, now=NOW)
        assert found is not None
        assert found.uses_left == 0
        assert devices.list_codes(connection, now=NOW) == []
        assert devices.find_code(connection, code.id, now=NOW + 60) is None


def test_a_download_that_is_reported_twice_counts_once(database: Database) -> None:
    source = SourceBytes(kind="cloud", form="full", point="pt-1", bytes=5, requests=1)
    report = DownloadReport(
        id="r1",
        content="pkg-1",
        version=1,
        network="intranet",
        started=1,
        finished=2,
        outcome="success",
        sources=(source,),
    )
    with database.transaction() as connection:
        device = devices.add_device(connection, a_device(1))
        assert devices.add_download(connection, device.id, report, now=NOW)
        assert not devices.add_download(connection, device.id, report, now=NOW)
        (seen,) = devices.list_downloads(connection)
        assert (seen.device_name, seen.sources[0].bytes) == ("pc-1", 5)
        assert devices.prune_downloads(connection, received_before=NOW + 1) == 1


def test_the_built_in_collection_holds_every_approved_device_and_never_changes(database: Database) -> None:
    with database.transaction() as connection:
        device_collections.add_built_in(connection)
        devices.add_device(connection, a_device(1))
        devices.add_device(connection, a_device(2, state=DeviceState.PENDING))
        (built_in,) = device_collections.described(connection)
        assert built_in.members == (a_device(1).id,)
        with pytest.raises(RefusedError):
            device_collections.add_member(connection, "all devices", "pc-2")
        with pytest.raises(RefusedError):
            device_collections.remove(connection, "All devices")


def test_members_come_and_go(database: Database) -> None:
    with database.transaction() as connection:
        devices.add_device(connection, a_device(1))
        made = device_collections.add(connection, "col-1", "Pilots")
        device_collections.add_member(connection, "pilots", "PC-1")
        device_collections.add_member(connection, made.id, a_device(1).id)
        assert devices.collections_of(connection, a_device(1).id) == {"col-1"}
        device_collections.remove_member(connection, "Pilots", "pc-1")
        assert device_collections.described(connection, "Pilots")[0].members == ()


def test_a_collection_in_use_stays(database: Database) -> None:
    request = ClientSettingsRequest(name="pilot", collection="Pilots", settings=SettingsValues(allow_cloud=True))
    with database.transaction() as connection:
        device_collections.add(connection, "col-1", "Pilots")
        client_settings.put(connection, "set-1", request)
        with pytest.raises(ConflictError, match="Client settings"):
            device_collections.remove(connection, "Pilots")
        client_settings.remove(connection, "Pilot")
        device_collections.remove(connection, "Pilots")


def test_cloud_access_is_off_by_default_and_a_change_keeps_the_rest(database: Database) -> None:
    with database.transaction() as connection:
        client_settings.add_default(connection)
        assert client_settings.get(connection, "default").settings.allow_cloud is False
        request = ClientSettingsRequest(name="Default", settings=SettingsValues(allow_cloud=True))
        changed = client_settings.put(connection, "set-x", request).settings
        assert (changed.allow_cloud, changed.poll_minutes) == (True, 60)
        with pytest.raises(RefusedError):
            client_settings.remove(connection, "default")


def test_custom_sets_need_a_collection_and_a_priority_of_their_own(database: Database) -> None:
    values = SettingsValues(poll_minutes=5)
    with database.transaction() as connection:
        device_collections.add_built_in(connection)
        with pytest.raises(BadInputError):
            client_settings.put(connection, "set-1", ClientSettingsRequest(name="a", settings=values))
        first = ClientSettingsRequest(name="a", priority=3, collection="All devices", settings=values)
        client_settings.put(connection, "set-1", first)
        with pytest.raises(ConflictError, match="priority"):
            second = ClientSettingsRequest(name="b", priority=3, collection="All devices", settings=values)
            client_settings.put(connection, "set-2", second)
        assert client_settings.put(connection, "set-3", first).id == "set-1", "replaced, not added"


def test_points_have_unique_names_and_boundary_groups_name_them(database: Database) -> None:
    with database.transaction() as connection:
        points.add_point(connection, a_point("Berlin"))
        with pytest.raises(ConflictError):
            points.add_point(connection, Point(**{**_fields(a_point("berlin")), "id": "pt-2"}))
        request = BoundaryGroupRequest(
            name="Office", ranges=("10.0.0.0/8", "10.0.0.0/8"), points=(BoundaryPoint(name="BERLIN", speed=Speed.SLOW),)
        )
        made = points.put_group(connection, "bg-1", request)
        assert made.points == (BoundaryPoint(name="Berlin", speed=Speed.SLOW),)
        assert made.ranges == ("10.0.0.0/8",)
        with pytest.raises(NotFoundError):
            points.put_group(connection, "bg-2", BoundaryGroupRequest(name="x", points=(BoundaryPoint(name="none"),)))


def _fields(point: Point) -> dict[str, object]:
    return {name: getattr(point, name) for name in point.__struct_fields__}


def test_a_removed_point_leaves_its_boundary_groups(database: Database) -> None:
    with database.transaction() as connection:
        points.add_point(connection, a_point("Berlin"))
        request = BoundaryGroupRequest(name="Office", points=(BoundaryPoint(name="Berlin"),))
        points.put_group(connection, "bg-1", request)
        points.remove_point(connection, "berlin")
        assert points.get_group(connection, "office").points == ()


def test_sessions_end_and_disappear_with_a_new_password(database: Database) -> None:
    with database.transaction() as connection:
        administrators.add(connection, Administrator(id="adm-1", name="Ada", password_hash="h"), now=NOW)
        administrators.open_session(connection, administrator="adm-1", token_hash=b"t", now=NOW, expires=NOW + 10)
        owner = administrators.session_owner(connection, b"t", now=NOW + 9)
        assert owner is not None
        assert owner.name == "Ada"
        assert administrators.session_owner(connection, b"t", now=NOW + 10) is None
        administrators.set_password(connection, "ada", "h2")
        assert connection.execute(select(session)).first() is None


def test_failed_logins_are_counted_within_their_window(database: Database) -> None:
    with database.transaction() as connection:
        for expected in (1, 2, 3):
            assert administrators.count_failure(connection, "ada@x", now=NOW, window=900) == expected
        assert administrators.failure_count(connection, "ada@x", now=NOW + 899, window=900) == 3
        assert administrators.failure_count(connection, "ada@x", now=NOW + 901, window=900) == 0
        assert administrators.count_failure(connection, "ada@x", now=NOW + 901, window=900) == 1


def test_a_database_has_one_hierarchy(database: Database) -> None:
    record = Hierarchy(name="H", epoch=1, trust_number=1, trust_document="jws", root_public=b"r" * 32)
    with database.transaction() as connection:
        with pytest.raises(NotFoundError):
            hierarchy.get_hierarchy(connection)
        hierarchy.create_hierarchy(connection, record, now=NOW)
        assert hierarchy.get_hierarchy(connection) == record
        with pytest.raises(ConflictError):
            hierarchy.create_hierarchy(connection, record, now=NOW)


def test_what_changes_answers_moves_the_counter_and_enrolment_does_not(database: Database) -> None:
    with database.transaction() as connection:
        device_collections.add_built_in(connection)
        device_collections.add(connection, "col-1", "Pilots")
    before = counter(database)
    with database.transaction() as connection:
        devices.add_device(connection, a_device(1))
    assert counter(database) == before
    with database.transaction() as connection:
        device_collections.add_member(connection, "Pilots", "pc-1")
        devices.set_state(connection, "pc-1", DeviceState.BLOCKED, now=NOW)
    assert counter(database) == before + 1, "once for a transaction"


def test_an_asker_is_read_with_the_counter(database: Database) -> None:
    with database.transaction() as connection:
        device_collections.add(connection, "col-1", "Pilots")
        devices.add_device(connection, a_device(1), collection="col-1")
    with database.reading() as connection:
        row = locations.asker(connection, a_device(1).id)
        nobody = locations.asker(connection, "dev-x")
    assert row.device is not None
    assert (row.collections, row.counter) == (frozenset({"col-1"}), counter(database))
    assert nobody.device is None
