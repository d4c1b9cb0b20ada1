"""A cloud point without a site, and a content without versions: also for processes that shall start quickly."""

from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudpointapi import CloudPointState, Thresholds
from entrepot.protocol.control import ServiceState
from tests.rows import content_row

APP = content_row("pkg-app", "app", source="", created=1_774_267_200)


def bare_point(point: str) -> CloudPoint:
    """A cloud point that runs, for what needs no more than its id and its log."""
    texts = ("description", "host_url", "host_pin", "subscription", "management_certificate", "region", "fqdn")
    more = ("address", "message", "certificate_subject", "certificate_thumbprint")
    return CloudPoint(
        point=point,
        name="cloud1",
        site="PS1",
        service="cloud1",
        provider="host",
        port=0,
        state=CloudPointState.READY,
        wanted=ServiceState.RUNNING,
        instances_wanted=1,
        instances=(),
        certificate_expires=0,
        certificate="",
        sealed_key=b"",
        thresholds=Thresholds(),
        created=0,
        **dict.fromkeys((*texts, *more), ""),
    )
