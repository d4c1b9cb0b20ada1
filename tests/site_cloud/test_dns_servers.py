"""Asking name servers: a real one on this machine, that knows what it is told."""

import socketserver
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from entrepot.core.errors import BadInputError
from entrepot.site.cloud.dns import Resolved, check_name, dns_resolver, dns_texts

ZONE = {
    "cloud1.contoso.test.": ("CNAME", "app.azure.test."),
    "app.azure.test.": ("A", "192.0.2.1"),
    "old.contoso.test.": ("CNAME", "gone.azure.test."),
    "plain.contoso.test.": ("A", "198.51.100.7"),
    "asuid.cloud1.contoso.test.": ("TXT", '"4711" "0815"'),
}


TYPES = {"A": 1, "TXT": 16}


class _Answering(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query = dns.message.from_wire(self.request[0])
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        name, wanted = query.question[0].name.to_text(), query.question[0].rdtype
        while name in ZONE:
            kind, value = ZONE[name]
            if kind != "CNAME" and wanted != TYPES[kind]:
                break
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, value))
            name = value
            if kind != "CNAME":
                break
        if name not in ZONE and not any(entry.rdtype in TYPES.values() for entry in reply.answer):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        self.request[1].sendto(reply.to_wire(), self.client_address)


@pytest.fixture
def server() -> Iterator[str]:
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), _Answering) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


async def test_an_alias_is_followed_and_seen(server) -> None:
    resolve = dns_resolver([server])
    found = await resolve("cloud1.contoso.test")
    assert (found.canonical, found.addresses) == ("app.azure.test.", ("192.0.2.1",))
    verdict = await check_name("cloud1.contoso.test", "app.azure.test:443", resolve)
    assert (verdict.found, verdict.message) == (True, "")


async def test_what_leads_elsewhere_or_nowhere_is_told(server) -> None:
    resolve = dns_resolver([server])
    assert "198.51.100.7" in (await check_name("plain.contoso.test", "app.azure.test:443", resolve)).message
    missing = await check_name("new.contoso.test", "app.azure.test:443", resolve)
    assert not missing.found
    assert "CNAME app.azure.test" in missing.message


async def test_an_alias_to_the_right_name_is_good_though_that_has_no_address_yet(server) -> None:
    resolve = dns_resolver([server])
    verdict = await check_name("old.contoso.test", "gone.azure.test:443", resolve)
    assert (verdict.found, verdict.message) == (True, "")


async def test_text_records_are_told_whole_and_what_does_not_answer_tells_nothing(server) -> None:
    texts = dns_texts([server])
    assert await texts("asuid.cloud1.contoso.test") == ("47110815",), "a long text is several strings"
    assert await texts("plain.contoso.test") == ()
    assert await texts("new.contoso.test") == ()
    assert await texts("not..a.name") is None


async def test_without_servers_the_hosts_file_counts_as_well() -> None:
    async def hosts(name: str) -> Resolved:
        return Resolved(canonical=name, addresses=("127.0.0.1",))

    assert "127.0.0.1" in (await dns_resolver(fallback=hosts)("localhost")).addresses


@pytest.mark.parametrize("text", ["ns.contoso.test", "1.2.3", "1.2.3.4:dns", ""])
def test_a_name_server_is_an_address(text) -> None:
    with pytest.raises(BadInputError):
        dns_resolver([text])
