"""What a point does for clients and its site, and for whom it does nothing."""

import asyncio
import contextlib
import json

import pytest

from entrepot.core.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    ReplayError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.core.sizes import MIB
from entrepot.point.renewal import Renewal
from entrepot.point.server import serve_point
from entrepot.point.standing import Standing
from entrepot.protocol.control import ServiceState

from ..waiting import until


async def health(http, url):
    return json.loads((await http.request("GET", f"{url}/healthz", accept=(503,))).body)


async def test_a_new_point_serves_its_site_first_and_clients_once_it_is_told_to(
    site, point, http, holder, fill, an_object
):
    one, data = an_object(700_000)
    set_id = await fill(holder, (one, data))
    token = site.content_token(set_id)
    with pytest.raises(UnavailableError):
        await http.read_object(point, one, bearer=token)
    await holder.put_document("trust", site.trust().encode())
    await holder.put_document("control", site.control())
    assert await http.read_object(point, one, bearer=token) == data
    with pytest.raises(NotFoundError):
        await http.read_object(point, an_object(5)[0], bearer=token)


async def test_an_object_of_another_set_does_not_exist_for_the_token(site, point, http, holder, fill, an_object):
    await holder.put_document("control", site.control())
    (one, first), (two, second) = an_object(100), an_object(100, b"y")
    set_one, set_two = await fill(holder, (one, first)), await fill(holder, (two, second))
    with pytest.raises(NotFoundError):
        await http.read_object(point, two, bearer=site.content_token(set_one))
    assert await http.read_object(point, two, bearer=site.content_token(set_one, set_two)) == second
    with pytest.raises(UnauthenticatedError):
        await http.read_object(point, one, bearer=site.site_token())
    with pytest.raises(UnauthenticatedError):
        await http.request("GET", f"{point}/objects", bearer=site.content_token(set_one))


@pytest.mark.parametrize("how", ["revoked", "stopped", "deleted"])
async def test_revocation_and_stop_bite_at_once_on_running_downloads(site, point, http, holder, fill, an_object, how):
    await holder.put_document("control", site.control())
    one, data = an_object(32 * MIB)
    set_id = await fill(holder, (one, data))
    got = 0
    async with contextlib.AsyncExitStack() as stack:
        running = {}
        for device in ("dev-1", "dev-2"):
            pieces = http.get_object(point, one, bearer=site.content_token(set_id, device=device))
            running[device] = await stack.enter_async_context(contextlib.aclosing(pieces))
            got = len(await anext(pieces))
        if how == "deleted":
            await holder.delete_document("control")
        else:
            state = ServiceState.STOPPED if how == "stopped" else ServiceState.RUNNING
            await holder.put_document("control", site.control(state=state, devices=("dev-1",)))
        assert (await health(http, point))["downloads"] == (1 if how == "revoked" else 0)
        with pytest.raises(UnavailableError, match="broke off"):
            async for piece in running["dev-1"]:
                got += len(piece)
        assert got < len(data)
        if how == "revoked":
            async for _ in running["dev-2"]:
                pass
    expected = ForbiddenError if how == "revoked" else UnavailableError
    with pytest.raises(expected):
        await http.read_object(point, one, bearer=site.content_token(set_id))
    await holder.put_document("control", site.control())
    assert await http.read_object(point, one, bearer=site.content_token(set_id)) == data


async def test_an_expired_control_document_ends_the_service(site, point, http, holder, fill, an_object):
    one, data = an_object(32 * MIB)
    set_id = await fill(holder, (one, data))
    await holder.put_document("control", site.control(lifetime=4))

    async def ended():
        return (await health(http, point))["downloads"] == 0

    async with contextlib.aclosing(http.get_object(point, one, bearer=site.content_token(set_id))) as pieces:
        await anext(pieces)
        await until(ended)
        with pytest.raises(UnavailableError, match="broke off"):
            async for _ in pieces:
                pass
    answer = await http.request("GET", f"{point}/objects/{one.hex()}", bearer=site.content_token(set_id), accept=(503,))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert "expired" in (await health(http, point))["problem"]


