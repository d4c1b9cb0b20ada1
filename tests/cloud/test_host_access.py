"""Who gets into a cloud host, and who does not: assertions, certificates, subscriptions, pins."""

import asyncio
import secrets
import signal
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.host.settings import load_settings, save_settings
from entrepot.cloud.host.setup import init_host
from entrepot.cloud.oauth import FORM_TYPE, TOKEN_PATH, token_form
from entrepot.cloud.providers.host import HostProvider
from entrepot.core.encoding import from_json
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    EntrepotError,
    ForbiddenError,
    NotFoundError,
    QuotaError,
    TooLargeError,
    TrustError,
    UnauthenticatedError,
)
from entrepot.core.sizes import MIB
from entrepot.protocol.cloudhost import AccessToken
from entrepot.trust.assertions import make_client_assertion
from entrepot.trust.certificates import Pair, new_management
from entrepot.trust.inspection import key_pem
from entrepot.web.http import HttpClient
from entrepot.web.tls import TlsTrust

from .. import waiting

pytestmark = pytest.mark.process


class Door:
    """Asks the token endpoint by hand."""

    def __init__(self, host: Any, pair: Pair, subscription: str) -> None:
        self.url = host.identity.url
        self.pair, self.subscription = pair, subscription
        self.http = HttpClient(TlsTrust.pinned(host.identity.pin))

    def assertion(
        self, *, audience: str = "", now: float | None = None, pair: Pair | None = None, jti: str = ""
    ) -> str:
        signer = pair or self.pair
        return make_client_assertion(
            signer.key,
            signer.certificate,
            self.subscription,
            audience or self.url + TOKEN_PATH,
            now or time.time(),
            jti or secrets.token_hex(8),
        )

    async def ask(self, assertion: str) -> AccessToken:
        return await self.send(token_form(self.subscription, assertion))

    async def send(self, form: bytes) -> AccessToken:
        answer = await self.http.request("POST", self.url + TOKEN_PATH, body=form, headers={"Content-Type": FORM_TYPE})
        return from_json(answer.body, AccessToken, "token")

    async def get(self, path: str, token: str) -> bytes:
        return (await self.http.request("GET", self.url + path, bearer=token)).body


@pytest.fixture
async def door(host: Any, provider: HostProvider, management: Pair) -> Any:
    """The token endpoint, for the subscription that the provider uses."""
    opened = Door(host, management, provider._subscription)
    yield opened
    await opened.http.close()


async def test_an_assertion_gives_a_token_once(door: Door) -> None:
    assertion = door.assertion()
    access = await door.ask(assertion)
    assert access.token_type == "Bearer"
    assert 600 <= access.expires_in <= 3600
    assert b"contoso" in await door.get(f"/subscriptions/{door.subscription}", access.access_token)
    with pytest.raises(UnauthenticatedError, match="used before"):
        await door.ask(assertion)


async def test_a_used_assertion_stays_used_when_the_host_was_killed(host: Any, door: Door) -> None:
    assertion = door.assertion()
    access = await door.ask(assertion)
    await door.http.close()
    host.end(signal.SIGKILL)
    host.start()
    with pytest.raises(UnauthenticatedError, match="used before"):
        await door.ask(assertion)
    assert await door.get(f"/subscriptions/{door.subscription}", access.access_token), "the access token is kept"


async def test_assertions_that_are_not_good_are_refused_with_the_reason(door: Door) -> None:
    now = time.time()
    for assertion, reason in (
        (door.assertion(audience="https://other.example/oauth2/token"), "audience"),
        (door.assertion(audience=door.url), "audience"),
        (door.assertion(now=now - 1000), "expired"),
        (door.assertion(now=now + 1000), "not valid yet"),
        (door.assertion(pair=new_management("stranger", 5, "ec", now=now)), "thumbprint"),
        (door.assertion()[:-4] + "AAAA", "refused"),
        ("no.assertion", "refused"),
        ("", "refused"),
    ):
        with pytest.raises(UnauthenticatedError, match=reason):
            await door.ask(assertion)


async def test_token_requests_of_another_form_are_refused(door: Door) -> None:
    good = token_form(door.subscription, door.assertion())
    for form in (b"", b"\xff", b"grant_type=password", good + b"&grant_type=x", b"a=b&" * 50 + good):
        with pytest.raises(BadInputError):
            await door.send(form)
    with pytest.raises(TooLargeError):
        await door.send(b"x" * 100_000)


