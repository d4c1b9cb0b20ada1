"""Cloud points, their figures and alerts, on SQLite and PostgreSQL."""

import threading
import time

import msgspec
import pytest
from sqlalchemy import event

from entrepot.core.errors import ConflictError, NotFoundError, UnavailableError
from entrepot.core.times import HOUR
from entrepot.database import alerts, cloud, collection, controldocuments, grants, points, usage
from entrepot.database.cloud import CloudPoint, ManagementCertificate
from entrepot.database.collection import BucketRow, Gap, SegmentRow
from entrepot.database.engine import Database
from entrepot.database.hierarchy import CHANGES, count
from entrepot.protocol.cloudhost import Instance
from entrepot.protocol.cloudpointapi import CloudPointState, Thresholds
from entrepot.protocol.control import ServiceState
from entrepot.rules.alerts import AlertState, Condition, Step, annotate, evaluate
from entrepot.rules.sentences import quoted

CERTIFICATE = ManagementCertificate(
    id="cert-0000000000000001",
    name="management",
    subject="CN=management",
    thumbprint="ab" * 32,
    key_kind="ec",
    not_before=0,
    not_after=10,
    imported=1,
    certificate=b"der",
    sealed_key=b"sealed",
)
POINT = CloudPoint(
    point="pt-0000000000000001",
    name="cloud1",
    site="PS1",
    service="cloud1",
    description="",
    provider="host",
    host_url="https://host",
    host_pin="cd" * 32,
    subscription="sub",
    management_certificate=CERTIFICATE.id,
    region="",
    fqdn="cloud1.contoso.com",
    port=0,
    address="",
    state=CloudPointState.PROVISIONING,
    wanted=ServiceState.RUNNING,
    message="",
    instances_wanted=2,
    instances=(Instance(id="i0", state="running", started=1, heartbeat=2, restarts=0, control=3),),
    certificate_subject="CN=x",
    certificate_thumbprint="ef" * 32,
    certificate_expires=99,
    certificate="PEM",
    sealed_key=b"sealed",
    thresholds=Thresholds(storage_quota=2**40),
    created=5,
)


@pytest.fixture
def made(database: Database) -> Database:
    with database.transaction() as connection:
        cloud.add_certificate(connection, CERTIFICATE)
        cloud.add_cloud_point(connection, POINT)
    return database


def _segment(sequence: int, previous: bytes = bytes(32), **changes: object) -> SegmentRow:
    row = SegmentRow(
        point="pt-1",
        name=f"tx/1/gw/{sequence}",
        instance="gw",
        sequence=sequence,
        digest=bytes([sequence]) * 32,
        previous=bytes([sequence - 1]) * 32 if sequence else previous,
        records=1,
        bytes=10,
    )
    return msgspec.structs.replace(row, **changes)


def _bucket(hour: int = 0, sent: int = 10, *, status: str = "2xx", device: str = "dev-1") -> BucketRow:
    return BucketRow(hour=hour, device=device, content="pkg", status=status, requests=1, bytes=sent)


def test_a_cloud_point_comes_back_as_it_was_kept(made) -> None:
    with made.reading() as connection:
        for name in ("cloud1", "CLOUD1", POINT.point):
            assert cloud.get_cloud_point(connection, name) == POINT
        assert cloud.cloud_points(connection, site="PS1") == [POINT]
        assert cloud.cloud_points(connection, site="PS2") == []
        assert cloud.certificates(connection) == [CERTIFICATE]
        with pytest.raises(NotFoundError):
            cloud.get_cloud_point(connection, "cloud2")


def test_the_point_is_active_once_it_has_an_address_and_removed_while_it_is_deleted(made) -> None:
    states = []
    for values in ({"address": "host:444"}, {"state": CloudPointState.DELETING}):
        with made.transaction() as connection:
            changed = cloud.update_cloud_point(connection, POINT.point, **values)
            states.append(points.get_point(connection, "cloud1").state)
    assert states == ["active", "removed"]
    assert changed.url == "https://cloud1.contoso.com:444"


