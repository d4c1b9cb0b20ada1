"""Rollover of the internal CA: nobody meets a certificate of an issuer that it cannot know yet."""

import ssl
from typing import Any

import pytest
from cryptography import x509

from entrepot.core.errors import ConflictError
from entrepot.core.times import DAY
from entrepot.database import hierarchy
from entrepot.protocol.keysapi import KeysInfo, RollRequest
from entrepot.protocol.trust import Role, TrustDocument
from entrepot.site.keys.keyset import ISSUER_WAIT
from entrepot.site.upkeep import load_tls_certificate, renew_tls
from entrepot.trust.authority import SERVER_DAYS, issued_by_any, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.trust.pins import ca_certificates

from .test_signers import drafted, rolled, states


def _kid(site: Any) -> str:
    return site.keys.authority.key_entry("PS1").kid


def _listed(document: TrustDocument) -> dict[str, int]:
    return {entry.kid: entry.not_after for entry in document.keys if entry.role is Role.CA}


async def test_the_new_issuer_waits_a_week_and_the_old_one_is_believed_until_its_last_certificate_ends(
    site: Any,
) -> None:
    old, start = _kid(site), site.clock()
    document = await rolled(site, Role.CA)
    (new,) = set(_listed(document)) - {old}
    assert _listed(document)[old] == int(start) + ISSUER_WAIT + SERVER_DAYS * DAY
    assert _kid(site) == old
    assert (await states(site))[Role.CA] == ["listed", "signing"]
    assert site.keys.authorities.count("BEGIN CERTIFICATE") == 2  # both are believed at once
    site.clock.advance(ISSUER_WAIT - 1)
    last = site.keys.authority.issue_server(new_tls_key().public_key(), names=["dp.contoso.com"], now=site.clock())
    assert last.not_valid_after_utc.timestamp() <= _listed(document)[old]
    site.clock.advance(1)
    assert _kid(site) == new  # without a restart


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    ends = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
    one = client.wrap_bio(*ends[0], server_hostname=name)
    other = server.wrap_bio(*ends[1], server_side=True)
    done: set[Any] = set()
    for _ in range(10):
        for end in (one, other):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
            ends[1][0].write(ends[0][1].read())
            ends[0][0].write(ends[1][1].read())
    assert len(done) == 2


async def test_certificates_of_both_issuers_are_accepted_although_they_have_one_name(site: Any, tmp_path: Any) -> None:
    before = site.keys.authority
    document = await rolled(site, Role.CA)
    site.clock.advance(ISSUER_WAIT)
    after = site.keys.authority
    assert before.certificate.subject == after.certificate.subject
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=ca_certificates(document))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for number, issuer in enumerate((before, after)):
        key = new_tls_key()
        made = issuer.issue_server(key.public_key(), names=["dp.contoso.com"], now=_present(issuer))
        (tmp_path / f"{number}.crt").write_text(to_pem(made))
        (tmp_path / f"{number}.key").write_bytes(key_pem(key).reveal())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tmp_path / f"{number}.crt", tmp_path / f"{number}.key")
        _handshake(server, client, "dp.contoso.com")


def _present(issuer: Any) -> float:
    """OpenSSL compares with the computer's clock; the test's site lives at another time."""
    import time

    return max(time.time(), issuer.certificate.not_valid_before_utc.timestamp())


async def test_a_compromised_issuer_is_withdrawn_at_once_and_the_site_renews_its_certificate(site: Any) -> None:
    old = _kid(site)
    stale = load_tls_certificate(site.home)
    assert not renew_tls(site.home, site.keys, site.clock())
    document = await rolled(site, Role.CA, withdraw=(old,))
    assert old not in _listed(document)
    assert _kid(site) in _listed(document)  # no week of waiting: there is nobody else to issue
    assert not issued_by_any(stale, site.keys.authorities)
    assert renew_tls(site.home, site.keys, site.clock())
    fresh = load_tls_certificate(site.home)
    assert issued_by_any(fresh, site.keys.authorities)
    assert not renew_tls(site.home, site.keys, site.clock())


async def test_asking_again_gives_the_same_issuer_and_nothing_counts_before_the_root_signed(site: Any) -> None:
    old = _kid(site)
    first, second = await drafted(site, Role.CA), await drafted(site, Role.CA)
    assert _listed(first).keys() == _listed(second).keys()
    assert _kid(site) == old
    with site.database.reading() as connection:
        waiting = [row for row in hierarchy.site_role_keys(connection, "PS1") if not row.listed_in]
    assert [row.role for row in waiting] == [Role.CA]
    assert x509.load_der_x509_certificate(waiting[0].public).subject == site.keys.authority.certificate.subject


async def test_the_only_issuer_cannot_be_withdrawn(site: Any) -> None:
    with pytest.raises(ConflictError, match="without a key for ca"):
        await site.call("POST", "/keys/roll", KeysInfo, RollRequest(roles=(), withdraw=(_kid(site),)))