async def test_a_revoked_certificate_is_refused_and_so_is_what_it_opened(
    door: Door, administration: HostAdministration
) -> None:
    access = await door.ask(door.assertion())
    [row] = administration.certificates("contoso")
    administration.revoke_certificate("contoso", row.thumbprint[:12])
    with pytest.raises(UnauthenticatedError, match="not valid"):
        await door.get(f"/subscriptions/{door.subscription}", access.access_token)
    with pytest.raises(UnauthenticatedError, match="revoked at"):
        await door.ask(door.assertion())
    with pytest.raises(ConflictError, match="revoked"):
        administration.upload_certificate("contoso", door.pair.cer)


async def test_an_expired_certificate_is_neither_uploaded_nor_accepted(
    door: Door, administration: HostAdministration, host: Any
) -> None:
    past = new_management("old", 1, "ec", now=time.time() - 3 * 86400)
    with pytest.raises(BadInputError, match="expired"):
        administration.upload_certificate("contoso", past.cer)
    HostAdministration(host.home, clock=lambda: time.time() - 2.5 * 86400).upload_certificate("contoso", past.cer)
    with pytest.raises(UnauthenticatedError, match="expired"):
        await door.ask(door.assertion(pair=past))


async def test_subscriptions_do_not_see_each_other(
    host: Any, provider: HostProvider, administration: HostAdministration, site: Any, providers: Callable[..., Any]
) -> None:
    await provider.create("dp1", site.spec(1))
    other = administration.add_subscription("fabrikam")
    pair = new_management("fabrikam", 5, "rsa", now=time.time())
    administration.upload_certificate("fabrikam", pair.cer)
    async with providers(other.id, pair) as stranger:
        assert (await stranger.check()).name == "fabrikam"
        assert await stranger.services() == []
        with pytest.raises(NotFoundError):
            await stranger.status("dp1")
        assert (await stranger.delete("dp1")).left == ()
        token = (await stranger._bearer()).reveal_text()
        mine = (await provider.check()).id
        with pytest.raises(NotFoundError, match="no such subscription"):
            await stranger._http.request("GET", f"{host.identity.url}/subscriptions/{mine}/services/dp1", bearer=token)
    assert (await provider.status("dp1")).name == "dp1"
    async with providers(mine, pair) as thief:
        with pytest.raises(UnauthenticatedError, match="thumbprint"):
            await thief.check()


async def test_a_disabled_subscription_gets_no_token(door: Door, administration: HostAdministration) -> None:
    administration.disable_subscription("contoso")
    with pytest.raises(ForbiddenError, match="disabled"):
        await door.ask(door.assertion())


async def test_a_host_with_another_certificate_is_not_trusted(host: Any, management: Pair) -> None:
    async with HostProvider(
        url=host.identity.url,
        pin=bytes(32),
        subscription="sub-0123456789abcdef",
        certificate=management.cer,
        private_key=key_pem(management.key),
    ) as deceived:
        with pytest.raises(TrustError, match="another certificate than the pinned one"):
            await deceived.check()
    await asyncio.sleep(0.3)  # aiohttp lets a refused connection end by itself


async def test_a_token_that_was_lost_is_replaced(provider: HostProvider) -> None:
    await provider.check()
    assert provider._token is not None
    provider._token = (msgspec.json.decode(b'"x"') and type(provider._token[0])("stale"), provider._token[1])
    assert (await provider.check()).name == "contoso"


async def test_specifications_that_cannot_work_are_refused_before_anything_is_made(
    host: Any, provider: HostProvider, site: Any
) -> None:
    good = site.spec(1)
    other = site.spec(1)
    for change, reason in (
        ({"instances": 0}, "instances"),
        ({"instances": 65}, "instances"),
        ({"root": b"short"}, "root"),
        ({"point": "../etc"}, "distribution point"),
        ({"private_key": other.private_key}, "not the key"),
        ({"private_key": "no key"}, "private key"),
        ({"certificate": "no certificate"}, "PEM"),
        ({"fqdn": "other.example"}, "not for other.example"),
    ):
        with pytest.raises(BadInputError, match=reason):
            await provider.create("dp1", msgspec.structs.replace(good, **change))
    for name in ("DP1", "-dp", "d" * 64, "a.b"):
        with pytest.raises(BadInputError, match="service name"):
            await provider.create(name, good)
    assert await provider.services() == []
    assert list((host.home / "services").iterdir()) == []


