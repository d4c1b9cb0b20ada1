"""Price sheets, and what usage costs by them. Money is ``Decimal`` throughout; GB is 10^9 bytes, a month is the
calendar month in UTC. Nothing is rounded here: whoever shows an amount rounds it.

Egress tiers are graduated, as clouds charge them: each tier's price holds for the gigabytes within it. Reads and writes
are requests to the object store, per ten thousand, as price lists quote them.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from entrepot.core.errors import BadInputError
from entrepot.core.sizes import GB

PER: Final = 10_000
HIGHEST: Final = Decimal(1_000_000)
MOST_DECIMALS: Final = 12
ZERO: Final = Decimal(0)
_BILLIONTH: Final = Decimal("0.000000001")
POLLS_AN_HOUR: Final = 2 * 1800
"""Reads by which one gateway instance watches its two documents in a store far away: both every two seconds, as
``GatewayConfig.poll`` has it (a test holds the two together; imports run down only)."""


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gigabytes of a month up to ``up_to_gb`` (in total; the last tier has none) cost ``per_gb``."""

    per_gb: Decimal
    up_to_gb: int | None = None


class PriceSheet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a cloud charges. ``currency`` is an ISO 4217 code; ``source`` says where the figures are from, and when."""

    name: str
    currency: str
    storage_gb_month: Decimal
    egress: tuple[Tier, ...]
    ingress_gb: Decimal = ZERO
    writes_per_10000: Decimal = ZERO
    reads_per_10000: Decimal = ZERO
    instance_hour: Decimal = ZERO
    source: str = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What is charged, of a month or a part of it. ``byte_hours``: stored bytes times hours; ``month_hours``: hours of
    the whole month; ``sent``: bytes to clients; ``fetched``: bytes that the site itself fetched, which leave the cloud
    as well; ``…_reads`` and ``…_writes``: requests to the store: of clients, of the site's uploads, and our own
    overhead (probes, polls, records)."""

    month_hours: int = 720
    byte_hours: int = 0
    sent: int = 0
    fetched: int = 0
    uploaded: int = 0
    client_reads: int = 0
    upload_writes: int = 0
    overhead_reads: int = 0
    overhead_writes: int = 0
    instance_hours: int = 0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts in the sheet's currency; ``egress`` to clients, ``fetched`` the egress of the site's own downloads."""

    storage: Decimal = ZERO
    egress: Decimal = ZERO
    fetched: Decimal = ZERO
    uploads: Decimal = ZERO
    requests: Decimal = ZERO
    instances: Decimal = ZERO
    overhead: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """All of it."""
        transfers = self.egress + self.fetched + self.uploads
        return self.storage + transfers + self.requests + self.instances + self.overhead


def check_sheet(sheet: PriceSheet) -> None:
    """Check that a sheet makes sense.

    Raises:
        BadInputError: it does not, and where.
    """
    if len(sheet.currency) != 3 or not sheet.currency.isascii() or not sheet.currency.isupper():
        raise BadInputError("A currency is three capital letters, such as EUR.")
    if not 1 <= len(sheet.name) <= 128 or len(sheet.source) > 1024:
        raise BadInputError("The name of a price sheet has 1 to 128 characters, its source at most 1,024.")
    prices = [sheet.storage_gb_month, sheet.ingress_gb, sheet.writes_per_10000, sheet.reads_per_10000]
    prices += [sheet.instance_hour, *(tier.per_gb for tier in sheet.egress)]
    if any(not price.is_finite() or not 0 <= price <= HIGHEST for price in prices):
        raise BadInputError(f"A price is 0 to {HIGHEST:,}.")
    if any(-int(price.as_tuple().exponent) > MOST_DECIMALS for price in prices):
        raise BadInputError(f"A price has at most {MOST_DECIMALS} decimals.")
    if not 1 <= len(sheet.egress) <= 50 or sheet.egress[-1].up_to_gb is not None:
        raise BadInputError("Egress has 1 to 50 tiers, and the last one has no upper end.")
    ends = [tier.up_to_gb for tier in sheet.egress[:-1]]
    known = [end for end in ends if end is not None]
    if len(known) != len(ends) or known != sorted(set(known)) or any(not 0 < end < 10**12 for end in known):
        raise BadInputError("The upper ends of egress tiers are whole gigabytes, each greater than the one before.")


def egress_cost(sheet: PriceSheet, sent: int, *, before: int = 0) -> Decimal:
    """What ``sent`` bytes cost in a month in which ``before`` bytes were sent already."""
    total, begin = ZERO, 0
    for tier in sheet.egress:
        end = None if tier.up_to_gb is None else tier.up_to_gb * GB
        upper = before + sent if end is None else min(before + sent, end)
        within = max(0, upper - max(before, begin))
        total += Decimal(within) / GB * tier.per_gb
        begin = begin if end is None else end
    return total


def cost(sheet: PriceSheet, usage: Usage, *, sent_before: int = 0) -> Cost:
    """What usage costs; ``sent_before``: bytes that used up egress tiers of the month before this usage. What clients
    were sent uses them up first, then what the site fetched.
    """
    return Cost(
        storage=Decimal(usage.byte_hours) / usage.month_hours / GB * sheet.storage_gb_month,
        egress=egress_cost(sheet, usage.sent, before=sent_before),
        fetched=egress_cost(sheet, usage.fetched, before=sent_before + usage.sent),
        uploads=Decimal(usage.uploaded) / GB * sheet.ingress_gb + _requests(sheet, 0, usage.upload_writes),
        requests=_requests(sheet, usage.client_reads, 0),
        instances=usage.instance_hours * sheet.instance_hour,
        overhead=_requests(sheet, usage.overhead_reads, usage.overhead_writes),
    )


def _requests(sheet: PriceSheet, reads: int, writes: int) -> Decimal:
    return (reads * sheet.reads_per_10000 + writes * sheet.writes_per_10000) / PER


def shares(amount: Decimal, weights: Mapping[str, int]) -> dict[str, Decimal]:
    """Split an amount by weights; the parts add up to it, as long as some weight is there (the largest takes what
    rounding to a billionth leaves)."""
    total = sum(weights.values())
    if total <= 0:
        return {}
    parts = {name: (amount * weight / total).quantize(_BILLIONTH) for name, weight in weights.items()}
    first = max(parts, key=lambda name: (parts[name], name))
    return parts | {first: amount - sum((part for name, part in parts.items() if name != first), ZERO)}
