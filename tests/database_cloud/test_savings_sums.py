"""Savings are added up from reports, once each, on either database."""

from sqlalchemy import insert

from entrepot.core.times import DAY
from entrepot.database import devices, savings
from entrepot.database.devices import Device
from entrepot.database.tables.content import content, content_version
from entrepot.protocol.costapi import SavingsBy
from entrepot.protocol.deviceapi import DeviceState
from entrepot.protocol.policy import DownloadReport, SourceBytes
from entrepot.site.cost.saving import savings_report

NOW = 1_774_267_200


def _content(connection) -> None:
    connection.execute(
        insert(content).values(
            id="pkg-1",
            name="Office",
            name_key="office",
            type="package",
            source="/x",
            excludes="[]",
            for_windows=False,
            isolated=False,
            current=1,
            pointer_counter=1,
            deleting=False,
            site="PS1",
            created=0,
        )
    )
    blank = {int: 0, str: "[]", bytes: bytes(32), bool: False}
    values = {column.name: blank[column.type.python_type] for column in content_version.c}
    values |= {"content": "pkg-1", "number": 1}
    values |= {"plain_size": 1000, "stored_size": 600}
    connection.execute(insert(content_version).values(values))


def _device() -> Device:
    return Device(
        id="dev-0000000000000001",
        name="D",
        public_key=b"k",
        state=DeviceState.APPROVED,
        changed=0,
        site="PS1",
        enrolled=0,
        seen=0,
        address="",
    )


def _report(number: int, **changes) -> DownloadReport:
    sources = (
        SourceBytes(kind="cloud", form="full", point="pt-1", bytes=400, requests=4),
        SourceBytes(kind="own-cache", form="full", point="", bytes=200, requests=2),
    )
    values = {
        "id": f"r{number}",
        "content": "pkg-1",
        "version": 1,
        "network": "internet",
        "started": NOW,
        "finished": NOW,
        "outcome": "success",
        "plain_size": 1000,
        "sources": sources,
    }
    return DownloadReport(**(values | changes))


def test_reports_are_added_up_once_and_outlive_themselves(database):
    device = _device()
    with database.transaction() as connection:
        _content(connection)
        devices.add_device(connection, device)
        for number in (1, 2, 2, 1):
            savings.take_report(connection, device.id, _report(number), now=NOW)
        savings.take_report(connection, device.id, _report(3, content="gone"), now=NOW)
        savings.take_report(connection, device.id, _report(4, outcome="failed"), now=NOW)
        devices.prune_downloads(connection, received_before=NOW + DAY)
    with database.reading() as connection:
        [line] = savings_report(connection, by=SavingsBy.CONTENT, days=1, now=NOW).lines
        [by_point] = savings_report(connection, by=SavingsBy.POINT, days=1, now=NOW).lines
        assert savings_report(connection, by=SavingsBy.POINT, days=1, now=NOW + 2 * DAY).lines == ()
    assert (line.name, line.downloads, line.plain) == ("Office", 2, 2000)
    assert (line.transferred, line.compression, line.own_cache, line.deltas) == (1200, 800, 400, 0)
    assert (by_point.subject, by_point.transferred, by_point.own_cache) == ("pt-1", 1200, 400)


def test_a_device_that_claims_what_cannot_be_spoils_nobodys_sums(database):
    """Sums beyond 64 bits would be refused by the database, and with them the next device's report."""
    huge = (SourceBytes(kind="cloud", form="full", point="pt-1", bytes=2**62 - 1, requests=1),)
    with database.transaction() as connection:
        _content(connection)
        devices.add_device(connection, _device())
        for number in range(3):
            assert savings.take_report(connection, "dev-0000000000000001", _report(number, sources=huge), now=NOW)
        assert savings.take_report(connection, "dev-0000000000000001", _report(9), now=NOW)
        assert len(devices.list_downloads(connection)) == 4, "what was claimed is seen"
        sums = {kind: (count, times) for _, kind, count, times in savings.sums(connection, since=0, by="content")}
    assert sums["transferred"] == (400, 1)
