"""Devices, enrolment codes, used nonces, and what devices report."""

from typing import NoReturn

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import ConflictError, NotFoundError, UnauthenticatedError
from entrepot.core.names import name_key
from entrepot.database.engine import insert_if_free, insert_into
from entrepot.database.hierarchy import note_change
from entrepot.database.names import check_name, find
from entrepot.database.tables.cloud import cloud_point
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.devices import collection_member, enrolment_code, used_nonce
from entrepot.database.tables.devices import device as devices
from entrepot.database.tables.devices import download as downloads
from entrepot.protocol.deviceapi import DeviceState, DownloadInfo, DownloadSource
from entrepot.protocol.enrolment import Kind
from entrepot.protocol.policy import DownloadReport
from entrepot.protocol.tokens import CLOCK_SKEW, MAX_TOKEN_LIFETIME


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A managed device. ``public_key`` raw Ed25519."""

    id: str
    name: str
    public_key: bytes
    state: DeviceState
    changed: int
    site: str
    enrolled: int
    seen: int
    address: str


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """An enrolment code; ``sealed`` is its secret, sealed by the vault. ``collection`` and ``point`` may be empty."""

    id: str
    kind: Kind
    name: str
    sealed: bytes
    uses_left: int
    expires: int
    collection: str = ""
    point: str = ""


def add_device(connection: Connection, device: Device, *, collection: str = "") -> Device:
    """Add a device. Enrolling the same key under the same name again changes nothing and gives the first result.

    A device that is approved at once takes its name from one that only waits: anybody may wait, under any name.

    Raises:
        ConflictError: the name, or the key, belongs to another device or service (R4).
        BadInputError: no proper name.
    """
    name = check_name(device.name, "device")
    same = connection.execute(select(devices).where(devices.c.public_key == device.public_key)).mappings().first()
    if same is not None:
        if same["name_key"] != name_key(name):
            raise ConflictError("This device has enrolled already, under another name.")
        return _device(dict(same))
    if device.state is DeviceState.APPROVED:
        waiting = devices.c.name_key == name_key(name), devices.c.state == DeviceState.PENDING.value
        connection.execute(delete(devices).where(*waiting))
    if connection.execute(select(devices.c.id).where(devices.c.name_key == name_key(name))).first() is not None:
        _taken(name)
    _refuse_service_name(connection, name)
    values = msgspec.structs.asdict(device) | {"name": name, "name_key": name_key(name), "state": device.state.value}
    connection.execute(insert(devices).values(values))
    join(connection, device.id, collection)
    return get_device(connection, device.id)


def _refuse_service_name(connection: Connection, name: str) -> None:
    if connection.execute(select(cloud_point.c.point).where(cloud_point.c.fqdn == name_key(name))).first() is not None:
        _taken(name)


def _taken(name: str) -> NoReturn:
    raise ConflictError(
        f"The name {name!r} is taken.", next_step="Choose another name, or have the old device removed first."
    )


def join(connection: Connection, device_id: str, collection: str) -> None:
    """Make a device a member of a collection; an empty id is the built-in one, which has no member rows."""
    if collection:
        row = insert_into(connection, collection_member).values(collection=collection, device=device_id)
        connection.execute(row.on_conflict_do_nothing())


def device_of_key(connection: Connection, public_key: bytes) -> Device | None:
    """The device that enrolled with this key."""
    row = connection.execute(select(devices).where(devices.c.public_key == public_key)).mappings().first()
    return None if row is None else _device(dict(row))


def find_device(connection: Connection, device_id: str) -> Device | None:
    """The device with this id, if there is one."""
    row = connection.execute(select(devices).where(devices.c.id == device_id)).mappings().first()
    return None if row is None else _device(dict(row))


def count_pending(connection: Connection) -> int:
    """How many devices wait for approval."""
    query = select(func.count()).select_from(devices).where(devices.c.state == DeviceState.PENDING.value)
    return int(connection.execute(query).scalar_one())


def collections_of(connection: Connection, device_id: str) -> frozenset[str]:
    """Collections of a device, the built-in one left out."""
    query = select(collection_member.c.collection).where(collection_member.c.device == device_id)
    return frozenset(connection.scalars(query))


def get_device(connection: Connection, name_or_id: str) -> Device:
    """One device.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    found = find(connection, devices, name_or_id, "device").id
    return _device(dict(connection.execute(select(devices).where(devices.c.id == found)).mappings().one()))