@pytest.mark.parametrize(
    ("port", "address", "url"),
    [
        (0, "", ""),
        (443, "", "https://cloud1.contoso.com"),
        (0, "host:443", "https://cloud1.contoso.com"),
        (8443, "host:443", "https://cloud1.contoso.com:8443"),
    ],
)
def test_clients_reach_it_under_its_own_name(port, address, url) -> None:
    assert msgspec.structs.replace(POINT, port=port, address=address).url == url


def test_only_what_clients_may_notice_counts_as_a_change(made) -> None:
    def changes() -> int:
        with made.reading() as connection:
            return count(connection, CHANGES)

    before = changes()
    with made.transaction() as connection:
        cloud.update_cloud_point(connection, POINT.point, checked=77, message="well", description="d")
    assert changes() == before
    with made.transaction() as connection:
        cloud.update_cloud_point(connection, POINT.point, wanted=ServiceState.STOPPED)
    assert changes() == before + 1


def test_nothing_of_a_deleted_point_is_left_and_its_certificate_is_free(made) -> None:
    with made.transaction() as connection:
        with pytest.raises(ConflictError, match="cloud1"):
            cloud.delete_certificate(connection, CERTIFICATE.id)
        controldocuments.next_control(connection, POINT.point, epoch=1, issued=1)
        cloud.delete_cloud_point(connection, POINT.point)
        assert controldocuments.control(connection, POINT.point) == controldocuments.ControlRow()
        cloud.delete_certificate(connection, CERTIFICATE.id)
        assert cloud.certificates(connection) == []


def test_control_counters_only_grow(made) -> None:
    with made.transaction() as connection:
        taken = [controldocuments.next_control(connection, POINT.point, epoch=2, issued=n) for n in range(3)]
        assert taken == [1, 2, 3]
        controldocuments.note_trust(connection, POINT.point, 4)
        controldocuments.note_push(connection, POINT.point, counter=3, now=9)
        controldocuments.note_push(connection, POINT.point, counter=2, now=10)  # a late one
        controldocuments.describe_control(connection, POINT.point, b"d")
        assert controldocuments.control(connection, POINT.point).digest == b"d"
        controldocuments.next_control(connection, POINT.point, epoch=1, issued=8)
        row = controldocuments.control(connection, POINT.point)
    assert (row.issued, row.digest) == (8, b""), "what it says is not known until it is described"
    assert (row.epoch, row.counter, row.pushed, row.pushed_at, row.trust_number) == (2, 4, 3, 9, 4)


