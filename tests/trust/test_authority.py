"""The hierarchy's issuer: its certificates satisfy strict verification, and it signs only what its caller names."""

import datetime
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entrepot.core.errors import BadInputError, FormatError
from entrepot.core.secret import Secret
from entrepot.protocol.trust import Role
from entrepot.trust.authority import Authority, create_authority, make_csr, new_tls_key, public_key_of
from entrepot.trust.certificates import check_service_certificate, expires, key_pem, load_pfx, to_pem

DAY = 86_400
P256, EC_KEY = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06072a8648ce3d0201")  # DER object identifiers


@pytest.fixture(scope="module")
def authority(hierarchy):
    return create_authority("Contoso", now=hierarchy.now)


@pytest.fixture(scope="module")
def present():
    """An issuer that is valid at the real present: OpenSSL verifies against the computer's clock."""
    return create_authority("Contoso", 30, now=time.time())


def handshake(server_files, client, name):
    """One TLS handshake in memory; returns the client's side."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*server_files)
    pipes = [ssl.MemoryBIO() for _ in range(4)]
    ours = client.wrap_bio(pipes[0], pipes[1], server_hostname=name)
    theirs = server.wrap_bio(pipes[2], pipes[3], server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            finally:
                pipes[2].write(pipes[1].read())
                pipes[0].write(pipes[3].read())
    assert ours.version() is not None
    return ours


@pytest.fixture
def strict(present):
    context = ssl.create_default_context(cadata=present.pem())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.fixture
def server_files(present, tmp_path):
    key = new_tls_key()
    names = ["site.contoso.com", "x" * 60 + ".contoso.com"]
    issued = present.issue_server(make_csr(key), names=names, ips=["127.0.0.1", "::1"], days=7, now=time.time())
    (tmp_path / "cert.pem").write_text(to_pem(issued))
    (tmp_path / "key.pem").write_bytes(key_pem(key).reveal())
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.mark.parametrize("name", ["site.contoso.com", "x" * 60 + ".contoso.com", "127.0.0.1", "::1"])
def test_openssl_accepts_every_name_in_strict_mode(server_files, strict, name):
    assert handshake(server_files, strict, name).getpeercert()["subjectAltName"]


@pytest.mark.parametrize("name", ["other.contoso.com", "127.0.0.2"])
def test_openssl_refuses_every_other_name(server_files, strict, name):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not match|not valid for"):
        handshake(server_files, strict, name)


def test_another_hierarchys_issuer_is_not_trusted(server_files, hierarchy):
    client = ssl.create_default_context(cadata=create_authority("Contoso", 30, now=time.time()).pem())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_files, client, "site.contoso.com")


def test_a_stricter_verifier_agrees(authority, hierarchy):
    issued = authority.issue_server(new_tls_key().public_key(), names=["a.contoso.com"], now=hierarchy.now)
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([authority.certificate]))
        .time(datetime.datetime.fromtimestamp(hierarchy.now, datetime.UTC))
        .build_server_verifier(x509.DNSName("a.contoso.com"))
    )
    assert verifier.verify(issued, []) == [issued, authority.certificate]


def test_the_issuer_can_issue_servers_and_nothing_below_them(authority):
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = authority.certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature


def test_a_server_certificate_is_for_servers_and_links_to_its_issuer(authority, hierarchy):
    issued = authority.issue_server(new_tls_key().public_key(), names=["a.contoso.com"], now=hierarchy.now)
    issued.verify_directly_issued_by(authority.certificate)
    extensions = issued.extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == own.digest
    assert expires(issued) == hierarchy.now + 398 * DAY


def test_a_request_proves_a_key_and_brings_no_names(authority, hierarchy):
    key = new_tls_key()
    greedy = (
        x509.CertificateSigningRequestBuilder(
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank.example")])
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bank.example")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    issued = authority.issue_server(greedy, names=["a.contoso.com"], now=hierarchy.now)
    assert b"bank" not in issued.public_bytes(Encoding.DER)
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issued.public_key() == key.public_key()


def test_a_damaged_request_is_refused():
    csr = bytearray(make_csr(new_tls_key()))
    csr[-1] ^= 1
    for junk in (bytes(csr), b"", b"junk", bytes(20_000)):
        with pytest.raises(BadInputError, match="certificate request"):
            public_key_of(junk)


def test_a_request_of_another_version_is_refused():
    csr = make_csr(new_tls_key())
    version = bytes.fromhex("020100")
    assert csr.count(version) >= 1
    with pytest.raises(BadInputError, match="not a valid certificate request"):
        public_key_of(csr.replace(version, version[:-1] + b"\x05", 1))


def test_a_request_for_a_key_of_an_unknown_kind_is_refused():
    csr = make_csr(new_tls_key())
    for known in (P256, EC_KEY):  # its last digit becomes one that nobody assigned
        with pytest.raises(BadInputError, match="certificate request"):
            public_key_of(csr.replace(known, known[:-1] + b"\x63"))


@pytest.mark.parametrize("weak", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP521R1())])
def test_keys_of_other_kinds_get_no_certificate(authority, hierarchy, weak):
    with pytest.raises(BadInputError, match="too weak"):
        authority.issue_server(make_csr(weak), names=["a.contoso.com"], now=hierarchy.now)


@pytest.mark.parametrize(
    ("names", "ips"),
    [
        ([], []),
        (["*.contoso.com"], []),
        (["a b"], []),
        ([""], []),
        (["é.contoso.com"], []),
        ([], ["300.1.1.1"]),
        (["x"] * 101, []),
    ],
)
def test_impossible_names_are_refused(authority, hierarchy, names, ips):
    with pytest.raises(BadInputError):
        authority.issue_server(new_tls_key().public_key(), names=names, ips=ips, now=hierarchy.now)


def test_no_certificate_outlives_its_issuer(hierarchy):
    short = create_authority("Contoso", 10, now=hierarchy.now)
    issued = short.issue_server(new_tls_key().public_key(), names=["a.b"], days=398, now=hierarchy.now)
    assert expires(issued) == hierarchy.now + 10 * DAY
    with pytest.raises(BadInputError, match="issuer has expired"):
        short.issue_server(new_tls_key().public_key(), names=["a.b"], now=hierarchy.now + 11 * DAY)


def test_a_service_certificate_from_the_issuer_meets_the_rules(authority, hierarchy):
    data = authority.issue_service_pfx("cloud1.contoso.com", password=Secret("p"), now=hierarchy.now)
    loaded = load_pfx(data, Secret("p"), hierarchy.now)
    assert check_service_certificate(loaded, "", hierarchy.now) == "cloud1.contoso.com"
    assert loaded.chain == (authority.certificate,)


def test_an_issuer_survives_storage(authority, hierarchy):
    again = Authority.load(authority.pem().encode(), authority.key_pem())
    issued = again.issue_server(new_tls_key().public_key(), names=["a.b"], now=hierarchy.now)
    issued.verify_directly_issued_by(authority.certificate)
    assert "key=***" in repr(again)


def test_an_issuer_with_another_key_is_refused(authority):
    for wrong in (key_pem(new_tls_key()), Secret(b"junk"), key_pem(rsa.generate_private_key(65537, 1024))):
        with pytest.raises(FormatError, match="not the key of its certificate"):
            Authority.load(authority.pem().encode(), wrong)


def test_the_trust_document_lists_an_issuer_with_its_validity(authority, hierarchy):
    listed = authority.key_entry("PS1")
    assert listed.role is Role.CA
    assert listed.public == authority.certificate.public_bytes(Encoding.DER)
    assert listed.not_after == expires(authority.certificate)
    document = hierarchy.document(keys=(*hierarchy.document().keys, listed))
    assert hierarchy.root.sign_trust(document)


def test_a_long_hierarchy_name_makes_a_subject_of_allowed_length(hierarchy):
    made = create_authority("x" * 200, now=hierarchy.now)
    assert len(made.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value) <= 64