def list_devices(connection: Connection, *, state: DeviceState | None = None, limit: int = 1000) -> list[Device]:
    """Devices by name."""
    query = select(devices).order_by(devices.c.name_key).limit(limit)
    if state is not None:
        query = query.where(devices.c.state == state.value)
    return [_device(dict(row)) for row in connection.execute(query).mappings()]


def membership(connection: Connection, ids: list[str]) -> dict[str, tuple[str, ...]]:
    """Collections of devices, by device id."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(ids), 500):
        query = select(collection_member).where(collection_member.c.device.in_(ids[start : start + 500]))
        for row in connection.execute(query.order_by(collection_member.c.collection)):
            found.setdefault(row.device, []).append(row.collection)
    return {device: tuple(collections) for device, collections in found.items()}


def set_state(connection: Connection, name_or_id: str, state: DeviceState, *, now: float) -> Device:
    """Approve or block a device.

    Raises:
        NotFoundError: there is none with this id or name.
        ConflictError: approved it would have the name of a service (R4), which was made while it waited; also where it
            was blocked in between.
    """
    device = get_device(connection, name_or_id)
    if state is DeviceState.APPROVED:
        _refuse_service_name(connection, device.name)
    connection.execute(update(devices).where(devices.c.id == device.id).values(state=state.value, changed=int(now)))
    note_change(connection)
    return get_device(connection, device.id)


def remove_device(connection: Connection, name_or_id: str, *, now: float) -> Device:
    """Forget a device, with its memberships and reports. Its tokens must have ended: revocations name known devices.

    Raises:
        NotFoundError: there is none with this id or name.
        ConflictError: it is approved, or was blocked so recently that a token of it may still be valid.
    """
    device = get_device(connection, name_or_id)
    if device.state is DeviceState.APPROVED:
        raise ConflictError(f"The device {device.name} is approved.", next_step="Block it first.")
    if device.state is DeviceState.BLOCKED and now < device.changed + MAX_TOKEN_LIFETIME + CLOCK_SKEW:
        raise ConflictError(
            f"The device {device.name} was blocked less than eight hours ago.",
            next_step="Remove it later: until its tokens have ended, the points must know that it is blocked.",
        )
    connection.execute(delete(devices).where(devices.c.id == device.id))
    note_change(connection)
    return device


def note_seen(connection: Connection, seen: dict[str, tuple[int, str]]) -> None:
    """Write down when, and from which address, devices were last heard of."""
    heard = [
        {"device": device, "when": when, "where": address[:64]} for device, (when, address) in sorted(seen.items())
    ]
    if heard:
        mine = update(devices).where(devices.c.id == bindparam("device"))
        connection.execute(mine.values(seen=bindparam("when"), address=bindparam("where")), heard)


def _plain(values: dict[str, object]) -> dict[str, object]:
    """Column names as plain strings: SQLAlchemy's own kind is not one that msgspec takes as a key."""
    return {str(name): value for name, value in values.items()}


def _device(values: dict[str, object]) -> Device:
    values.pop("name_key")
    return msgspec.convert(_plain(values), Device, builtin_types=(bytes,))


# ------------------------------------------------------------------------------------------------ enrolment codes


def add_code(connection: Connection, code: Code, *, now: float) -> None:
    """Keep a code, and forget those that have expired."""
    connection.execute(delete(enrolment_code).where(enrolment_code.c.expires <= int(now)))
    values = msgspec.structs.asdict(code) | {"kind": code.kind.value, "created": int(now)}
    connection.execute(insert(enrolment_code).values(values))


