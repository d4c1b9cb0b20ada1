"""A point is killed at any moment, and started again: nothing is lost, nothing half is served, nothing is left over."""

import asyncio
import contextlib
import itertools
import json

import pytest

from entrepot.core.errors import ConflictError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import MIB
from entrepot.point.server import serve_point

pytestmark = pytest.mark.process


def leftovers(store):
    return [path for path in (store / ".staging").rglob("*") if path.is_file() and path.name != "lock"]


async def test_sigkill_during_an_upload_leaves_no_part_of_it(site, settings, holder, http, spawn, an_object, tmp_path):
    home = tmp_path / "point"
    process = spawn(home)
    assert (await process.ready()) == {"ready": True, "role": "point", "url": settings.url}
    kept, data = an_object(MIB)
    await holder.put(kept, len(data), lambda: [data])
    half = asyncio.Event()

    async def body():
        yield b"z" * (3 * MIB)
        half.set()
        await asyncio.sleep(60)

    one, _ = an_object(4 * MIB, b"z")
    upload = asyncio.create_task(
        http.request(
            "PUT",
            f"{settings.url}/objects/{one.hex()}",
            body=body(),
            headers={"Content-Length": str(4 * MIB)},
            bearer=site.site_token(),
        )
    )
    await half.wait()
    for _ in range(2000):
        if leftovers(home / "store"):
            break
        await asyncio.sleep(0.01)
    process.kill()
    with pytest.raises(UnavailableError):
        await upload
    assert leftovers(home / "store")
    again = spawn(home)
    await again.ready()
    assert leftovers(home / "store") == []
    assert await holder.missing([one, kept]) == [one]
    await holder.put(one, 4 * MIB, lambda: [b"z" * (4 * MIB)])
    assert await holder.missing([one, kept]) == []
    assert (await again.terminate())[0] == 0


async def test_sigkill_during_a_download_breaks_it_visibly_and_resuming_completes_it(
    site, settings, holder, http, spawn, fill, an_object, tmp_path
):
    process = spawn(tmp_path / "point")
    await process.ready()
    await holder.put_document("control", site.control())
    one, data = an_object(8 * MIB, b"abcd")
    set_id = await fill(holder, (one, data))
    token = site.content_token(set_id)
    got = bytearray()
    async with contextlib.aclosing(http.get_object(settings.url, one, bearer=token)) as pieces:
        got += await anext(pieces)
        process.kill()
        with pytest.raises(UnavailableError):
            async for piece in pieces:
                got += piece
    assert 0 < len(got) < len(data)
    with pytest.raises(UnavailableError):
        await http.read_object(settings.url, one, bearer=token)
    await spawn(tmp_path / "point").ready()
    async for piece in http.get_object(settings.url, one, bearer=token, start=len(got)):
        got += piece
    assert got == data


async def test_many_kills_never_lose_what_was_acknowledged(site, settings, holder, spawn, an_object, tmp_path):
    acknowledged: list[ObjectId] = []
    sizes = itertools.count(50_000)

    async def lane() -> None:
        with contextlib.suppress(UnavailableError):
            for size in sizes:
                one, data = an_object(size)
                await holder.put(one, size, lambda data=data: [data])
                acknowledged.append(one)

    for round_number in range(4):
        process = spawn(tmp_path / "point")
        await process.ready()
        lanes = [asyncio.create_task(lane()) for _ in range(3)]
        await asyncio.sleep(0.15 * (round_number + 1))
        process.kill()
        await asyncio.gather(*lanes)
    await spawn(tmp_path / "point").ready()
    assert acknowledged
    assert await holder.missing(acknowledged) == []


async def test_a_stopped_process_says_nothing_but_json_on_standard_error(site, settings, holder, spawn, tmp_path):
    process = spawn(tmp_path / "point")
    await process.ready()
    await holder.put_document("control", site.control())
    code, err = await process.terminate()
    assert code == 0
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["control_obeyed"]
    secret = site.site_token().split(".")[2]
    assert secret not in err


async def test_a_home_in_use_is_refused_by_another_process(settings, spawn, tmp_path):
    await spawn(tmp_path / "point").ready()
    with pytest.raises(ConflictError):
        await serve_point(tmp_path / "point")
