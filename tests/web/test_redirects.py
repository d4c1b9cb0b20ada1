"""Links to the store instead of bytes: what the plane answers, what it records, and how a client follows."""

import contextlib
import json
import time

import pytest

from entrepot.client.connections import Connections
from entrepot.client.settings import Settings
from entrepot.core.errors import ForbiddenError, FormatError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import MAX_LINK_SECONDS, NoUrl, SignedUrl
from entrepot.objects.wrapper import StoreWrapper
from entrepot.protocol.dataplane import PREFER_STREAM
from entrepot.protocol.location import Source
from entrepot.web.asgi import header, send_response
from entrepot.web.following import Follower, checked_link
from entrepot.web.grants import Grant
from entrepot.web.http import HttpClient
from entrepot.web.objects import ObjectPlane
from entrepot.web.ranges import choose_span
from entrepot.web.redirects import StoreRedirects
from entrepot.web.tls import TlsTrust

NOBODY = ObjectId(bytes(32))
SECRET = "sig=a-secret-of-the-link"


class LinkingStore(StoreWrapper):
    """A store whose links lead to ``base``."""

    base = "https://store.example"
    asked: list[int]

    def link(self, key, *, seconds):
        self.asked = [*getattr(self, "asked", []), seconds]
        if not self.base:
            return NoUrl()
        if self.base == "broken":
            raise UnavailableError("The store cannot sign now.")
        return SignedUrl(url=f"{self.base}/{key}?{SECRET}", expires=time.time() + seconds)


@pytest.fixture
def store(shelf):
    return LinkingStore(shelf.store)


@pytest.fixture
def redirects(store):
    made = StoreRedirects(Shelf(store))
    made.on = True
    return made


@pytest.fixture
def plane(shelf, keyring, records, redirects):
    made = ObjectPlane(shelf, keyring, records.append, redirects=redirects)
    yield made
    made.close()


async def asked(http, url, object_id, method="GET", bearer="good", **headers):
    accept = (304, 307, 404, 416)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await http.request(method, f"{url}/objects/{object_id.hex()}", bearer=bearer, headers=sent, accept=accept)


async def test_a_get_is_answered_with_a_link_that_nobody_may_keep(plane, served, http, stock, store, records):
    object_id, data = stock(5000)
    async with served(plane) as url:
        answer = await asked(http, url, object_id)
    assert (answer.status, answer.body) == (307, b"")
    assert answer.headers["location"].startswith("https://store.example/objects/")
    assert object_id.hex() in answer.headers["location"]
    assert answer.headers["cache-control"] == "no-store"
    assert store.asked == [MAX_LINK_SECONDS]
    [record] = records
    assert (record.status, record.delivery, record.sent, record.granted) == (307, "redirect", 0, len(data))
    assert plane.sent == 0, "granted, not sent"


async def test_of_a_range_only_the_range_is_granted(plane, served, http, stock, records):
    object_id, _ = stock(5000)
    async with served(plane) as url:
        assert (await asked(http, url, object_id, Range="bytes=4000-")).status == 307
    assert records[0].granted == 1000


async def test_what_needs_no_bytes_or_is_not_there_gets_no_link(plane, served, http, stock, records):
    object_id, _ = stock(100)
    tag = f'"{object_id.hex()}"'
    async with served(plane) as url:
        assert (await asked(http, url, object_id, "HEAD")).status == 200
        assert (await asked(http, url, object_id, If_None_Match=tag)).status == 304
        assert (await asked(http, url, object_id, Range="bytes=100-")).status == 416
        assert (await asked(http, url, NOBODY)).status == 404
        assert (await asked(http, url, object_id, bearer="bare")).status == 404
    assert {record.delivery for record in records} == {"stream"}
    assert sum(record.granted for record in records) == 0


@pytest.mark.parametrize("headers", [{"Prefer": f"respond-async, {PREFER_STREAM}"}, {"If_Range": "*"}])
async def test_whoever_wants_or_needs_the_bytes_from_us_gets_them(plane, served, http, stock, records, headers):
    object_id, data = stock(100)
    async with served(plane) as url:
        answer = await asked(http, url, object_id, **headers)
    assert (answer.status, answer.body) == (200, data)
    assert [(record.sent, record.granted) for record in records] == [(100, 0)]


