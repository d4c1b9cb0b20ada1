"""Quotes before a deployment, and savings after it, over the site's API, from real content and devices' own reports
(R28, R29)."""

from decimal import Decimal

import pytest
from msgspec.structs import fields

from entrepot.core.encoding import to_json
from entrepot.core.errors import NotFoundError
from entrepot.core.times import HOUR
from entrepot.database import cloud
from entrepot.protocol.contentapi import ContentInfo, DistributionInfo, DistributionRequest
from entrepot.protocol.costapi import (
    EgressTier,
    PriceSheetInfo,
    PriceSheetRequest,
    PriceUseRequest,
    Quote,
    QuoteRequest,
    SavingsReport,
)
from entrepot.protocol.deviceapi import ClientSettingsInfo, ClientSettingsRequest, SettingsValues
from entrepot.protocol.policy import DownloadReport, SourceBytes

from ..rows import certificate_row

SHEET = PriceSheetRequest(
    currency="EUR",
    storage_gb_month=Decimal(0),
    egress=(EgressTier(per_gb=Decimal(1000)),),  # a cent is 10 kB
)


def _cloud_point(number: int) -> cloud.CloudPoint:
    values = dict.fromkeys((one.name for one in fields(cloud.CloudPoint) if one.required), "")
    values |= dict.fromkeys(("port", "instances_wanted", "certificate_expires", "created", "checked", "ready"), 0)
    values |= {
        "point": f"pt-cloud{number}",
        "name": f"cloud{number}",
        "site": "PS1",
        "service": f"cloud{number}",
        "provider": "host",
        "management_certificate": "cert-1",
        "fqdn": f"cloud{number}.example",
        "state": cloud.CloudPointState.READY,
        "wanted": cloud.ServiceState.RUNNING,
        "instances": (),
        "sealed_key": b"",
        "begun": True,
        "thresholds": cloud.Thresholds(),
    }
    return cloud.CloudPoint(**values)


@pytest.fixture
async def offices(site, source):
    """Two cloud points, three devices that may use them, and a content in its first version."""
    with site.database.transaction() as connection:
        cloud.add_certificate(connection, certificate_row())
        for number in (1, 2):
            cloud.add_cloud_point(connection, _cloud_point(number))
    settings = ClientSettingsRequest(name="default", settings=SettingsValues(allow_cloud=True))
    await site.call("POST", "/client-settings", ClientSettingsInfo, settings)
    (source / "twin.bin").write_bytes((source / "big.bin").read_bytes())
    await site.publish("App", source)
    return [await site.enrolled_device(f"pc-{number}") for number in range(3)]


async def _quote(site, **more) -> Quote:
    return await site.call("POST", "/quotes", Quote, QuoteRequest(content="App", **more))


async def _report(device, number: int, content: str, *, network: str = "internet", sources=(), version: int = 1):
    report = DownloadReport(
        id=f"r{number}",
        content=content,
        version=version,
        network=network,
        started=int(device.site.clock()) - 60,
        finished=int(device.site.clock()),
        outcome="success",
        sources=sources,
    )
    assert (await device.ask("POST", "/mp/reports", to_json(report))).status == 204


async def test_a_quote_tells_bytes_without_prices_and_money_with_them(site, offices) -> None:
    quote = await _quote(site)
    assert (quote.devices, quote.clients, quote.currency) == (3, 3, "")
    assert "entrepot cost sheet list" in quote.summary
    assert any("on no cloud point yet" in one for one in quote.assumptions)
    await site.call("PUT", "/price-sheets/ours", PriceSheetInfo, SHEET)
    await site.call("POST", "/price-sheets/ours/use", PriceSheetInfo, PriceUseRequest())
    quote = await _quote(site)
    sealed = quote.sent // 3
    assert (quote.by_whole, quote.sent, quote.full) == (3, 3 * sealed, 3 * sealed)
    assert quote.amount == (Decimal(quote.sent) / 10**9 * 1000).quantize(Decimal("0.01"))
    assert f"3 clients through the cloud, {quote.sent / 1000:.1f} kB" in quote.summary or "MB" in quote.summary
    half = await _quote(site, cloud_share=34)
    assert (half.clients, half.sent) == (1, sealed)
    with pytest.raises(NotFoundError):
        await _quote(site, version=7)
    with pytest.raises(NotFoundError):
        await _quote(site, collection="nobody")


