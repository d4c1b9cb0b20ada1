"""What a deployment through the cloud adds, before it is made: quotes and forecasts over the API."""

import pytest

from entrepot.core.sizes import GB
from entrepot.core.times import DAY, hour_of
from entrepot.database import cloud, usage
from entrepot.protocol.cloudpointapi import Thresholds
from entrepot.protocol.control import ServiceState
from entrepot.protocol.costapi import ForecastInfo, PointForecast, PriceSheetInfo, Quote, QuoteRequest
from entrepot.protocol.deviceapi import ClientSettingsInfo, ClientSettingsRequest, SettingsValues

from .cloud_rows import add_cloud_point

DEVICES = 3


@pytest.fixture
async def fleet(site, source, clock):
    """Three devices that may use the cloud, App published, and a cloud point with forty days of growing figures."""
    app = await site.publish("App", source)
    for number in range(DEVICES):
        await site.enrolled_device(f"pc{number}")
    request = ClientSettingsRequest(name="default", settings=SettingsValues(allow_cloud=True))
    await site.call("POST", "/client-settings", ClientSettingsInfo, request)
    await site.call("POST", "/price-sheets/free-egress/use", PriceSheetInfo, {})
    now = int(clock())
    with site.database.transaction() as connection:
        add_cloud_point(connection)
        for back in range(1, 41):
            hour = hour_of(now) - back * DAY
            usage.add_to_hour(connection, "pt-cloud", hour, sent=(60 - back) * app.versions[0].stored_size)
            usage.set_stored(connection, "pt-cloud", stored=(50 - back) * GB, objects=1, now=hour)
        usage.set_stored(connection, "pt-cloud", stored=50 * GB, objects=1, now=now)
        usage.set_collected(connection, "pt-cloud", now=now)
        quota = 1500 * app.versions[0].stored_size
        limits = Thresholds(transfer_quota=quota, storage_quota=80 * GB)
        cloud.update_cloud_point(connection, "pt-cloud", thresholds=limits)
    return app


def critical(found: ForecastInfo) -> tuple[int, int]:
    """When the critical level is reached, and when without the plan."""
    (planned,) = (one.at for one in found.crossings if one.level == "critical")
    return planned, next((one.at for one in found.without_plan if one.level == "critical"), planned)


async def test_a_forecast_says_what_the_deployment_of_a_content_adds(site, fleet) -> None:
    path = "/cloud-points/cloud-eu/forecast"
    plain = await site.call("GET", path, PointForecast)
    assert (plain.planned_storage, plain.planned_transfer, plain.transfer.without_plan) == (0, 0, ())
    planned = await site.call("GET", path, PointForecast, query="content=App")
    size = fleet.versions[0].stored_size
    assert (planned.planned_storage, planned.planned_transfer) == (size, DEVICES * size)
    sooner, without = critical(planned.transfer)
    assert site.clock() < sooner < without == critical(plain.transfer)[0]
    sooner, without = critical(planned.storage)
    assert site.clock() < sooner < without == critical(plain.storage)[0]


async def test_a_quote_says_the_same_and_a_stopped_point_is_left_out(site, fleet) -> None:
    found = await site.call("POST", "/quotes", Quote, QuoteRequest(content="App"))
    assert (found.clients, found.sent) == (DEVICES, DEVICES * fleet.versions[0].stored_size)
    (forecast,) = found.forecasts
    assert (forecast.planned_storage, forecast.planned_transfer) == (found.stored, found.sent)
    with site.database.transaction() as connection:
        cloud.update_cloud_point(connection, "pt-cloud", wanted=ServiceState.STOPPED)
    stopped = await site.call("GET", "/cloud-points/cloud-eu/forecast", PointForecast, query="content=App")
    assert (stopped.planned_storage, stopped.planned_transfer) == (0, 0)


@pytest.mark.parametrize(("query", "status"), [("content=Nothing", 404), ("content=App&cloud_share=101", 400)])
async def test_a_deployment_that_cannot_be_is_refused(site, fleet, query, status) -> None:
    answer = await site.raw("GET", "/cloud-points/cloud-eu/forecast", query=query)
    assert answer.status == status, answer.body