def test_processes_that_sign_at_once_never_share_a_counter(made) -> None:
    """A gateway believes one document of each counter: the other, with its revocation, would be lost."""
    taken: list[int] = []

    def sign() -> None:
        with made.transaction() as connection:
            counter = controldocuments.next_control(connection, POINT.point, epoch=1, issued=1)
            time.sleep(0.05)
        taken.append(counter)

    threads = [threading.Thread(target=sign) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [1, 2, 3, 4, 5, 6]


def test_a_segment_is_counted_once(database) -> None:
    with database.transaction() as connection:
        assert collection.add_segment(connection, _segment(0), [_bucket()], 1)
        assert not collection.add_segment(connection, _segment(0), [_bucket()], 1)
        assert not collection.add_segment(connection, _segment(0, name="tx/2/gw/0"), [_bucket()], 1)
        assert collection.add_segment(connection, _segment(1), [_bucket(), _bucket(HOUR, 5, status="4xx")], 1)
        assert usage.totals_since(connection, "pt-1", 0) == usage.HourRow(
            hour=0, requests=3, failed=1, sent=25, uploaded=0
        )
        assert collection.known_segments(connection, "pt-1", ["tx/1/gw/0", "tx/1/gw/7"]) == {"tx/1/gw/0"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_chain_is_whole_in_whatever_order_it_arrives(database, order) -> None:
    missing = []
    with database.transaction() as connection:
        for sequence in order:
            collection.add_segment(connection, _segment(sequence), [], 1)
            missing.append([gap.missing for gap in collection.gaps(connection, "pt-1")])
        assert collection.gaps(connection, "pt-1") == []
    assert missing[-1] == []


def test_an_instance_that_was_idle_for_long_has_no_gap(database) -> None:
    with database.transaction() as connection:
        collection.add_segment(connection, _segment(0), [], 1)
        assert collection.prune_segments(connection, 100, chains_before=0) == 1
        collection.add_segment(connection, _segment(1), [], 200)
        assert collection.gaps(connection, "pt-1") == []
        collection.add_segment(connection, _segment(3), [], 200)
        assert [gap.missing for gap in collection.gaps(connection, "pt-1")] == [1]


def test_gaps_name_the_instance_and_can_be_accepted(database) -> None:
    with database.transaction() as connection:
        collection.add_segment(connection, _segment(0), [], 1)
        collection.add_segment(connection, _segment(3), [], 1)
        collection.add_segment(connection, _segment(4, previous=b"x", digest=b"?" * 32), [], 1)
        collection.add_segment(connection, _segment(5, damaged=True), [], 1)
        assert collection.gaps(connection, "pt-1") == [Gap(instance="gw", missing=2, broken=1)]
        collection.accept_gaps(connection, "pt-1")
        assert collection.gaps(connection, "pt-1") == []
        assert not grants.chains(connection, "pt-1", ["gw"])["gw"].whole, "what it would have told is not known"


def test_an_accepted_segment_that_arrives_all_the_same_hides_no_other(database) -> None:
    with database.transaction() as connection:
        collection.add_segment(connection, _segment(0), [], 1)
        collection.add_segment(connection, _segment(2), [], 1)
        collection.accept_gaps(connection, "pt-1")
        collection.add_segment(connection, _segment(4), [], 1)
        assert collection.gaps(connection, "pt-1") == [Gap(instance="gw", missing=1, broken=0)]
        collection.add_segment(connection, _segment(1), [], 1)
        assert collection.gaps(connection, "pt-1") == [Gap(instance="gw", missing=1, broken=0)]
        collection.add_segment(connection, _segment(3), [], 1)
        assert collection.gaps(connection, "pt-1") == []
        assert grants.chains(connection, "pt-1", ["gw"])["gw"] == grants.Chain(collected=5, whole=True)


def test_the_log_owes_exactly_what_was_added_since(database) -> None:
    def batch(connection, limit: int = 100) -> list[int]:
        seen: list[int] = []

        def write(rows) -> bytes:
            seen.extend(row.bytes for row in rows)
            return b"lines"

        made = collection.next_log_batch(connection, "pt-1", file="a.log", start=0, limit=limit, write=write)
        if made is not None:
            collection.finish_log_batch(connection, made.id)
        return seen

    with database.transaction() as connection:
        collection.add_segment(connection, _segment(0), [_bucket(sent=10), _bucket(sent=3, device="dev-2")], 1)
        assert batch(connection, limit=1) == [10]
        assert batch(connection) == [3]
        assert batch(connection) == []
        collection.add_segment(connection, _segment(1), [_bucket(sent=7)], 1)
        assert batch(connection) == [7]


def test_a_batch_is_kept_until_it_is_written(database) -> None:
    with database.transaction() as connection:
        collection.add_segment(connection, _segment(0), [_bucket()], 1)
        made = collection.next_log_batch(
            connection, "pt-1", file="a.log", start=42, limit=9, write=lambda rows: b"text" * len(rows)
        )
    with database.transaction() as connection:
        assert collection.pending_log_batches(connection, "pt-1") == [made]
        assert collection.pending_log_batches(connection, "pt-2") == []
        collection.finish_log_batch(connection, made.id)
        assert collection.pending_log_batches(connection, "pt-1") == []


def test_measurements_and_uploads_are_kept_by_the_hour(database) -> None:
    with database.transaction() as connection:
        assert usage.stored_usage(connection, "pt-1") == usage.StoredUsage()
        usage.set_stored(connection, "pt-1", stored=5, objects=2, now=HOUR + 3)
        usage.add_to_hour(connection, "pt-1", HOUR, uploaded=2**40)
        assert usage.set_listed(connection, "pt-1", objects=4, documents=2, now=HOUR + 4) == 4, "no book names them"
        usage.set_collect_error(connection, "pt-1", "down")
        kept = usage.stored_usage(connection, "pt-1")
        assert (kept.stored_bytes, kept.stored_objects, kept.listed_bytes, kept.error) == (5, 2, 6, "down")
        usage.set_collected(connection, "pt-1", now=HOUR + 5)
        assert usage.stored_usage(connection, "pt-1").error == ""
        rows = usage.hours(connection, "pt-1", since=0, until=10 * HOUR, limit=10)
        assert [(row.hour, row.uploaded, row.sent) for row in rows] == [(HOUR, 2**40, 0)]
        usage.forget_usage(connection, "pt-1")
        assert usage.stored_usage(connection, "pt-1") == usage.StoredUsage()
        assert usage.hours(connection, "pt-1", since=0, until=10 * HOUR, limit=10) == rows


def test_a_measurement_belongs_to_the_hour_that_it_was_made_in(database) -> None:
    with database.transaction() as connection:
        usage.set_stored(connection, "pt-1", stored=5, objects=0, now=10 * HOUR)
        usage.set_stored(connection, "pt-1", stored=None, objects=0, now=11 * HOUR)
        usage.set_stored(connection, "pt-1", stored=7, objects=0, now=12 * HOUR, at=10 * HOUR + 60)
        usage.set_stored(connection, "pt-1", stored=8, objects=0, now=12 * HOUR, at=9 * HOUR)
        assert usage.course(connection, "pt-1", since=0).stored == {10 * HOUR: 7}, "hour 9 is not known otherwise"
        assert usage.stored_usage(connection, "pt-1").present() == (8, 9 * HOUR)
        usage.count_stored(connection, "pt-1", now=9 * HOUR + 1)
        assert usage.stored_usage(connection, "pt-1").present() == (8, 9 * HOUR + 1), "which no books know"


def test_the_books_count_in_an_hour_for_which_the_cloud_told_nothing(database) -> None:
    with database.transaction() as connection:
        usage.set_stored(connection, "pt-1", stored=5, objects=1, now=10 * HOUR)
        usage.count_stored(connection, "pt-1", now=10 * HOUR + 60)
        usage.count_stored(connection, "pt-1", now=11 * HOUR)
        assert usage.course(connection, "pt-1", since=0).stored == {10 * HOUR: 5, 11 * HOUR: 5}, "5 beyond the books"
        usage.set_stored(connection, "pt-1", stored=6, objects=1, now=12 * HOUR, at=11 * HOUR + 60)
        assert usage.course(connection, "pt-1", since=0).stored == {10 * HOUR: 5, 11 * HOUR: 6}, "told later"


@pytest.mark.parametrize(
    "note",
    [
        lambda connection: usage.set_stored(connection, "pt-1", stored=5, objects=1, now=10 * HOUR),
        lambda connection: usage.count_stored(connection, "pt-1", now=10 * HOUR),
        lambda connection: usage.set_listed(connection, "pt-1", objects=4, documents=2, now=10 * HOUR),
    ],
)
def test_whoever_notes_what_is_stored_takes_the_point_before_its_hours_so_that_no_two_wait_for_each_other(
    database, note
) -> None:
    said: list[str] = []
    with database.transaction() as connection:
        event.listen(connection, "before_cursor_execute", lambda _c, _u, statement, *_: said.append(statement))
        note(connection)
        locking = connection.dialect.name == "postgresql"
    assert said[0].startswith("INSERT INTO cloud_usage")
    assert "FROM cloud_usage" in said[1]
    assert said[1].endswith("FOR UPDATE") or not locking, "SQLite has one writer"
    assert any("usage_hour" in statement for statement in said[2:])


def test_one_process_collects_at_a_time(database) -> None:
    def claim(connection, holder: str, now: int) -> bool:
        return usage.claim_collection(connection, "pt-1", holder=holder, now=now, until=now + 100)

    with database.transaction() as connection:
        assert claim(connection, "a", 0)
        assert claim(connection, "a", 10)
        assert not claim(connection, "b", 50)
        assert claim(connection, "b", 200)  # a died
        usage.release_collection(connection, "pt-1", holder="a")
        assert not claim(connection, "a", 210)
        usage.release_collection(connection, "pt-1", holder="b")
        assert claim(connection, "a", 210)


def test_of_two_processes_that_are_the_first_to_collect_one_does(database) -> None:
    won: dict[str, bool] = {}

    def claim(holder: str) -> None:
        with database.transaction() as connection:
            won[holder] = usage.claim_collection(connection, "pt-1", holder=holder, now=0, until=100)
            time.sleep(0.3)

    threads = [threading.Thread(target=claim, args=(holder,)) for holder in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won.values()) == [False, True]


def test_alerts_keep_their_history_and_outlive_their_subject_only_if_they_opened(database) -> None:
    def judged(condition: Condition, now: int):
        return lambda alert: evaluate(alert, condition, said=quoted("m"), now=now)

    with database.transaction() as connection:
        for kind in ("transfer_warning", "storage_warning"):
            for _ in range(2):
                alerts.ensure(connection, type_=kind, subject="pt-1", subject_name="cloud1", now=1)
        kept = alerts.find(connection, type_="transfer_warning", subject="pt-1")
        alerts.change(connection, kept.id, judged(Condition.BAD, 5))
        alerts.change(connection, kept.id, judged(Condition.BAD, 6))
        noted = alerts.change(connection, kept.id, lambda alert: annotate(alert, comment="n", now=7), by="anna").alert
        assert (noted.changed, noted.comment) == (5, "n")
        assert [one.id for one in alerts.listed(connection, only_open=True)] == [kept.id]
        assert len(alerts.listed(connection, subject="cloud1")) == 2
        alerts.end_subject(connection, "pt-1", now=9)
        left = alerts.listed(connection)
        assert [(one.id, one.alert.state, one.alert.closed_by) for one in left] == [
            (kept.id, AlertState.CANCELED, "SYSTEM")
        ]
        events = [(row.event.value, row.at) for row in alerts.history(connection, kept.id)]
        assert events == [("opened", 5), ("commented", 7), ("closed", 9)]
        with pytest.raises(NotFoundError):
            alerts.find(connection, type_="storage_warning", subject="pt-1")
        with pytest.raises(NotFoundError):
            alerts.change(connection, "alert-none", lambda alert: Step(alert=alert))


@pytest.mark.postgres
def test_who_decides_by_what_a_point_is_keeps_it_from_changing_meanwhile(postgres_hierarchy) -> None:
    """SQLite's writers queue anyway."""
    with postgres_hierarchy.transaction() as connection:
        cloud.add_certificate(connection, CERTIFICATE)
        cloud.add_cloud_point(connection, POINT)
    with postgres_hierarchy.transaction() as first:
        cloud.get_cloud_point(first, POINT.point, locked=True)
        with pytest.raises(UnavailableError), postgres_hierarchy.transaction() as second:
            second.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")
            cloud.get_cloud_point(second, POINT.point, locked=True)
        with postgres_hierarchy.reading() as reader:
            assert cloud.get_cloud_point(reader, POINT.point).name == "cloud1"
