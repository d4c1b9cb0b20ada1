"""Addresses of servers: what is one, and what is said of the rest."""

import pytest

from entrepot.core.addresses import is_wildcard, parse_listen, parse_ports, server_url
from entrepot.core.errors import BadInputError


@pytest.mark.parametrize(
    ("text", "parsed"), [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:8443", ("::1", 8443)), ("host:443", ("host", 443))]
)
def test_listening_addresses(text, parsed):
    assert parse_listen(text) == parsed


@pytest.mark.parametrize(
    "text", ["", "8443", ":8443", "host:", "host:x", "host:70000", "host:-1", "host:٣", "host:" + "9" * 5000]
)
def test_what_is_no_listening_address(text):
    with pytest.raises(BadInputError):
        parse_listen(text)


@pytest.mark.parametrize("text", ["https://site.example", "https://10.0.0.1:8443", "https://[2001:db8::1]:8443"])
def test_addresses_that_others_reach_a_server_at(text):
    assert server_url(text, "a site") == text


@pytest.mark.parametrize(
    "text",
    ["", "site.example:8443", "http://site.example", "https://", "https://:8443", "https://site.example/",
     "https://site.example/x", "https://site.example?x", "https://a b:8443", "https://me@site.example", "https://[::1",
     "https://site.example:0", "https://site.example:99999", "https://site.example:x", "https://a\nb",
     "https://" + "a" * 600],
)  # fmt: skip
def test_what_is_no_such_address_is_refused_with_the_form_it_should_have(text):
    with pytest.raises(BadInputError, match="is not an address of a site") as caught:
        server_url(text, "a site")
    assert caught.value.next_step == "Write https://host:port."


def test_a_name_that_dns_does_not_have_like_that_is_refused_with_an_example():
    with pytest.raises(BadInputError, match="not written as DNS has it") as caught:
        server_url("https://bücher.example", "a site")
    assert "xn--bcher-kva.example" in caught.value.next_step


def test_ports_and_ranges_of_them():
    assert parse_ports("443, 8443-8499") == (range(443, 444), range(8443, 8500))
    assert parse_ports("1-65535") == (range(1, 65_536),)


@pytest.mark.parametrize("text", ["", "0", "65536", "9-8", "1-", "-1", "443,", "http", "1-2-3", "٣"])
def test_what_names_no_ports_is_refused(text):
    with pytest.raises(BadInputError, match="ports"):
        parse_ports(text)


def test_which_address_stands_for_all_of_a_machine():
    assert [is_wildcard(one) for one in ("0.0.0.0", "::", "[::]", "0:0::0")] == [True] * 4
    assert [is_wildcard(one) for one in ("", "127.0.0.1", "::1", "cloud.example")] == [False] * 4