@pytest.mark.parametrize("bound", [{"allow": 10**9}, {"rate": 10**9}])
async def test_tokens_under_a_budget_are_streamed(redirects, store, bound):
    """A link can be used many times, and the store does not count for us."""
    scope = {"headers": []}
    assert await redirects.link(Grant(device="d", jti="j", set_id=b"s" * 32), scope, NOBODY)
    assert not await redirects.link(Grant(device="d", jti="j", set_id=b"s" * 32, **bound), scope, NOBODY)


@pytest.mark.parametrize("base", ["", "broken", "http://127.0.0.1:9"])
async def test_without_a_link_that_can_be_followed_the_gateway_streams(
    plane, served, http, stock, store, base, records
):
    store.base = base
    object_id, data = stock(100)
    async with served(plane) as url:
        assert (await asked(http, url, object_id)).body == data
    assert records[0].delivery == "stream"


class Store:
    """An object store's HTTPS side, that can be told to misbehave; notes what it was asked."""

    def __init__(self, objects):
        self.objects = objects
        self.asked = []
        self.refusals = []
        self.breaks_off = False
        self.page = b""

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        self.asked.append({name.decode(): value.decode() for name, value in scope["headers"]})
        if self.refusals:
            status, headers = self.refusals.pop(0)
            return await send_response(send, status, b"<Error/>", headers=headers)
        data = self.objects[scope["path"].rpartition("/")[2]]
        span = choose_span(header(scope, b"range"), len(data))
        headers = [(b"content-range", span.content_range(len(data)))] if span.partial else []
        body = data[span.start : span.start + span.length]
        if self.page:  # what stands in between answers in the store's place
            return await send_response(send, 200, self.page)
        if self.breaks_off:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000")]})
            await send({"type": "http.response.body", "body": body[:5000], "more_body": True})
            raise ConnectionResetError("The store breaks off.")
        return await send_response(send, 206 if span.partial else 200, body, headers=headers)


@pytest.fixture
async def path(plane, served, store, site, stock):
    """A gateway that redirects, its store, and how a client gets from one to the other."""
    object_id, data = stock(100_000)
    app = Store({object_id.hex(): data})
    async with (
        served(app) as there,
        served(plane) as here,
        HttpClient(site.tls_trust) as gateways,
        HttpClient(site.tls_trust) as stores,
    ):
        store.base = there

        class Path:
            gateway, bucket, base = plane, app, here
            id, bytes = object_id, data
            follower = Follower(stores)

            async def read(self, start=0):
                pieces = gateways.get_object(here, object_id, bearer="good", start=start, follow=self.follower)
                async with contextlib.aclosing(pieces):
                    return b"".join([piece async for piece in pieces])

        yield Path()


async def test_a_client_follows_and_does_not_show_its_token(path, records):
    assert await path.read() == path.bytes
    [asked] = path.bucket.asked
    assert "authorization" not in asked
    assert not any("good" in value for value in asked.values())
    assert [(record.status, record.granted) for record in records] == [(307, len(path.bytes))]


async def test_it_resumes_at_the_store_where_it_was(path):
    assert await path.read(start=60_000) == path.bytes[60_000:]
    assert path.bucket.asked[0]["range"] == "bytes=60000-"


async def test_a_link_that_expired_on_the_way_is_asked_for_again_once(path, records):
    path.bucket.refusals = [(403, [])]
    assert await path.read() == path.bytes
    assert [record.status for record in records] == [307, 307]


@pytest.mark.parametrize(
    ("refusals", "statuses"),
    [
        ([(403, []), (403, [])], [307, 307, 200]),
        ([(503, [])], [307, 200]),
        ([(302, [(b"location", b"https://elsewhere.example/")])], [307, 200]),
    ],
)
async def test_a_store_that_does_not_deliver_is_left_alone_from_then_on(path, records, refusals, statuses):
    path.bucket.refusals = refusals
    assert await path.read() == path.bytes
    assert [record.status for record in records] == statuses
    assert await path.read() == path.bytes
    assert [record.status for record in records] == [*statuses, 200], "no link any more"