async def test_quotas_bind(
    host: Any, provider: HostProvider, administration: HostAdministration, site: Any, providers: Callable[..., Any]
) -> None:
    small = administration.add_subscription("small", storage_quota=2_000_000, instance_quota=2)
    pair = new_management("small", 5, "ec", now=time.time())
    administration.upload_certificate("small", pair.cer)
    async with providers(small.id, pair) as own:
        await own.create("dp1", site.spec(1))
        with pytest.raises(QuotaError, match="may run 2 instances"):
            await own.scale("dp1", 3)
        with pytest.raises(QuotaError, match="other services have 1"):
            await own.create("dp2", site.spec(2, fqdn="cloud2.contoso.example"))
        with pytest.raises(ConflictError, match="another distribution point"):
            await own.create("dp1", msgspec.structs.replace(site.spec(1), point="pt-ffffffffffffffff"))
        holder = own.holder("dp1")
        stored = 0
        with pytest.raises(Exception, match="quota is used up") as caught:
            for object_id, data in site.objects.items():
                await holder.put(object_id, len(data), lambda data=data: [data])
                stored += 1
        assert caught.value.code in ("quota_exceeded", "storage")  # type: ignore[attr-defined]  # an EntrepotError
        assert stored == 2
        status = await own.status("dp1")
        assert status.stored_objects == 2
        filler = bytes(MIB)
        with pytest.raises(Exception, match="quota is used up"):
            for number in range(70):  # documents go beyond by 64 MiB, all of them together
                await holder.put_document(f"more/{number}", filler)
        assert (await own.status("dp1")).stored_bytes < 2_000_000 + 64 * MIB
        await holder.put_document("control", b"still possible: a full subscription must be stopped, too")
        await holder.delete(next(iter(site.objects)))
        assert (await own.status("dp1")).stored_objects == 1


async def test_orders_that_were_refused_are_in_the_audit_log(
    host: Any, door: Door, administration: HostAdministration
) -> None:
    token = (await door.ask(door.assertion())).access_token
    service = f"{door.url}/subscriptions/{door.subscription}/services/dp1"
    orders = (("PUT", ""), ("POST", "/scale"), ("POST", "/start"), ("DELETE", ""))
    for method, action in orders:
        with pytest.raises(EntrepotError):
            await door.http.request(method, service + action, bearer=token, body=b"{no JSON")
    noted = [line for line in administration.audited(100) if str(line["action"]).startswith("service.")]
    assert [(line["action"], line["subject"], line["outcome"]) for line in noted] == [
        ("service.put", "dp1", "bad_input"),
        ("service.scale", "dp1", "bad_input"),
        ("service.start", "dp1", "not_found"),
        ("service.delete", "dp1", "not_found"),
    ]


async def test_another_method_is_told_which_ones_are_taken(door: Door) -> None:
    token = (await door.ask(door.assertion())).access_token
    account = f"{door.url}/subscriptions/{door.subscription}"
    for method, path, allowed in (
        ("PATCH", "/services/dp1", "GET, HEAD, PUT, DELETE"),
        ("GET", "/services/dp1/stop", "POST"),
        ("DELETE", "/services", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ):
        answer = await door.http.request(method, account + path, bearer=token, accept=(405,))
        assert (answer.status, answer.headers["allow"]) == (405, allowed)
        assert answer.headers["content-type"] == "application/problem+json"
        assert allowed in answer.body.decode()
    with pytest.raises(NotFoundError):
        await door.http.request("POST", f"{account}/services/dp1/restart", bearer=token)


async def test_refused_strangers_cannot_fill_the_audit_log(host: Any, door: Door) -> None:
    stranger = new_management("stranger", 30, "ec", now=time.time())
    for _ in range(40):
        with pytest.raises(UnauthenticatedError):
            await door.ask(door.assertion(pair=stranger))
    lines = (host.home / "audit-unknown.log").read_text().splitlines()
    refused = [line for line in lines if '"outcome":"unauthenticated"' in line]
    assert 1 <= len(refused) < 40


async def test_no_address_keeps_sites_from_their_host_by_silent_connections(tmp_path: Path, host_process: Any) -> None:
    home = tmp_path / "host"
    identity = init_host(home, "127.0.0.1:0", now=time.time())
    save_settings(home, msgspec.structs.replace(load_settings(home), address_connections=3))
    process = host_process(home, identity)
    process.start()
    context = ssl._create_unverified_context()  # it asks nothing, and sends nothing
    port = int(identity.url.rpartition(":")[2])
    silent = [await asyncio.open_connection("127.0.0.1", port, ssl=context) for _ in range(8)]
    try:
        await waiting.until(lambda: "connections_of_one_address_ended" in process.log())
    finally:
        for _, writer in silent:
            writer.transport.abort()
        process.end()
