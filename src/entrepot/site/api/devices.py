"""Devices, enrolment codes, collections."""

from litestar import delete, get, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from sqlalchemy import Connection

from entrepot.core.times import Clock
from entrepot.database import device_collections, devices, locations
from entrepot.database.devices import Device
from entrepot.database.engine import Database
from entrepot.protocol.deviceapi import (
    CollectionInfo,
    CollectionRequest,
    DeviceInfo,
    DeviceState,
    EffectiveSettings,
    EnrolmentCodeInfo,
    EnrolmentCodeReply,
    EnrolmentCodeRequest,
)
from entrepot.protocol.policy import ClientSettings
from entrepot.site.api.limits import Limit
from entrepot.site.enrolment import Enrolment
from entrepot.site.keys.sitekeys import new_id
from entrepot.site.locating import Locator
from entrepot.trust.enrolment import key_fingerprint

Handlers = list[HTTPRouteHandler]


def device_routes(database: Database, enrolment: Enrolment, locator: Locator, clock: Clock) -> Handlers:
    """Everything below ``/devices``, ``/enrolment-codes`` and ``/collections``."""
    return [*_devices(database, locator, clock), *_codes(database, enrolment, clock), *_collections(database)]


def _devices(database: Database, locator: Locator, clock: Clock) -> Handlers:
    @get("/devices", tags=["Devices"])
    async def list_devices(device_state: FromQuery[DeviceState | None] = None, limit: Limit = 1000) -> list[DeviceInfo]:
        """Devices by name; ``device_state`` picks those that wait for approval, for example."""
        return await database.read(_listed, device_state, limit)

    @get("/devices/{device:str}", tags=["Devices"])
    async def get_device(device: FromPath[str]) -> DeviceInfo:
        """One device."""
        return await database.read(_one, device)

    @post("/devices/{device:str}/approve", status_code=200, tags=["Devices"])
    async def approve_device(device: FromPath[str]) -> DeviceInfo:
        """Approve a device that waits (compare fingerprints first), or unblock one."""
        return await database.write(_set_state, device, DeviceState.APPROVED, clock())

    @post("/devices/{device:str}/block", status_code=200, tags=["Devices"])
    async def block_device(device: FromPath[str]) -> DeviceInfo:
        """Block a device: no answers any more, and its downloads are cut off wherever they run."""
        return await database.write(_set_state, device, DeviceState.BLOCKED, clock())

    @delete("/devices/{device:str}", status_code=204, tags=["Devices"])
    async def remove_device(device: FromPath[str]) -> None:
        """Forget a device that waits, or that was blocked more than eight hours ago."""
        await database.write(_remove, device, clock())

    @get("/devices/{device:str}/settings", tags=["Devices"])
    async def get_device_settings(device: FromPath[str]) -> EffectiveSettings:
        """The device's effective client settings, and which set decided each."""
        known = await database.read(devices.get_device, device)
        row = await database.read(locations.asker, known.id)
        effective = (await locator.current(row.counter)).effective(row.collections)
        settings = ClientSettings(**effective.values)  # type: ignore[arg-type]  # values of SettingsValues
        return EffectiveSettings(device=known.id, settings=settings, decided_by=effective.decided_by)

    return [list_devices, get_device, approve_device, block_device, remove_device, get_device_settings]


def _codes(database: Database, enrolment: Enrolment, clock: Clock) -> Handlers:
    @post("/enrolment-codes", tags=["Devices"])
    async def add_enrolment_code(data: JSONBody[EnrolmentCodeRequest]) -> EnrolmentCodeReply:
        """Make an enrolment code for devices; it is shown once."""
        return await enrolment.code_for_devices(data)

    @get("/enrolment-codes", tags=["Devices"])
    async def list_enrolment_codes() -> list[EnrolmentCodeInfo]:
        """Codes that may still be used."""
        found = await database.read(devices.list_codes, now=clock())
        return [
            EnrolmentCodeInfo(
                id=code.id, kind=code.kind.value, name=code.name, uses_left=code.uses_left, expires=code.expires
            )
            for code in found
        ]

    @delete("/enrolment-codes/{code:str}", status_code=204, tags=["Devices"])
    async def remove_enrolment_code(code: FromPath[str]) -> None:
        """Withdraw a code."""
        await database.write(devices.remove_code, code)

    return [add_enrolment_code, list_enrolment_codes, remove_enrolment_code]


def _collections(database: Database) -> Handlers:
    @get("/collections", tags=["Collections"])
    async def list_collections() -> list[CollectionInfo]:
        """All collections with their members."""
        return await database.read(device_collections.described)

    @post("/collections", tags=["Collections"])
    async def add_collection(data: JSONBody[CollectionRequest]) -> CollectionInfo:
        """Add a collection."""
        made = await database.write(device_collections.add, new_id("col"), data.name)
        return (await database.read(device_collections.described, made.id))[0]

    @get("/collections/{collection:str}", tags=["Collections"])
    async def get_collection(collection: FromPath[str]) -> CollectionInfo:
        """One collection."""
        return (await database.read(device_collections.described, collection))[0]

    @delete("/collections/{collection:str}", status_code=204, tags=["Collections"])
    async def remove_collection(collection: FromPath[str]) -> None:
        """Remove a collection that nothing uses."""
        await database.write(device_collections.remove, collection)

    @put("/collections/{collection:str}/members/{device:str}", status_code=204, tags=["Collections"])
    async def add_member(collection: FromPath[str], device: FromPath[str]) -> None:
        """Make a device a member."""
        await database.write(device_collections.add_member, collection, device)

    @delete("/collections/{collection:str}/members/{device:str}", status_code=204, tags=["Collections"])
    async def remove_member(collection: FromPath[str], device: FromPath[str]) -> None:
        """Take a device out."""
        await database.write(device_collections.remove_member, collection, device)

    return [list_collections, add_collection, get_collection, remove_collection, add_member, remove_member]


def _listed(connection: Connection, state: DeviceState | None, limit: int) -> list[DeviceInfo]:
    found = devices.list_devices(connection, state=state, limit=limit)
    membership = devices.membership(connection, [device.id for device in found])
    return [_info(device, membership.get(device.id, ())) for device in found]


def _one(connection: Connection, name_or_id: str) -> DeviceInfo:
    device = devices.get_device(connection, name_or_id)
    return _info(device, devices.membership(connection, [device.id]).get(device.id, ()))


def _set_state(connection: Connection, name_or_id: str, state: DeviceState, now: float) -> DeviceInfo:
    return _one(connection, devices.set_state(connection, name_or_id, state, now=now).id)


def _remove(connection: Connection, name_or_id: str, now: float) -> None:
    devices.remove_device(connection, name_or_id, now=now)


def _info(device: Device, collections: tuple[str, ...]) -> DeviceInfo:
    return DeviceInfo(
        id=device.id,
        name=device.name,
        state=device.state,
        fingerprint=key_fingerprint(device.public_key),
        enrolled=device.enrolled,
        seen=device.seen,
        address=device.address,
        collections=collections,
    )
