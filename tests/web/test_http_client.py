"""The client side: how servers are trusted, and what failures say."""

import asyncio
import hashlib
import socket
import ssl
import struct

import aiohttp
import msgspec
import pytest

from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    FormatError,
    LimitedError,
    TrustError,
    UnavailableError,
)
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.trust.authority import create_authority
from entrepot.web import asgi
from entrepot.web.asgi import header, read_body, send_json, send_problem, send_response
from entrepot.web.failures import NameResolutionError, NoRouteError, explain
from entrepot.web.http import HttpClient, Timeouts
from entrepot.web.tls import TlsTrust


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    token: str = ""
    body: str = ""
    host: str = ""


async def echo(scope, receive, send):
    if scope["path"] == "/big":
        return await send_response(send, 200, bytes(100_000))
    if scope["path"] == "/redirect":
        return await send_response(send, 302, headers=[(b"location", b"https://elsewhere.example/")])
    if scope["path"] == "/busy":
        return await send_problem(send, ConflictError("It is\x1b[31m busy.", next_step="Wait."))
    if scope["path"] == "/silent":
        await asyncio.sleep(60)
    body = await read_body(scope, receive, 1000)
    reply = Echo(
        method=scope["method"],
        token=header(scope, b"authorization") or "",
        body=body.decode(),
        host=header(scope, b"host") or "",
    )
    return await send_json(send, msgspec.json.encode(reply))


async def test_json_goes_out_and_comes_back(served, http):
    async with served(echo) as url:
        reply = await http.request_json("POST", f"{url}/", {"a": 1}, Echo, bearer=Secret("tok"))
        nothing = await http.request_json("POST", f"{url}/", None, type(None))
    assert (reply.method, reply.body, reply.token, nothing) == ("POST", '{"a":1}', "Bearer tok", None)


async def test_an_answer_of_another_shape_or_size_is_refused(served, http):
    async with served(echo) as url:
        with pytest.raises(FormatError):
            await http.request_json("GET", f"{url}/", None, list[int])
        with pytest.raises(LimitedError):
            await http.request("GET", f"{url}/big", limit=99_999)
        assert len((await http.request("GET", f"{url}/big", limit=100_000)).body) == 100_000


async def test_a_problem_becomes_its_error_and_is_safe_to_print(served, http):
    async with served(echo) as url:
        with pytest.raises(ConflictError) as refused:
            await http.request("GET", f"{url}/busy")
    assert (refused.value.message, refused.value.next_step) == ("It is [31m busy.", "Wait.")


async def test_redirects_are_not_followed(served, http):
    async with served(echo) as url:
        with pytest.raises(FormatError, match="redirects"):
            await http.request("GET", f"{url}/redirect")


async def test_a_server_that_does_not_answer_in_time_is_unavailable(served, http):
    async with served(echo) as url:
        with pytest.raises(UnavailableError, match="in time"):
            await http.request("GET", f"{url}/silent", timeouts=Timeouts(total=0.2))


async def test_a_certificate_of_another_issuer_is_a_matter_of_trust(served):
    stranger = create_authority("Fabrikam", now=1_700_000_000)
    async with served(echo) as url, HttpClient(TlsTrust.hierarchy(stranger.pem())) as http:
        with pytest.raises(TrustError, match="not acceptable"):
            await http.request("GET", url)
    async with served(echo) as url, HttpClient(TlsTrust.system()) as http:
        with pytest.raises(TrustError):
            await http.request("GET", url)


async def test_a_certificate_for_another_name_is_refused(served, site):
    async with served(echo) as url:
        port = url.rpartition(":")[2]
        async with HttpClient(site.tls_trust, {"cdp.contoso.example": "127.0.0.1"}) as http:
            with pytest.raises(TrustError, match=r"cdp\.contoso\.example"):
                await http.request("GET", f"https://cdp.contoso.example:{port}/")


async def test_a_fixed_address_replaces_dns_but_not_the_name(served, site):
    async with served(echo) as url:
        port = url.rpartition(":")[2]
        async with HttpClient(site.tls_trust, {"LOCALHOST": f"127.0.0.1:{port}"}, "http://127.0.0.1:1") as http:
            reply = await http.request_json("GET", "https://localhost/", None, Echo)
    assert reply.host == "localhost"


async def test_a_pin_accepts_one_certificate_only(served, tls):
    der = ssl.PEM_cert_to_DER_cert(tls.cert.read_text())
    async with served(echo) as url:
        async with HttpClient(TlsTrust.pinned(hashlib.sha256(der).digest())) as http:
            assert (await http.request("GET", url)).status == 200
        async with HttpClient(TlsTrust.pinned(bytes(32), hashlib.sha256(der).digest())) as http:
            assert (await http.request("GET", url)).status == 200, "the next one of a key that is being replaced"
        async with HttpClient(TlsTrust.pinned(bytes(32), bytes(range(32)))) as http:
            with pytest.raises(TrustError, match="another certificate than the pinned one"):
                await http.request("GET", url)


async def test_the_extra_roots_of_a_device_count(served, site):
    async with served(echo) as url, HttpClient(TlsTrust.system(site.authority.pem())) as http:
        assert (await http.request("GET", url)).status == 200