async def test_points_without_a_sheet_in_the_same_currency_are_named_and_their_share_is_not_in_the_amount(
    site, offices
) -> None:
    await site.call("PUT", "/price-sheets/ours", PriceSheetInfo, SHEET)
    await site.call("POST", "/price-sheets/ours/use", PriceSheetInfo, PriceUseRequest(cloud_point="cloud1"))
    quote = await _quote(site)
    assert quote.amount == (Decimal(quote.sent // 2) / 10**9 * 1000).quantize(Decimal("0.01"))
    assert any("without a price sheet in EUR: cloud2" in one for one in quote.assumptions)
    await site.call(
        "POST", "/contents/App/distribution", list[DistributionInfo], DistributionRequest(points=("cloud1",))
    )
    alone = await _quote(site)
    assert alone.amount == (Decimal(quote.sent) / 10**9 * 1000).quantize(Decimal("0.01"))
    assert not any("cloud2" in one for one in alone.assumptions), "no client comes to it"


async def test_an_update_is_quoted_by_what_devices_have_and_where_they_are(site, offices, source) -> None:
    content = (await site.call("GET", "/contents/App", ContentInfo)).id
    await _report(offices[0], 1, content)
    await _report(offices[1], 2, content, network="intranet")
    data = bytearray((source / "big.bin").read_bytes())
    data[100_000:100_010] = b"0123456789"
    (source / "big.bin").write_bytes(bytes(data))
    await site.next_version("App")
    quote = await _quote(site, cloud_share=100)
    assert (quote.version, quote.by_delta, quote.by_whole) == (2, 2, 1)
    assert quote.sent < quote.full
    estimated = await _quote(site)
    assert estimated.cloud_share == 50, "one of the two that reported was on the internet"


async def test_savings_come_from_devices_reports_by_content_and_point(site, offices, source) -> None:
    version = (await site.call("GET", "/contents/App", ContentInfo)).versions[-1]
    content = (await site.call("GET", "/contents/App", ContentInfo)).id
    half = version.stored_size // 2
    from_cloud = SourceBytes(kind="cloud", form="full", point="pt-cloud1", bytes=half, requests=2)
    cached = SourceBytes(kind="own-cache", form="full", point="", bytes=version.stored_size - half, requests=0)
    await _report(offices[0], 1, content, sources=(from_cloud, cached))
    await _report(offices[0], 1, content, sources=(from_cloud, cached))  # told twice, counted once
    whole = SourceBytes(kind="cloud", form="full", point="pt-cloud1", bytes=version.stored_size, requests=4)
    await _report(offices[1], 2, content, sources=(whole,))
    [line] = (await site.call("GET", "/savings", SavingsReport)).lines
    assert (line.name, line.downloads, line.plain) == ("App", 2, 2 * version.plain_size)
    assert line.transferred == half + version.stored_size
    assert line.own_cache == version.stored_size - half
    assert line.dedupe + line.compression == 2 * (version.plain_size - version.stored_size)
    assert line.transferred + line.own_cache + line.dedupe + line.compression == line.plain, "every byte has its reason"
    assert line.dedupe == 2 * (source / "big.bin").stat().st_size, "it is in there twice"
    [point] = (await site.call("GET", "/savings", SavingsReport, query="by=point&days=1")).lines
    assert (point.name, point.transferred) == ("cloud1", line.transferred)
    site.clock.advance(49 * HOUR)
    await site.login()
    assert (await site.call("GET", "/savings", SavingsReport, query="days=2")).lines == ()