def find_code(connection: Connection, code_id: str, *, now: float, locked: bool = True) -> Code | None:
    """A code that has not expired, perhaps used up.

    Args:
        locked: keep its row locked until the transaction ends, which is one that writes.
    """
    query = select(enrolment_code).where(enrolment_code.c.id == code_id, enrolment_code.c.expires > int(now))
    row = connection.execute(query.with_for_update() if locked else query).mappings().first()
    return None if row is None else _code(dict(row))


def use_code(connection: Connection, code_id: str) -> None:
    """Count one use."""
    table = enrolment_code
    connection.execute(update(table).where(table.c.id == code_id).values(uses_left=table.c.uses_left - 1))


def list_codes(connection: Connection, *, now: float) -> list[Code]:
    """Codes that may still be used."""
    query = select(enrolment_code).where(enrolment_code.c.uses_left > 0, enrolment_code.c.expires > int(now))
    return [_code(dict(row)) for row in connection.execute(query.order_by(enrolment_code.c.created)).mappings()]


def get_code(connection: Connection, code_id: str) -> Code:
    """A code, perhaps expired or used up.

    Raises:
        NotFoundError: there is none with this id.
    """
    row = connection.execute(select(enrolment_code).where(enrolment_code.c.id == code_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no enrolment code {code_id!r}.")
    return _code(dict(row))


def remove_code(connection: Connection, code_id: str) -> None:
    """Withdraw a code.

    Raises:
        NotFoundError: there is none with this id.
    """
    connection.execute(delete(enrolment_code).where(enrolment_code.c.id == get_code(connection, code_id).id))


def _code(values: dict[str, object]) -> Code:
    values.pop("created")
    return msgspec.convert(_plain(values), Code, builtin_types=(bytes,))


def use_nonce(connection: Connection, nonce: bytes, *, now: float, expires: float) -> None:
    """Use a nonce up.

    Raises:
        UnauthenticatedError: it was used before.
    """
    connection.execute(delete(used_nonce).where(used_nonce.c.expires <= int(now)))
    if not insert_if_free(connection, used_nonce, {"nonce": nonce, "expires": int(expires)}):
        raise UnauthenticatedError("This enrolment was sent before.", next_step="Ask for a new nonce.")


# ------------------------------------------------------------------------------------------------------ downloads


def add_download(connection: Connection, device: str, report: DownloadReport, *, now: float) -> bool:
    """Keep a device's report; False when it was reported before."""
    values = msgspec.structs.asdict(report) | {
        "device": device,
        "sources": to_json(report.sources).decode(),
        "received": int(now),
    }
    return insert_if_free(connection, downloads, values)


def list_downloads(
    connection: Connection, *, device: str = "", content: str = "", limit: int = 100
) -> list[DownloadInfo]:
    """Reported downloads, newest first."""
    query = (
        select(downloads, devices.c.name.label("device_name"), contents.c.name.label("content_name"))
        .join(devices, devices.c.id == downloads.c.device)
        .join(contents, contents.c.id == downloads.c.content, isouter=True)
        .order_by(downloads.c.received.desc(), downloads.c.id)
        .limit(limit)
    )
    if device:
        query = query.where(downloads.c.device == device)
    if content:
        query = query.where(downloads.c.content == content)
    return [
        DownloadInfo(
            device=row.device,
            device_name=row.device_name,
            content=row.content,
            content_name=row.content_name or "",
            version=row.version,
            network=row.network,
            outcome=row.outcome,
            error=row.error,
            plain_size=row.plain_size,
            started=row.started,
            finished=row.finished,
            sources=from_json(row.sources, tuple[DownloadSource, ...], "download report"),
        )
        for row in connection.execute(query)
    ]


def count_downloads(connection: Connection, device: str) -> int:
    """How many downloads of a device are known."""
    query = select(func.count()).select_from(downloads).where(downloads.c.device == device)
    return int(connection.execute(query).scalar_one())


def prune_downloads(connection: Connection, *, received_before: float) -> int:
    """Forget old reports."""
    return connection.execute(delete(downloads).where(downloads.c.received < int(received_before))).rowcount
