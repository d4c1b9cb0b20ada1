"""What a gateway and a cloud host speak of TLS, tried as scanners do: every protocol, every family of ciphers.

Hellos of dead protocols and ciphers are made by hand (``hello``), the rest by Python's ssl and Debian's openssl.
"""

import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from entrepot.cloud.host.setup import init_host

from .conftest import FQDN
from .hello import DOWNGRADE_MARK, MODERN_GROUPS, TLS12, client_hello, say, ssl2_hello

pytestmark = pytest.mark.process

GOOD = {0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9}
"""ECDHE with AES-GCM or ChaCha20-Poly1305 (RFC 5289, RFC 7905): forward secrecy, authenticated encryption."""
ALL = [*range(0x0001, 0x00C6), *range(0xC001, 0xC0B4), *range(0xCC13, 0xCC16), *range(0xCCA8, 0xCCAF), 0xFEFE, 0xFEFF]
"""Every cipher suite of TLS 1.2 and before in IANA's registry, and a few that were drafts."""
FAMILIES = {
    "no encryption": [0x0001, 0x0002, 0x003B, 0xC001, 0xC006, 0xC00B, 0xC010, 0xC015],
    "no authentication": [0x0017, 0x0018, 0x001B, 0x0034, 0x003A, 0x006C, 0x00A6, 0x00A7, 0xC017, 0xC018, 0xC019],
    "export": [0x0003, 0x0006, 0x0008, 0x000B, 0x000E, 0x0011, 0x0014, 0x0019, *range(0x0026, 0x002C)],
    "RC4": [0x0004, 0x0005, 0xC002, 0xC007, 0xC00C, 0xC011],
    "DES and 3DES": [0x0009, 0x000A, 0x000C, 0x0015, 0x0016, 0xC003, 0xC008, 0xC00D, 0xC012],
    "RC2 and IDEA": [0x0006, 0x0007],
    "CBC": [0x002F, 0x0035, 0x003C, 0x003D, 0xC009, 0xC00A, 0xC013, 0xC014, 0xC023, 0xC024, 0xC027, 0xC028],
    "RSA key exchange": [0x002F, 0x0035, 0x009C, 0x009D, 0xC09C, 0xC09D],
    "finite-field DHE": [0x0033, 0x0039, 0x0067, 0x006B, 0x009E, 0x009F, 0xCCAA],
    "pre-shared keys": [0x008C, 0x008D, 0x00A8, 0x00A9, 0xC035, 0xC036, 0xCCAB],
    "SRP": list(range(0xC01A, 0xC023)),
    "Camellia, SEED, ARIA": [0x0041, 0x0084, 0x0096, 0x00BA, 0x00C0, 0xC03C, 0xC050, 0xC05C, 0xC060],
}


