"""Price sheets: the examples that are shipped, and what an administrator makes of them."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import NotFoundError
from entrepot.core.names import name_key
from entrepot.database import charges, cloud, prices
from entrepot.database.names import check_name
from entrepot.database.prices import StoredSheet
from entrepot.protocol.costapi import EgressTier, PriceSheetInfo, PriceSheetRequest
from entrepot.rules.prices import PriceSheet, Tier, check_sheet
from entrepot.site.cost.shipped import shipped


def listed(connection: Connection) -> list[PriceSheetInfo]:
    """All sheets in their newest version, and the examples of which there is none yet."""
    stored = prices.newest(connection)
    used = _used(connection)
    found = {key: _info(one, used.get(key, ())) for key, one in stored.items()}
    for key, sheet in shipped().items():
        found.setdefault(key, _info(StoredSheet(sheet=sheet, version=0, created=0, by=""), ()))
    return [found[key] for key in sorted(found)]


def versions(connection: Connection, name: str) -> list[PriceSheetInfo]:
    """All versions of a sheet, oldest first; the example, when it has none.

    Raises:
        NotFoundError: there is no such sheet.
    """
    stored = prices.versions(connection, name)
    if stored:
        used = _used(connection).get(name_key(name), ())
        return [_info(one, used if one is stored[-1] else ()) for one in stored]
    example = shipped().get(name_key(name))
    if example is None:
        raise NotFoundError(f"There is no price sheet {name!r}.", next_step="Run: entrepot cost sheet list")
    return [_info(StoredSheet(sheet=example, version=0, created=0, by=""), ())]


def put(connection: Connection, name: str, request: PriceSheetRequest, *, by: str, now: int) -> PriceSheetInfo:
    """Keep a new version of a sheet.

    Raises:
        BadInputError: it makes no sense.
    """
    values: dict[str, Any] = msgspec.structs.asdict(request)
    values["egress"] = tuple(Tier(per_gb=tier.per_gb, up_to_gb=tier.up_to_gb) for tier in request.egress)
    sheet = PriceSheet(name=check_name(name, "price sheet"), **values)
    check_sheet(sheet)
    stored = prices.add_version(connection, sheet, by=by, now=now)
    return _info(stored, _used(connection).get(name_key(name), ()))


def use(connection: Connection, name: str, cloud_point: str, *, by: str, now: int) -> PriceSheetInfo:
    """Charge a cloud point, or all that have no sheet of their own, by a sheet.

    Raises:
        NotFoundError: there is no such sheet, or cloud point.
    """
    newest = versions(connection, name)[-1]
    point = cloud.get_cloud_point(connection, cloud_point).point if cloud_point else ""
    if not newest.version:
        prices.add_version(connection, shipped()[name_key(name)], by=by, now=now)
    prices.use(connection, point, name)
    return versions(connection, name)[-1]


def _used(connection: Connection) -> dict[str, tuple[str, ...]]:
    named = charges.point_names(connection)
    found: dict[str, list[str]] = {}
    for point, sheet in sorted(prices.uses(connection).items()):
        found.setdefault(sheet, []).append(named.get(point, point) if point else "*")
    return {sheet: tuple(points) for sheet, points in found.items()}


def _info(stored: StoredSheet, used_by: tuple[str, ...]) -> PriceSheetInfo:
    values: dict[str, Any] = msgspec.structs.asdict(stored.sheet)
    values["egress"] = tuple(EgressTier(per_gb=tier.per_gb, up_to_gb=tier.up_to_gb) for tier in stored.sheet.egress)
    return PriceSheetInfo(**values, version=stored.version, created=stored.created, by=stored.by, used_by=used_by)