async def test_documents_count_only_when_they_are_the_sites_and_the_newest(site, point, http, holder):
    await holder.put_document("control", site.control(counter=10))
    old, other = site.control(counter=9), type(site)()
    for key, bad, error in (
        ("control", old, ReplayError),
        ("control", site.control(counter=10, devices=("dev-1",)), ReplayError),
        ("control", other.control(counter=11), TrustError),
        ("control", b"nonsense", None),
        ("control", site.content_token(bytes(32)).encode(), TrustError),
        ("trust", other.trust(2).encode(), TrustError),
        ("trust", b"", None),
        ("tx/1/2/3", b"x", RefusedError),
    ):
        with pytest.raises(error or Exception) as refused:
            await holder.put_document(key, bad)
        assert refused.value.family.status in (422, 502)
    assert (await health(http, point))["status"] == "ok"
    await holder.put_document("trust", site.trust(2).encode())
    with pytest.raises(ReplayError):
        await holder.put_document("trust", site.trust(1).encode())


async def test_a_restart_keeps_everything_and_does_not_go_back(
    site, settings, http, holder, fill, an_object, run, tmp_path
):
    home = tmp_path / "point"
    one, data = an_object(100_000)
    async with run(home) as url:
        set_id = await fill(holder, (one, data))
        await holder.put_document("control", site.control(counter=5))
        old = (home / "store" / "control").read_bytes()
        await holder.put_document("control", site.control(counter=6, devices=("dev-1",)))
    async with run(home) as again:
        assert again == url == settings.url
        with pytest.raises(ForbiddenError):
            await http.read_object(url, one, bearer=site.content_token(set_id))
        assert await http.read_object(url, one, bearer=site.content_token(set_id, device="dev-2")) == data
    (home / "store" / "control").write_bytes(old)  # somebody restores an older file
    async with run(home) as url:
        with pytest.raises(UnavailableError):
            await http.read_object(url, one, bearer=site.content_token(set_id))
        await holder.put_document("control", site.control(counter=7))
        assert await http.read_object(url, one, bearer=site.content_token(set_id)) == data


async def test_a_defect_seen_once_ends_no_background_work(settings, run, tmp_path, monkeypatch):
    """What ends downloads when a control document expires, and what renews the certificate, must go on."""
    ticks, asked = [], []

    def tick(_):
        ticks.append(1)
        if len(ticks) == 1:
            raise ValueError("a defect")

    async def follow(_):
        asked.append(1)
        raise ValueError("a defect")

    monkeypatch.setattr(Standing, "tick", tick)
    monkeypatch.setattr(Renewal, "follow_trust", follow)
    monkeypatch.setattr("entrepot.point.server.TICK_SECONDS", 0.01)
    monkeypatch.setattr("entrepot.point.renewal.AGAIN_SECONDS", 0.01)

    async def both_go_on() -> bool:
        return min(len(ticks), len(asked)) > 2

    assert settings.site_url
    async with run(tmp_path / "point"):
        await until(both_go_on)


async def test_health_and_metrics_show_what_the_point_holds(site, point, http, holder, fill, an_object):
    before = await health(http, point)
    assert (before["status"], before["control_age_seconds"]) == ("not serving", None)
    await holder.put_document("control", site.control())
    one, data = an_object(5000)
    set_id = await fill(holder, (one, data), an_object(5000, b"y"))
    after = await health(http, point)
    assert (after["status"], after["objects"], after["point"]) == ("ok", 3, "pt-00000000000000aa")
    assert after["object_bytes"] == 10_000 + 8 + 64
    assert after["free_bytes"] > 0
    assert after["control_age_seconds"] >= 0
    await holder.delete(one)
    await holder.delete(one)
    assert (await health(http, point))["objects"] == 2
    text = (await http.request("GET", f"{point}/metrics")).body.decode()
    assert "entrepot_objects 2.0" in text
    assert "entrepot_serving 1.0" in text
    with pytest.raises(NotFoundError):
        await http.read_object(point, one, bearer=site.content_token(set_id))


async def test_content_that_was_removed_is_gone_at_once(site, point, http, holder, fill, an_object):
    """An object that another content still needs stays, but not for tokens of the removed one."""
    await holder.put_document("control", site.control())
    one, data = an_object(5000)
    two = an_object(100, b"y")
    set_one, set_both = await fill(holder, (one, data)), await fill(holder, (one, data), two)
    assert await http.read_object(point, one, bearer=site.content_token(set_one)) == data
    await holder.delete(set_one)
    with pytest.raises(NotFoundError):
        await http.read_object(point, one, bearer=site.content_token(set_one))
    assert await http.read_object(point, one, bearer=site.content_token(set_both)) == data


async def test_one_home_is_served_by_one_process(point, tmp_path):
    with pytest.raises(ConflictError, match="Another process"):
        await serve_point(tmp_path / "point", stop=asyncio.Event())
