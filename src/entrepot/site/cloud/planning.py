"""What a cloud point is made of, what that costs a month, and what of it goes on costing after a stop (R25, R27)."""

from collections.abc import Sequence

import msgspec

from entrepot.core.errors import EntrepotError
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudapi import MACHINE, CloudPlan, PlannedResource
from entrepot.rules.prices import ZERO, PriceSheet
from entrepot.site.cloudport import Cloud


def rates_of(sheet: PriceSheet) -> dict[str, float]:
    """The price of a unit of each meter; of transfers that of the first tier that is not free, as many sheets begin
    with a little for nothing."""
    egress = next((tier.per_gb for tier in sheet.egress if tier.per_gb), ZERO)
    return {
        "instance_hour": float(sheet.instance_hour),
        "storage_gb_month": float(sheet.storage_gb_month),
        "writes_per_10000": float(sheet.writes_per_10000),
        "egress_gb": float(egress),
    }


def priced(resources: Sequence[PlannedResource], sheet: PriceSheet | None, checks: Sequence[str]) -> CloudPlan:
    """A plan with what each part costs a month, before anything is stored or sent.

    Args:
        sheet: what the cloud charges; None: no sheet is in use, and no price is known.
    """
    rates = {} if sheet is None else rates_of(sheet)
    currency = "" if sheet is None else sheet.currency
    found = tuple(_priced(one, rates.get(one.meter), currency) for one in resources)
    return CloudPlan(
        resources=found,
        monthly=monthly_sum(found),
        currency=next((one.currency for one in found if one.currency), ""),
        unpriced=tuple(dict.fromkeys(one.meter for one in found if one.meter and one.monthly is None)),
        checks=tuple(checks),
    )


def monthly_sum(resources: Sequence[PlannedResource]) -> float | None:
    """What those with a known price cost together; None: some of them are charged, and of none the price is known."""
    charged = [one for one in resources if one.meter]
    known = [one.monthly for one in charged if one.monthly is not None]
    return None if charged and not known else round(sum(known), 2)


def _priced(resource: PlannedResource, rate: float | None, currency: str) -> PlannedResource:
    if not resource.meter:
        return msgspec.structs.replace(resource, monthly=0.0)
    if rate is None:
        return resource
    cost = round(rate * resource.quantity, 4)
    return msgspec.structs.replace(resource, monthly=cost, rate=rate, currency=currency)


async def still_charged(provider: Cloud, point: CloudPoint) -> str:
    """What goes on costing money after a stop, in words: the content stays (R27)."""
    try:
        parts = await provider.plan(point.service, point.point, point.instances_wanted)
    except EntrepotError:  # the stop itself is done: that a list could not be made must not fail it
        return "Its content stays and goes on costing storage."
    staying = [f"{one.kind} ({one.name})" for one in parts if one.stays and one.meter not in ("", MACHINE)]
    machines = [f"{one.kind} ({one.name})" for one in parts if one.meter == MACHINE]
    apart = f" So does {', '.join(machines)}, with or without cloud points." if machines else ""
    if not staying:
        return "Its content stays; nothing of it is charged meanwhile."
    listed = ", ".join(staying)
    return f"Its content stays. These go on costing money: {listed}. Delete the cloud point to end that.{apart}"