async def test_a_store_whose_certificate_is_not_trusted_is_not_used(path, records):
    async with HttpClient(TlsTrust.system()) as stranger:
        path.follower = Follower(stranger)
        assert await path.read() == path.bytes
    assert path.bucket.asked == []
    assert [record.status for record in records] == [307, 200]


async def test_a_store_that_cannot_be_reached_is_done_without(path, store, records):
    store.base = "https://127.0.0.1:1"
    assert await path.read() == path.bytes
    assert [record.status for record in records] == [307, 200]


async def test_a_store_that_breaks_off_midway_is_left_alone_from_then_on(path, records):
    path.bucket.breaks_off = True
    with pytest.raises(UnavailableError):
        await path.read()
    assert path.follower.linked
    assert await path.read() == path.bytes
    assert [record.status for record in records] == [307, 200]
    assert not path.follower.linked


@pytest.fixture
async def device(path, site, tmp_path):
    """Reads the object as the agent does, which verifies what comes by links."""
    ca = tmp_path / "ca.pem"
    ca.write_text(site.authority.pem())
    source = Source(point="pt-1", name="cloud", url=path.base, audience="pt-1", trust="system", reason="")
    async with Connections(Settings(service_ca=str(ca)), "") as connections:
        yield lambda: connections.get(source, path.id, len(path.bytes), "good")


@pytest.mark.parametrize("page", [b"", b"<html>Blocked by your proxy.</html>", bytes(100_000), bytes(200_000)])
async def test_a_device_gets_the_bytes_although_the_store_breaks_off_or_something_answers_in_its_place(
    path, device, records, page
):
    path.bucket.breaks_off, path.bucket.page = not page, page
    assert await device() == path.bytes
    assert [record.status for record in records] == [307, 200]
    assert await device() == path.bytes
    assert [record.status for record in records] == [307, 200, 200], "no link any more"


async def test_a_device_follows_as_long_as_the_links_are_good(path, device, records):
    assert [await device(), await device()] == [path.bytes] * 2
    assert [record.status for record in records] == [307, 307]


async def test_whoever_does_not_follow_is_told_what_happened(plane, served, http, stock):
    object_id, _ = stock(100)
    async with served(plane) as url:
        with pytest.raises(FormatError, match="redirects") as refused:
            await http.read_object(url, object_id, bearer="good")
    assert SECRET not in str(refused.value)


async def test_a_gateway_that_gives_links_although_asked_not_to_is_refused(served, http, site):
    async def stubborn(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        await send_response(send, 307, headers=[(b"location", b"http://store.example/plain")])

    async with served(stubborn) as url, HttpClient(site.tls_trust) as stores:
        with pytest.raises(FormatError, match="asked to send the object itself"):
            await http.read_object(url, NOBODY, bearer="good", follow=Follower(stores))


async def test_refusals_of_the_gateway_itself_are_passed_on(plane, served, http, site, stock, keyring):
    object_id, _ = stock(100)
    keyring.revoked.add("good")
    async with served(plane) as url, HttpClient(site.tls_trust) as stores:
        with pytest.raises(ForbiddenError, match="Withdrawn"):
            await http.read_object(url, object_id, bearer="good", follow=Follower(stores))


@pytest.mark.parametrize(
    "link",
    [
        "",
        "http://store.example/x",
        "HTTPS://store.example/x",
        "https:///x",
        "https://user@store.example/x",
        "https://user:word@store.example/x",
        "https://store.example/x#y",
        "https://store.example:port/x",
        "https://[store.example/x",
        "file:///etc/passwd",
        "/relative",
        "https://store.example/" + "x" * 9000,
    ],
)
def test_links_that_lead_anywhere_else_are_not_followed(link):
    with pytest.raises(FormatError) as refused:
        checked_link(link)
    assert "store.example" not in json.dumps(str(refused.value))