def test_a_trust_must_be_usable():
    with pytest.raises(TrustError):
        TlsTrust.hierarchy("")
    with pytest.raises(TrustError):
        TlsTrust().verifier()
    with pytest.raises(BadInputError):
        TlsTrust.pinned(b"short")
    with pytest.raises(TrustError, match="cannot be read"):
        TlsTrust.hierarchy("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n").verifier()
    with pytest.raises(TrustError, match="cannot be read"):
        TlsTrust.system("# für alle\n-----BEGIN CERTIFICATE-----\n").verifier()


async def test_nobody_listening_is_unavailable_and_says_so(http):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port} refuses"):
            await http.request("GET", f"https://127.0.0.1:{port}/")


async def test_an_unknown_name_is_told_from_a_missing_route(site):
    """R6: the agent reports which of the two fails."""
    async with HttpClient(site.tls_trust) as http:
        with pytest.raises(NameResolutionError, match=r"no-such-host\.invalid"):
            await http.request("GET", "https://no-such-host.invalid/")
    key = aiohttp.client_reqrep.ConnectionKey("h", 443, True, True, None, None, None)
    for number in (101, 113):  # ENETUNREACH, EHOSTUNREACH
        error = aiohttp.ClientConnectorError(key, OSError(number, "Network is unreachable"))
        assert isinstance(explain(error, "https://h/"), NoRouteError)


async def test_a_server_that_speaks_no_tls_is_named(http):
    async def plain(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((TrustError, UnavailableError)) as failed:
            await http.request("GET", f"https://127.0.0.1:{port}/")
    assert f"127.0.0.1:{port}" in failed.value.message


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x03\x00\x7a\x02\x00"])
@pytest.mark.parametrize("reset", [True, False])
async def test_a_handshake_that_is_broken_off_may_be_tried_again(http, first, reset):
    """So it happens to whoever connects in the moment in which a server changes over to a renewed certificate."""

    async def broken_off(reader, writer):
        await reader.read(10)
        writer.write(first)
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(broken_off, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port} closed the connection") as failed:
            await http.request("GET", f"https://127.0.0.1:{port}/")
    assert failed.value.retryable


@pytest.mark.parametrize(
    ("status", "words"), [(403, "does not lead to cdp.* 403"), (502, "502"), (407, "user or the password")]
)
async def test_the_proxy_setting_is_used_and_its_refusal_is_named(site, status, words):
    asked = asyncio.Queue()

    async def proxy(reader, writer):
        asked.put_nowait(await reader.readline())
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with HttpClient(site.tls_trust, proxy=f"http://site:secret@127.0.0.1:{port}") as http:
            with pytest.raises(NoRouteError, match=words) as refused:
                await http.request("GET", "https://cdp.contoso.example/")
    assert asked.get_nowait() == b"CONNECT cdp.contoso.example:443 HTTP/1.1\r\n"
    assert "secret" not in str(refused.value)


async def test_a_proxy_that_does_not_run_is_told_from_one_that_refuses(site):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        async with HttpClient(site.tls_trust, proxy=f"http://site:secret@127.0.0.1:{nobody.getsockname()[1]}") as http:
            with pytest.raises(NoRouteError, match=r"proxy on the way to cdp.* cannot be reached") as refused:
                await http.request("GET", "https://cdp.contoso.example/")
    assert "secret" not in str(refused.value)


async def test_what_is_no_url_is_bad_input(http):
    for url in ("", "nonsense", "ftp://h/", "https://h:99999/", "https://"):
        with pytest.raises(BadInputError):
            await http.request("GET", url)


@pytest.mark.parametrize("url", ["https://user:secret@127.0.0.1:1/", f"https://{'x' * 64}.example/"])
async def test_an_address_with_a_password_or_an_impossible_name_is_bad_input(http, url):
    with pytest.raises(BadInputError, match="cannot be asked") as caught:
        await http.request("GET", url, bearer=Secret("tok"))
    assert "secret" not in caught.value.message


async def test_a_token_that_would_add_headers_is_bad_input(served, http):
    async with served(echo) as url:
        with pytest.raises(BadInputError, match="cannot be asked") as caught:
            await http.request("GET", url, bearer="tok\r\nX-Evil: 1")
    assert "Evil" not in caught.value.message


async def test_nothing_is_sent_in_the_clear(http):
    asked = asyncio.Queue()
    server = await asyncio.start_server(lambda reader, _: asked.put(reader), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BadInputError, match="https"):
            await http.request("GET", f"http://127.0.0.1:{port}/", bearer=Secret("tok"))
    assert asked.empty()


async def test_a_source_that_drips_is_given_up(served, http):
    async def drip(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0.02)

    async with served(drip) as url:
        with pytest.raises(UnavailableError, match="too slowly"):
            await http.read_object(url, ObjectId(bytes(32)), bearer=None, timeouts=Timeouts(stall=0.2, total=None))


async def test_a_body_that_drips_is_given_up(served, http, monkeypatch):
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(asgi, "BODY_RATE", 10**9)

    async def drip():
        while True:
            yield b"x"
            await asyncio.sleep(0.02)

    async with served(echo) as url:
        with pytest.raises(UnavailableError, match="did not arrive in time"):
            await http.request("POST", f"{url}/", body=drip())


async def test_tls_below_1_2_is_refused(served, site):
    async with served(echo) as url:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=site.authority.pem())
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        host, port = url.removeprefix("https://").split(":")
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(host, int(port), ssl=context)