class Target:
    """A server that is tried: where it is, its name, the issuer that clients know."""

    def __init__(self, port: int, name: str, ca: Path) -> None:
        self.port, self.name, self.ca = port, name, ca

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def connect(self, context: ssl.SSLContext, name: str = "") -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return context.wrap_socket(raw, server_hostname=name or self.name)

    def openssl(self, *arguments: str, say: str = "") -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", "-servername", self.name]
        command += ["-CAfile", str(self.ca), *arguments]
        ran = subprocess.run(command, input=say, capture_output=True, text=True, timeout=60, check=False)
        return ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def cloud_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cloud host without services."""
    from .conftest import HostProcess  # not a fixture: this one lives longer

    folder = tmp_path_factory.mktemp("host")
    made = HostProcess(folder / "home", init_host(folder / "home", "127.0.0.1:0", now=time.time()), folder / "log")
    made.start()
    yield made
    made.end()


@pytest.fixture(params=["gateway", "cloud host"])
def target(request: pytest.FixtureRequest, site: Any, tmp_path: Path) -> Target:
    """Each of the two."""
    ca = tmp_path / "ca.pem"
    if request.param == "gateway":
        ca.write_text(site.authority.pem())
        return Target(request.getfixturevalue("gateway").port, FQDN, ca)
    host = request.getfixturevalue("cloud_host")
    name, _, port = host.identity.url.removeprefix("https://").rpartition(":")
    ca.write_bytes((host.home / "tls" / "certificate.pem").read_bytes())
    return Target(int(port), name, ca)


def test_protocols_before_tls_1_2_are_refused(target: Target) -> None:
    assert say(target.port, ssl2_hello()).refused, "SSL 2.0"
    for version in (0x0300, 0x0301, 0x0302):
        answer = say(target.port, client_hello(target.name, ALL, version=version))
        assert answer.refused, hex(version)


def test_tls_1_2_and_1_3_are_spoken_and_the_higher_is_chosen(target: Target) -> None:
    for version, word in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.MAXIMUM_SUPPORTED, "TLSv1.3")):
        context = target.context()
        context.maximum_version = version
        with target.connect(context) as connection:
            assert connection.version() == word
            assert connection.compression() is None
    answer = say(target.port, client_hello(target.name, sorted(GOOD)))
    assert answer.version == TLS12
    assert answer.random.endswith(DOWNGRADE_MARK), "who tears TLS 1.3 down is found out"


@pytest.mark.parametrize("family", FAMILIES)
def test_weak_families_of_ciphers_are_refused(target: Target, family: str) -> None:
    assert say(target.port, client_hello(target.name, FAMILIES[family])).refused


def test_of_all_ciphers_only_those_with_forward_secrecy_and_authentication_are_accepted(target: Target) -> None:
    offered, accepted = list(ALL), set()
    while not (answer := say(target.port, client_hello(target.name, offered))).refused:
        accepted.add(answer.cipher)
        offered.remove(answer.cipher)
    assert accepted
    assert accepted <= GOOD, [hex(one) for one in accepted - GOOD]


def test_of_tls_1_3s_ciphers_the_short_tags_are_refused(target: Target) -> None:
    for suite, accepted in (
        ("TLS_AES_128_GCM_SHA256", True),
        ("TLS_AES_256_GCM_SHA384", True),
        ("TLS_CHACHA20_POLY1305_SHA256", True),
        ("TLS_AES_128_CCM_SHA256", False),
        ("TLS_AES_128_CCM_8_SHA256", False),
    ):
        told = target.openssl("-tls1_3", "-ciphersuites", suite)
        assert (f"Cipher is {suite}" in told) is accepted, suite


def test_weak_curves_are_refused(target: Target) -> None:
    weak = [0x0001, 0x0013, 0x0015, 0x0016, 0x0100]  # sect163k1, secp192r1, secp224r1, secp256k1, ffdhe2048
    assert say(target.port, client_hello(target.name, sorted(GOOD), groups=weak)).refused
    for group in MODERN_GROUPS:
        assert not say(target.port, client_hello(target.name, sorted(GOOD), groups=[group])).refused


def test_compression_is_never_chosen(target: Target) -> None:
    both = say(target.port, client_hello(target.name, sorted(GOOD), compression=b"\x01\x00"))
    assert both.compression == 0
    assert say(target.port, client_hello(target.name, sorted(GOOD), compression=b"\x01")).refused


def test_heartbeats_are_not_answered(target: Target) -> None:
    answer = say(target.port, client_hello(target.name, sorted(GOOD), more=b"\x00\x0f\x00\x01\x01"))
    assert not answer.refused
    assert 15 not in answer.extensions


def test_renegotiation_is_refused_and_known_to_be_safe(target: Target) -> None:
    told = target.openssl("-tls1_2", say="R\n")
    assert "Secure Renegotiation IS supported" in told
    assert "RENEGOTIATING" in told
    assert re.search(r"no renegotiation|handshake failure|unexpected_message|unexpected message|errno=|:error:", told)


def test_http_2_is_not_offered(target: Target) -> None:
    context = target.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with target.connect(context) as connection:
        assert connection.selected_alpn_protocol() in (None, "http/1.1")


def test_early_data_is_not_taken(target: Target, tmp_path: Path) -> None:
    """It could be replayed by whoever recorded it."""
    request = f"GET /healthz HTTP/1.1\r\nHost: {target.name}\r\nConnection: close\r\n\r\n"
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_text(request)
    told = target.openssl("-tls1_3", "-ign_eof", "-sess_out", str(session), say=request)
    assert set(re.findall(r"Max Early Data: (\d+)", told)) == {"0"}, "tickets came, and none allows early data"
    told = target.openssl("-tls1_3", "-ign_eof", "-sess_in", str(session), "-early_data", str(early), say=request)
    assert "Reused, TLSv1.3" in told, "the session was taken up again"
    assert "Early data was not sent" in told
    assert "HTTP/1.1 " in told, "the request itself was answered"


def test_the_chain_is_whole_strong_and_for_this_name(target: Target) -> None:
    told = target.openssl("-showcerts", "-verify_return_error", "-x509_strict", "-verify_hostname", target.name)
    if re.fullmatch(r"[\d.]+", target.name):
        told = target.openssl("-showcerts", "-verify_return_error", "-x509_strict", "-verify_ip", target.name)
    assert "Verify return code: 0 (ok)" in told, told[-2000:]
    chain = x509.load_pem_x509_certificates(
        "".join(re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", told, re.DOTALL)).encode()
    )
    leaf = chain[0]
    key = leaf.public_key()
    assert (isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= 256) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048
    )
    assert all(one.signature_hash_algorithm.name in ("sha256", "sha384", "sha512") for one in chain)
    assert ExtendedKeyUsageOID.SERVER_AUTH in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(ssl.SSLCertVerificationError), target.connect(ssl.create_default_context()):
        pass
    with pytest.raises(ssl.SSLCertVerificationError), target.connect(target.context(), "elsewhere.example"):
        pass
