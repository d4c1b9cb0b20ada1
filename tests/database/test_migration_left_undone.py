"""The migration that brought what a cloud lacks: orders that were under way, or had failed, are not taken for done."""

from alembic import command
from sqlalchemy import Connection, column, table, text

from entrepot.database import cloud
from entrepot.database.engine import Database
from entrepot.database.schema import all_tables, configuration, upgrade

CERTIFICATE = {
    "id": "cert-1",
    "name": "management",
    "name_key": "management",
    "subject": "CN=management",
    "thumbprint": "ab" * 32,
    "key_kind": "ec",
    "not_before": 0,
    "not_after": 9,
    "imported": 1,
    "certificate": b"",
    "sealed_key": b"",
}
POINT = {
    "kind": "cloud",
    "site": "PS1",
    "state": "active",
    "url": "",
    "public_key": b"",
    "certificates": "",
    "csr": b"",
    "certificate_expires": 9,
    "fallback": True,
    "internet_facing": False,
    "message": "",
    "created": 1,
}
CLOUD_POINT = {
    "description": "",
    "provider": "host",
    "host_url": "",
    "host_pin": "",
    "subscription": "sub-1",
    "management_certificate": "cert-1",
    "region": "",
    "port": 0,
    "address": "127.0.0.1:8443",
    "wanted": "running",
    "message": "",
    "instances_wanted": 2,
    "instances": "[]",
    "certificate_subject": "",
    "certificate_thumbprint": "",
    "certificate_expires": 9,
    "certificate": "",
    "sealed_key": b"",
    "storage_quota": 1,
    "storage_warning_free_percent": 10,
    "transfer_quota": 1,
    "transfer_warning_percent": 50,
    "transfer_critical_percent": 90,
    "task": "",
    "created": 1,
    "begun": True,
    "ready": 1,
    "checked": 1,
}
TASK = {
    "site": "PS1",
    "title": "",
    "step": "",
    "done": 0,
    "total": 0,
    "unit": "",
    "message": "",
    "error": "",
    "error_code": "",
    "payload": "",
    "attempts": 1,
    "run_after": 0,
    "started": 0,
    "finished": 0,
    "holder": "",
    "lease_until": 0,
    "cancel_requested": False,
}
ORDERS = {  # of each point: its state, and its orders with what became of them, the oldest first
    "under-way": ("upgrading", (("cloud-renew", "in_progress"),)),
    "waiting": ("upgrading", (("cloud-update", "completed"), ("cloud-update", "created"))),
    "failed": ("ready", (("cloud-renew", "failed"), ("cloud-stop", "completed"), ("cloud-start", "completed"))),
    "cancelled": ("failed", (("cloud-update", "cancelled"),)),
    "repeated": ("ready", (("cloud-renew", "failed"), ("cloud-update", "completed"), ("cloud-scale", "failed"))),
    "scaled": ("failed", (("cloud-create", "completed"), ("cloud-scale", "failed"))),
}


def _insert(connection: Connection, name: str, values: dict[str, object]) -> None:
    connection.execute(table(name, *map(column, values)).insert().values(values))


def test_orders_that_were_not_completed_before_are_told_until_they_are(database: Database) -> None:
    with database.transaction() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        all_tables().drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        command.upgrade(config, "0027")
        _insert(connection, "management_certificate", CERTIFICATE)
        for name, (state, orders) in ORDERS.items():
            _insert(connection, "point", POINT | {"id": name, "name": name, "name_key": name})
            known = {"point": name, "service": name, "fqdn": name, "state": state}
            _insert(connection, "cloud_point", CLOUD_POINT | known)
            for number, (kind, became) in enumerate(orders):
                known = {"id": f"{name}-{number}", "subject": name, "kind": kind, "state": became, "created": number}
                _insert(connection, "task", TASK | known)
    upgrade(database)
    with database.transaction() as connection:
        behind = {point.name: point.behind for point in cloud.cloud_points(connection, site="PS1")}
    unfinished = "The update was not finished."
    assert behind == dict.fromkeys(ORDERS, "") | dict.fromkeys(
        ("under-way", "waiting", "failed", "cancelled"), unfinished
    )
