"""A cloud point as rows of the database, for tests that need no cloud."""

from sqlalchemy import Connection

from entrepot.database import cloud

from ..rows import certificate_row


def cloud_row() -> cloud.CloudPoint:
    """The cloud point cloud-eu, not yet ready."""
    values = dict.fromkeys(cloud.CloudPoint.__struct_fields__, "")
    values |= dict.fromkeys(("port", "instances_wanted", "certificate_expires", "created", "checked", "ready"), 0)
    values |= {
        "point": "pt-cloud",
        "name": "cloud-eu",
        "site": "PS1",
        "service": "cloud-eu",
        "provider": "host",
        "management_certificate": "cert-1",
        "fqdn": "cloud-eu.example",
        "address": "127.0.0.1:9443",
        "state": cloud.CloudPointState.PROVISIONING,
        "wanted": cloud.ServiceState.RUNNING,
        "instances": (),
        "sealed_key": b"",
        "begun": True,
        "delivery": cloud.Delivery.STREAM,
        "thresholds": cloud.Thresholds(),
    }
    return cloud.CloudPoint(**{name: values[name] for name in cloud.CloudPoint.__struct_fields__})


def add_cloud_point(connection: Connection) -> None:
    """The cloud point cloud-eu, ready, with its management certificate."""
    cloud.add_certificate(connection, certificate_row())
    cloud.add_cloud_point(connection, cloud_row())
    cloud.update_cloud_point(connection, "pt-cloud", state=cloud.CloudPointState.READY, ready=1)
