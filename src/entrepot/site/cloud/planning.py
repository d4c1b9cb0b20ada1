"""What a cloud point is made of, what that costs a month, and what of it goes on costing after a stop (R25, R27)."""

from collections.abc import Callable, Sequence

import msgspec

from entrepot.core.errors import EntrepotError
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudapi import CloudPlan, PlannedResource
from entrepot.rules.prices import PriceSheet
from entrepot.site.cloudport import Cloud

Prices = Callable[[str, float, str], tuple[float, str] | None]
"""Cost of so much of a meter (name, quantity, region) in a month, and the currency; None when no price is known."""


def no_prices(_meter: str, _quantity: float, _region: str) -> None:
    """No price sheet was loaded: nothing is known."""


def sheet_prices(sheet: PriceSheet) -> Prices:
    """Prices of a price sheet; transfers at the price of their first gigabyte."""
    rates = {
        "instance_hour": sheet.instance_hour,
        "storage_gb_month": sheet.storage_gb_month,
        "writes_per_10000": sheet.writes_per_10000,
        "egress_gb": sheet.egress[0].per_gb,
    }

    def price(meter: str, quantity: float, _region: str) -> tuple[float, str] | None:
        rate = rates.get(meter)
        return None if rate is None else (float(rate) * quantity, sheet.currency)

    return price


def priced(resources: Sequence[PlannedResource], prices: Prices, region: str, checks: Sequence[str]) -> CloudPlan:
    """A plan with what each part costs a month, before anything is stored or sent."""
    found = tuple(_priced(one, prices, region) for one in resources)
    known = [one for one in found if one.monthly is not None]
    return CloudPlan(
        resources=found,
        monthly=round(sum(one.monthly or 0.0 for one in known), 2),
        currency=next((one.currency for one in known if one.currency), ""),
        unpriced=tuple(dict.fromkeys(one.meter for one in found if one.meter and one.monthly is None)),
        checks=tuple(checks),
    )


def _priced(resource: PlannedResource, prices: Prices, region: str) -> PlannedResource:
    if not resource.meter:
        return msgspec.structs.replace(resource, monthly=0.0)
    price = prices(resource.meter, resource.quantity, region)
    if price is None:
        return resource
    return msgspec.structs.replace(resource, monthly=round(price[0], 4), currency=price[1])


async def still_charged(provider: Cloud, point: CloudPoint) -> str:
    """What goes on costing money after a stop, in words: the content stays (R27)."""
    try:
        parts = await provider.plan(point.service, point.point, point.instances_wanted)
    except EntrepotError:  # the stop itself is done: that a list could not be made must not fail it
        return "Its content stays and goes on costing storage."
    staying = [f"{one.kind} ({one.name})" for one in parts if one.stays and one.meter]
    if not staying:
        return "Its content stays; nothing of it is charged meanwhile."
    return f"Its content stays. These go on costing money: {', '.join(staying)}. Delete the cloud point to end that."
