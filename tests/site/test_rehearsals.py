"""A dry run of publishing says what the publish that follows does, and leaves nothing behind."""

import os
from typing import Any

import pytest

from entrepot.core.errors import BadInputError, ConflictError, RefusedError
from entrepot.core.sizes import MIB
from entrepot.database import librarystats
from entrepot.protocol.contentapi import ContentInfo, Rehearsal, RehearsalRequest
from entrepot.protocol.libraryapi import Comparison
from entrepot.protocol.siteapi import TaskInfo

SAME = ("files", "folders", "links", "plain_size", "objects", "stored_size", "new_objects")


async def rehearse(site: Any, source: Any, **more: Any) -> Rehearsal:
    request = RehearsalRequest(name="App", source=str(source), **more)
    return await site.call("POST", "/rehearsals", Rehearsal, request)


async def test_a_new_content_is_said_and_not_made(site, source) -> None:
    (source / "large").write_bytes(os.urandom(5 * MIB))
    said = await rehearse(site, source, clients=1000)
    assert site.server.shelf.page() == []
    assert await site.call("GET", "/contents", list[ContentInfo]) == []
    assert await site.call("GET", "/tasks", list[TaskInfo]) == []
    assert await site.database.read(librarystats.open_sessions) == 0
    done = (await site.publish("App", source)).versions[0]
    for name in SAME:
        assert getattr(said, name) == getattr(done, name), name
    assert abs(said.new_bytes - done.new_bytes) < 100  # another content id is in the root
    assert (said.number, said.current) == (1, 0)
    assert said.update_fetch == said.first_fetch > 5 * MIB
    assert said.all_first_fetch == 1000 * said.first_fetch


async def test_the_next_version_is_said_to_the_byte(site, source) -> None:
    (source / "large").write_bytes(os.urandom(5 * MIB))
    await site.publish("App", source)
    before = site.server.shelf.page(limit=10_000)
    (source / "added").write_bytes(os.urandom(100_000))
    said = await rehearse(site, source, clients=7)
    assert site.server.shelf.page(limit=10_000) == before
    assert len((await site.call("GET", "/contents/App", ContentInfo)).versions) == 1
    assert await site.database.read(librarystats.open_sessions) == 0
    done = next(each for each in (await site.next_version("App")).versions if each.number == 2)
    for name in (*SAME, "new_bytes"):
        assert getattr(said, name) == getattr(done, name), name
    answer = await site.raw("GET", "/contents/App/comparison", query="old=1&new=2")
    assert said.update_fetch == site.decoded(answer, Comparison).fetch_bytes < MIB < said.first_fetch
    assert said.all_update_fetch == 7 * said.update_fetch
    assert (said.number, said.current) == (2, 1)


async def test_what_cannot_be_published_is_refused_and_leaves_no_session(site, source, tmp_path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RefusedError, match="empty"):
        await rehearse(site, empty)
    with pytest.raises(BadInputError, match="absolute"):
        await rehearse(site, "relative")
    with pytest.raises(RefusedError, match="own folder"):
        await rehearse(site, site.home.folder)
    assert await site.database.read(librarystats.open_sessions) == 0
    await site.publish("App", source)
    await site.call("DELETE", "/contents/App", TaskInfo)
    with pytest.raises(ConflictError, match="deleted"):
        await rehearse(site, source)
