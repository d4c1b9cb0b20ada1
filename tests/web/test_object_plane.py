"""The object plane over a real TLS socket: what clients and the site see."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
from multidict import CIMultiDict

from entrepot.core.errors import (
    BadInputError,
    ForbiddenError,
    IntegrityError,
    LimitedError,
    NotFoundError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import KIB, MIB
from entrepot.objects.hashing import object_id_of
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol.dataplane import MAX_MISSING_IDS, MAX_OBJECT_BYTES, ObjectPage
from entrepot.web.downloads import (
    LEAST_PIECE,
    MEMORY,
    MOST_PIECE,
    MOST_WHOLE,
    PIECES_ON_THEIR_WAY,
    WHOLE_MEMORY,
    Downloads,
)
from entrepot.web.grants import Grant
from entrepot.web.health import registry_of
from entrepot.web.http import HttpClient
from entrepot.web.readers import RECHECK_SECONDS, REOPEN_SECONDS, Readers

from ..waiting import until

NOBODY = ObjectId(bytes(32))


async def test_a_client_reads_exactly_what_is_stored(plane, served, http, stock, records):
    object_id, data = stock(3 * MIB + 17)
    async with served(plane) as url:
        assert await http.read_object(url, object_id, bearer="good") == data
    [record] = records
    assert (record.device, record.status, record.sent, record.method) == ("dev-good", 200, len(data), "GET")
    assert (record.set_id, record.object_id, plane.sent) == (b"s" * 32, object_id, len(data))


async def test_a_request_that_ends_before_its_answer_is_recorded_as_failed(plane, shelf, stock, records, monkeypatch):
    """Status 0 would make the site refuse the segment with all its other records."""
    object_id, _ = stock(100)
    looking, going_on = asyncio.Event(), threading.Event()
    loop, really_open = asyncio.get_running_loop(), shelf.store.open_file

    def slowly_open(key):
        loop.call_soon_threadsafe(looking.set)
        going_on.wait()
        return really_open(key)

    async def nothing(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(shelf.store, "open_file", slowly_open)
    headers = [(b"authorization", b"Bearer good")]
    scope = {"type": "http", "method": "GET", "path": f"/objects/{object_id.hex()}", "headers": headers}
    request = asyncio.create_task(plane(scope, nothing, nothing))
    await looking.wait()
    request.cancel()
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert [(record.status, record.sent) for record in records] == [(503, 0)]


async def test_an_empty_object_is_served(plane, served, http, stock):
    object_id, data = stock(0)
    async with served(plane) as url:
        assert await http.read_object(url, object_id, bearer="good") == data == b""


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=10-19", 206, (10, 10)),
        ("bytes=999990-", 206, (999_990, 10)),
        ("bytes=999990-2000000", 206, (999_990, 10)),
        ("bytes=999990-" + "9" * 30, 206, (999_990, 10)),
        ("bytes=-5", 206, (999_995, 5)),
        ("bytes=5-4", 200, (0, 1_000_000)),
        ("bytes=0-1,5-6", 200, (0, 1_000_000)),
        ("lines=1-2", 200, (0, 1_000_000)),
    ],
)
async def test_a_range_is_answered_with_its_bytes(plane, served, http, stock, asked, status, span):
    object_id, data = stock(1_000_000)
    start, length = span
    async with served(plane) as url:
        answer = await http.request("GET", f"{url}/objects/{object_id.hex()}", bearer="good", headers={"Range": asked})
    assert (answer.status, answer.body) == (status, data[start : start + length])
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{start + length - 1}/1000000"


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=10-19"}, {"Range": "bytes=-5"}, {"Range": "bytes=5-4"}])
async def test_an_object_that_is_open_is_answered_at_once_and_in_the_same_way(
    plane, served, http, stock, records, monkeypatch, asked
):
    object_id, _ = stock(1_000_000)
    answers = []
    async with served(plane) as url:
        for _ in range(2):
            answers.append(await http.request("GET", f"{url}/objects/{object_id.hex()}", bearer="good", headers=asked))
            monkeypatch.setattr(plane.downloads, "begin", None)  # the general way would begin a download
    first, second = ((answer.status, answer.body, answer.headers | {"date": ""}) for answer in answers)
    assert first == second
    first, second = ((record.status, record.sent, record.set_id, record.method) for record in records)
    assert first == second
    assert plane.sent == 2 * records[0].sent


@pytest.mark.parametrize("first", ["100", "9" * 30])
async def test_a_range_beyond_the_end_is_416_and_names_the_size(plane, served, http, stock, first):
    object_id, _ = stock(100)
    async with served(plane) as url:
        answer = await http.request(
            "GET",
            f"{url}/objects/{object_id.hex()}",
            bearer="good",
            headers={"Range": f"bytes={first}-"},
            accept=(416,),
        )
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */100")


async def test_who_has_the_object_needs_no_range_of_it(plane, served, site, stock):
    """Conditions come before ranges (RFC 9110 section 13.2.2), and several lines of one are one list."""
    object_id, _ = stock(100)
    async with served(plane) as url:
        asked = [("Authorization", "Bearer good"), ("Range", "bytes=100-"), ("If-None-Match", '"x"')]
        asked.append(("If-None-Match", f'"{object_id.hex()}"'))
        connector = aiohttp.TCPConnector(ssl=site.tls_trust.verifier())
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"{url}/objects/{object_id.hex()}", headers=CIMultiDict(asked)) as answer,
        ):
            assert answer.status == 304


async def test_head_and_caching_headers(plane, served, http, stock, records):
    object_id, _ = stock(100)
    async with served(plane) as url:
        address = f"{url}/objects/{object_id.hex()}"
        head = await http.request("HEAD", address, bearer="good")
        known = await http.request(
            "GET", address, bearer="good", headers={"If-None-Match": head.headers["etag"]}, accept=(304,)
        )
        changed = await http.request("GET", address, bearer="good", headers={"Range": "bytes=1-2", "If-Range": '"x"'})
        other = await http.request("GET", address, bearer="good", headers={"If-Match": '"x"'}, accept=(412,))
        missing = await http.request("HEAD", f"{url}/objects/{NOBODY.hex()}", bearer="good", accept=(404,))
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "100")
    assert head.headers["etag"] == f'"{object_id.hex()}"'
    assert head.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert (known.status, known.body) == (304, b"")
    assert (changed.status, len(changed.body)) == (200, 100)
    assert other.headers["content-type"] == "application/problem+json"
    assert (missing.status, missing.body) == (404, b"")
    assert [record.status for record in records] == [200, 304, 200, 412, 404]


async def test_what_a_token_does_not_cover_is_404_whether_it_exists_or_not(plane, served, http, stock, records):
    object_id, _ = stock(100)
    async with served(plane) as url:
        for asked in (object_id, NOBODY):
            with pytest.raises(NotFoundError) as refused:
                await http.read_object(url, asked, bearer="bare")
            assert refused.value.message == "This token gives access to no such object here."
    assert [(record.status, record.set_id, record.sent) for record in records] == [(404, b"", 0)] * 2


async def test_without_a_good_token_nothing_is_served_or_recorded(plane, served, http, stock, keyring, records):
    object_id, _ = stock(100)
    keyring.revoked.add("other")
    async with served(plane) as url:
        with pytest.raises(UnauthenticatedError):
            await http.read_object(url, object_id, bearer=None)
        with pytest.raises(UnauthenticatedError):
            await http.read_object(url, object_id, bearer="x" * 7000)
        with pytest.raises(UnauthenticatedError):
            await http.read_object(url, object_id, bearer="site")
        with pytest.raises(ForbiddenError):
            await http.read_object(url, object_id, bearer="other")
    assert records == []


@pytest.mark.parametrize("name", ["zz", "0" * 63, "0" * 65, "A" * 64, "../" + "0" * 64, "0" * 64 + "/x"])
async def test_hostile_ids_are_refused(plane, served, http, name):
    async with served(plane) as url:
        with pytest.raises((BadInputError, NotFoundError, UnauthenticatedError)):
            await http.request("GET", f"{url}/objects/{name}", bearer="good")


async def test_a_client_may_not_do_what_the_site_does(plane, served, http, stock, shelf):
    object_id, _ = stock(100)
    async with served(plane) as url:
        for method, path in (
            ("DELETE", f"/objects/{object_id.hex()}"),
            ("PUT", f"/objects/{object_id.hex()}"),
            ("GET", "/objects"),
            ("POST", "/objects/missing"),
            ("GET", "/documents"),
            ("PUT", "/documents/control"),
        ):
            with pytest.raises(UnauthenticatedError):
                await http.request(method, url + path, bearer="good", body=b"")
    assert shelf.has([object_id]) == [True]


async def test_a_download_that_is_cut_breaks_visibly_and_at_once(plane, served, http, stock, records):
    object_id, data = stock(32 * MIB)
    async with served(plane) as url, contextlib.AsyncExitStack() as stack:
        pieces = await stack.enter_async_context(contextlib.aclosing(http.get_object(url, object_id, bearer="good")))
        got = len(await anext(pieces))
        await asyncio.sleep(0.2)  # the server fills the buffers and waits for the client
        assert plane.cut({"dev-nobody"}) == 0
        assert plane.cut({"dev-nobody", "dev-good"}) == 1
        assert plane.downloads.generation == 2, "one look at all connections, however many devices are named"
        await until(lambda: records, "the download ended")
        sent = plane.sent
        with pytest.raises(UnavailableError, match="broke off"):
            async for piece in pieces:
                got += len(piece)
    assert got < len(data)
    assert plane.sent == sent  # nothing was handed over after the cut
    [record] = records
    assert (record.status, record.sent) == (200, sent)
    assert sent < len(data)


@pytest.mark.parametrize("how", ["all", "token"])
async def test_cuts_reach_everyone_or_one_token(plane, served, http, stock, how):
    object_id, _ = stock(32 * MIB)
    async with served(plane) as url, contextlib.AsyncExitStack() as stack:
        for bearer in ("good", "other"):
            pieces = await stack.enter_async_context(
                contextlib.aclosing(http.get_object(url, object_id, bearer=bearer))
            )
            await anext(pieces)
        await until(lambda: len(plane.downloads) == 2, "two downloads run")
        assert (plane.cut_all() if how == "all" else plane.cut(set(), {"jti-other"})) == (2 if how == "all" else 1)
        await until(lambda: len(plane.downloads) == (0 if how == "all" else 1), "they ended")


async def test_a_cut_during_authorisation_is_not_missed(plane, served, http, stock, keyring):
    """The authoriser looks at the state before the cut, and answers after it: it must be asked again."""
    object_id, _ = stock(100)
    keyring.gate = asyncio.Event()
    async with served(plane) as url:
        asking = asyncio.create_task(http.read_object(url, object_id, bearer="good"))
        await asyncio.sleep(0.2)
        keyring.revoked.add("good")
        plane.cut({"dev-good"})
        keyring.gate.set()
        with pytest.raises(ForbiddenError):
            await asking


async def test_a_client_that_leaves_ends_its_download(plane, served, http, stock, records):
    object_id, data = stock(32 * MIB)
    async with served(plane) as url:
        async with contextlib.aclosing(http.get_object(url, object_id, bearer="good")) as pieces:
            await anext(pieces)
        await until(lambda: records, "the download ended")
    assert records[0].sent < len(data)
    assert plane.downloads.cuts == 0


async def test_a_client_that_does_not_read_is_cut_off(plane, served, http, stock, records, monkeypatch):
    monkeypatch.setattr("entrepot.web.downloads.MINIMUM_WAIT", 0.3)
    plane.downloads.minimum_rate = 64 * MIB
    plane.downloads._seconds = 0.05
    object_id, data = stock(32 * MIB)
    async with served(plane) as url, contextlib.aclosing(http.get_object(url, object_id, bearer="good")) as pieces:
        await anext(pieces)
        await until(lambda: records, "it was cut off")
    assert records[0].sent < len(data)


async def test_more_downloads_than_allowed_are_asked_to_come_back(plane, served, http, stock, records):
    object_id, _ = stock(32 * MIB)
    plane.downloads.most = 1
    async with served(plane) as url, contextlib.aclosing(http.get_object(url, object_id, bearer="good")) as pieces:
        await anext(pieces)
        answer = await http.request("GET", f"{url}/objects/{object_id.hex()}", bearer="good", accept=(503,))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert registry_of(plane).get_sample_value("entrepot_requests_turned_away_total") == 1
    assert [record.status for record in records] == [200], "who is turned away is counted, not recorded"


async def test_a_device_that_asks_too_often_is_slowed_down(plane, served, http, stock):
    object_id, _ = stock(10)
    plane.admission.device_rate = 2.0
    async with served(plane) as url:
        for _ in range(4):
            await http.read_object(url, object_id, bearer="good")
        with pytest.raises(LimitedError):
            for _ in range(4):
                await http.read_object(url, object_id, bearer="good")
        await http.read_object(url, object_id, bearer="other")


async def test_an_object_whose_file_is_cut_short_never_looks_whole(plane, served, http, stock, tmp_path):
    object_id, data = stock(4 * MIB)
    [path] = tmp_path.rglob(object_id.hex())
    async with served(plane) as url:
        assert await http.read_object(url, object_id, bearer="good") == data
        os.truncate(path, 1 * MIB)  # under a plane that has seen its size
        with pytest.raises(UnavailableError, match="broke off"):
            await http.read_object(url, object_id, bearer="good")


async def test_an_object_that_was_removed_or_replaced_is_noticed(shelf):
    data, now = bytes(100), 0.0
    object_id = object_id_of(data)
    shelf.put(object_id, data)
    readers = Readers(shelf, lambda: now)
    assert await (await readers.open(object_id)).read(0, 100, 64) == data[:64]
    shelf.delete(object_id)
    now = RECHECK_SECONDS + 0.1
    with pytest.raises(NotFoundError):
        await readers.open(object_id)
    readers.close()


async def test_a_file_stays_open_while_it_has_its_name(shelf):
    data, now = bytes(100), 0.0
    object_id = object_id_of(data)
    shelf.put(object_id, data)
    readers = Readers(shelf, lambda: now)
    opened = await readers.open(object_id)
    for _ in range(3):
        now += RECHECK_SECONDS + 0.1
        assert readers.known(object_id) is opened
    shelf.put(object_id, data, replace=True)
    assert readers.known(object_id) is opened  # for a moment
    now += RECHECK_SECONDS + 0.1
    assert readers.known(object_id) is None
    again = await readers.open(object_id)
    assert again is not opened
    now += REOPEN_SECONDS + 0.1
    assert await readers.open(object_id) is not again
    readers.close()


async def test_a_store_that_is_no_folder_is_read_in_pieces(shelf):
    data = bytes(range(256)) * 4096
    object_id = object_id_of(data)
    elsewhere = Shelf(MemoryStore())
    elsewhere.put(object_id, data)
    readers = Readers(elsewhere)
    opened, at, gathered = await readers.open(object_id), 17, b""
    while piece := await opened.read(at, len(data) - at, 50_000):
        assert len(piece) <= 50_000
        gathered, at = gathered + piece, at + len(piece)
    assert (opened.size, gathered) == (len(data), data[17:])
    readers.close()


def test_pieces_shrink_while_many_downloads_run():
    downloads = Downloads()
    sizes = []
    for number in (0, 64, 256, 2000):
        downloads._running = set(range(number))  # type: ignore[arg-type]  # only their number counts
        sizes.append(downloads.piece)
        assert downloads.piece * PIECES_ON_THEIR_WAY * number <= max(MEMORY, LEAST_PIECE * PIECES_ON_THEIR_WAY * number)
    assert sizes == [256 * KIB, 112 * KIB, 16 * KIB, 16 * KIB]


async def test_what_is_handed_over_whole_is_bounded_until_clients_show_that_they_took_it():
    downloads, size = Downloads(minimum_rate=64 * KIB), MIB
    most = WHOLE_MEMORY // size
    assert [downloads.whole(peer, size, 0.0) for peer in range(most + 1)] == [True] * most + [False]
    downloads.took(0)  # asked again on its connection
    assert downloads.whole(most, size, 0.0)
    assert not downloads.whole(most + 1, size, 15.9)
    assert downloads.whole(most + 1, size, 16.0)  # the slowest client that is allowed has taken a MiB by now
    downloads.took("a connection that was handed nothing")
    assert not Downloads().whole("", MOST_WHOLE + 1, 0.0)


async def test_a_cut_waits_for_none_of_those_who_wait_for_a_store():
    loop, store, reset = asyncio.get_running_loop(), threading.Event(), asyncio.Event()

    def ends(peers: AbstractSet[object]) -> int:
        loop.call_soon_threadsafe(reset.set)
        return len(peers)

    threads = ThreadPoolExecutor(1)
    loop.set_default_executor(threads)
    waiting = loop.run_in_executor(None, store.wait)
    downloads = Downloads(end_connections=ends)
    try:
        assert downloads.whole("peer", MIB, loop.time(), Grant(device="dev-a", jti="j"))
        downloads.cut("revoked", lambda one: one.device == "dev-a")
        async with asyncio.timeout(60):
            await reset.wait()
        assert not waiting.done()
    finally:
        store.set()
        await waiting


async def test_a_small_object_travels_in_one_message_while_there_is_room(plane, stock):
    object_id, data = stock(MIB)
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/objects/{object_id.hex()}",
        "headers": [(b"authorization", b"Bearer good")],
        "client": ("192.0.2.1", 1),
    }
    await plane(scope, receive, send)
    assert [message.get("body") for message in sent] == [None, data]
    for peer in range(WHOLE_MEMORY // MIB):
        plane.downloads.whole(peer, MIB, asyncio.get_running_loop().time())
    sent.clear()
    await plane({**scope, "client": ("192.0.2.1", 2)}, receive, send)
    assert [len(message.get("body", b"")) for message in sent] == [0, *[MOST_PIECE] * 4]
    assert b"".join(message.get("body", b"") for message in sent) == data


async def test_the_site_stores_lists_and_removes(plane, served, http, shelf):
    data = b"x" * (700 * KIB)
    object_id = object_id_of(data)
    async with served(plane) as url:
        address = f"{url}/objects/{object_id.hex()}"
        for _ in range(2):  # idempotent
            assert (await http.request("PUT", address, body=data, bearer="site")).status == 204
        assert shelf.read_whole(object_id) == data
        assert plane.received == len(data)
        page = await http.request_json("GET", f"{url}/objects?limit=5", None, ObjectPage, bearer="site")
        assert (page.ids, page.sizes, page.more) == ((object_id.hex(),), (len(data),), False)
        for _ in range(2):
            assert (await http.request("DELETE", address, bearer="site")).status == 204
        assert shelf.has([object_id]) == [False]


async def test_bytes_that_are_not_the_object_are_not_stored(plane, served, http, shelf):
    async with served(plane) as url:
        with pytest.raises(IntegrityError):
            await http.request("PUT", f"{url}/objects/{NOBODY.hex()}", body=b"x" * MIB, bearer="site")
    assert shelf.page() == []
    assert plane.received == 0


async def test_an_upload_larger_than_any_object_is_refused_before_it_is_sent(plane, served, http, shelf):
    async def pieces():
        yield b"x"
        await asyncio.sleep(30)

    async with served(plane) as url:
        answer = await http.request(
            "PUT",
            f"{url}/objects/{NOBODY.hex()}",
            body=pieces(),
            headers={"Content-Length": str(MAX_OBJECT_BYTES + 1)},
            bearer="site",
            accept=(413,),
        )
    assert answer.status == 413
    assert shelf.page() == []


async def test_an_upload_that_breaks_off_leaves_nothing(plane, served, site, shelf, tmp_path):
    """Half an object, then the connection closes."""
    half_sent = asyncio.Event()

    async def pieces():
        yield b"x" * MIB
        half_sent.set()
        await asyncio.sleep(60)

    async with served(plane) as url:
        async with HttpClient(site.tls_trust) as http:
            upload = asyncio.create_task(
                http.request(
                    "PUT",
                    f"{url}/objects/{NOBODY.hex()}",
                    body=pieces(),
                    headers={"Content-Length": str(2 * MIB)},
                    bearer="site",
                )
            )
            await half_sent.wait()
            await asyncio.sleep(0.2)
            upload.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await upload

        def temporary() -> list:
            return [path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.name != "lock"]

        await until(lambda: not temporary(), "the half-written file went")
    assert shelf.page() == []


async def test_missing_is_bounded_and_exact(plane, served, http, stock):
    here, _ = stock(10, seed=1)
    async with served(plane) as url:
        address = f"{url}/objects/missing"
        answer = await http.request("POST", address, body=NOBODY + here + NOBODY, bearer="site")
        assert answer.body == bytes([0b101])
        with pytest.raises(BadInputError):
            await http.request("POST", address, body=b"x" * 33, bearer="site")
        with pytest.raises(TooLargeError):
            await http.request("POST", address, body=bytes(32 * (MAX_MISSING_IDS + 1)), bearer="site")


async def test_what_is_not_there_is_404_and_wrong_methods_are_too(plane, served, http):
    async with served(plane) as url:
        for method, path in (
            ("GET", "/"),
            ("POST", "/objects"),
            ("PATCH", "/documents/x"),
            ("PUT", "/documents"),
        ):
            with pytest.raises(NotFoundError):
                await http.request(method, url + path, bearer="site")


async def test_two_requests_on_one_connection_after_an_error(plane, served, site, stock):
    object_id, data = stock(1000)
    async with served(plane) as url:
        connector = aiohttp.TCPConnector(ssl=site.tls_trust.verifier(), limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            for bearer, status in (("bad", 401), ("good", 200), ("bare", 404), ("good", 200)):
                address = f"{url}/objects/{object_id.hex()}"
                async with session.get(address, headers={"Authorization": f"Bearer {bearer}"}) as answer:
                    body = await answer.read()
                    assert answer.status == status
            assert body == data


async def test_no_device_holds_all_downloads() -> None:
    downloads = Downloads(most=8, most_of_one=2)
    first = downloads.begin("dev-1", "a")
    downloads.begin("dev-1", "b")
    with pytest.raises(LimitedError):
        downloads.begin("dev-1", "c")
    downloads.begin("dev-2", "d")
    downloads.finish(first)
    downloads.finish(first)
    downloads.begin("dev-1", "e")
    with pytest.raises(LimitedError):
        downloads.begin("dev-1", "f")
