"""Management and service certificates: what opens, what is refused, and that the refusal names the certificate."""

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError, EntrepotError
from entrepot.core.secret import Secret
from entrepot.trust.certificates import (
    CertificateExpiredError,
    LoadedPfx,
    NoPrivateKeyError,
    NotPkcs12Error,
    UnsuitableCertificateError,
    WrongPasswordError,
    certificate_name,
    check_management_certificate,
    check_same_name,
    check_service_certificate,
    covers,
    days_left,
    describe,
    expires,
    load_cer,
    load_pfx,
    new_management,
    thumbprint,
    to_pem,
    to_pfx,
)

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = Path(__file__).parent / "samples"
LATER = 1_800_000_000  # 2027-01-15, within the validity of the golden files
NOW = 1_774_274_400
DAY = 86_400


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


def self_signed(
    key, *, cn="cloud1.contoso.com", names=("cloud1.contoso.com",), purposes=("server",), ca=False, days=30
):
    """A certificate with just these properties, as a loaded .pfx."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else [])
    begin = datetime.datetime.fromtimestamp(NOW - DAY, datetime.UTC)
    builder = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    if purposes:
        known = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
        builder = builder.add_extension(x509.ExtendedKeyUsage([known[one] for one in purposes]), False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return LoadedPfx(key, builder.sign(key, algorithm))


# --- management certificates


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_new_pair_gives_cer_and_pfx_of_one_certificate(kind, rsa_pair, ec_pair):
    pair = rsa_pair if kind == "rsa" else ec_pair
    loaded = load_pfx(pair.pfx(Secret("pass")), Secret("pass"), NOW)
    assert thumbprint(load_cer(pair.cer)) == thumbprint(loaded.certificate)
    assert certificate_name(loaded.certificate) == "Contoso management"
    assert check_management_certificate(loaded) == ("PS256" if kind == "rsa" else "ES256")
    assert (days_left(loaded.certificate, NOW), expires(loaded.certificate)) == (365, NOW + 365 * DAY)


def test_the_default_is_rsa_3072_as_azure_takes_no_curves(rsa_pair):
    assert rsa_pair.key.key_size == 3072


def test_a_pair_prints_no_key(rsa_pair):
    assert repr(rsa_pair) == "Pair(Contoso management, key=***)"


@pytest.mark.parametrize(("name", "days"), [("", 1), ("x" * 65, 1), ("a\nb", 1), ("x", 0), ("x", 3651)])
def test_impossible_wishes_are_refused(name, days):
    with pytest.raises(BadInputError):
        new_management(name, days, "ec", now=NOW)


def test_a_pfx_needs_a_password(ec_pair):
    with pytest.raises(BadInputError, match="needs a password"):
        ec_pair.pfx(Secret(""))


# --- PKCS#12 files


@pytest.mark.parametrize(
    ("file", "password"), [("legacy-rc2.pfx", "legacy"), ("legacy-3des.pfx", "legacy"), ("modern.pfx", "modern")]
)
def test_files_that_openssl_made_open_in_modern_and_legacy_encryption(file, password):
    loaded = load_pfx((GOLDEN / file).read_bytes(), Secret(password), LATER)
    assert certificate_name(loaded.certificate) == "cloud1.contoso.com"
    assert check_service_certificate(loaded, "", LATER) == "cloud1.contoso.com"


@pytest.mark.parametrize("file", ["legacy-rc2.pfx", "legacy-3des.pfx", "modern.pfx"])
@pytest.mark.parametrize("password", ["wrong", "", "Modern", "legacy "])
def test_a_wrong_password_says_so(file, password):
    with pytest.raises(WrongPasswordError, match="password does not open"):
        load_pfx((GOLDEN / file).read_bytes(), Secret(password), LATER)


@pytest.mark.parametrize("file", ["legacy-rc2.pfx", "modern.pfx"])
@pytest.mark.parametrize("there", [100, -1])
def test_a_file_that_is_cut_off_says_so_and_does_not_blame_the_password(file, there):
    data = (GOLDEN / file).read_bytes()
    with pytest.raises(NotPkcs12Error, match=f"cut off: only {len(data[:there])} of its {len(data)} bytes"):
        load_pfx(data[:there], Secret(file.partition("-")[0].partition(".")[0]), LATER)


def test_a_password_for_a_file_that_has_none_says_so(ec_pair):
    bare = pkcs12.serialize_key_and_certificates(b"x", ec_pair.key, ec_pair.certificate, None, NoEncryption())
    with pytest.raises(WrongPasswordError, match="no password at all, and one was given"):
        load_pfx(bare, Secret("any"), ec_pair.certificate.not_valid_before_utc.timestamp() + 1)


def test_a_file_without_private_key_says_so():
    with pytest.raises(NoPrivateKeyError, match="no private key"):
        load_pfx((GOLDEN / "certificate-only.pfx").read_bytes(), Secret("modern"), LATER)


def test_a_key_that_is_not_the_certificates_is_no_private_key(ec_pair, ec_key):
    data = pkcs12.serialize_key_and_certificates(
        b"x", ec_key, None, [ec_pair.certificate], BestAvailableEncryption(b"p")
    )
    with pytest.raises(NoPrivateKeyError):
        load_pfx(data, Secret("p"), NOW)


def test_other_files_are_named_for_what_they_are(ec_pair):
    pem = to_pem(ec_pair.certificate).encode()
    cases = [
        (ec_pair.cer, "certificate alone"),
        (pem, "PEM text file"),
        (b"", "not a .pfx file"),
        (b"PK\x03\x04 a zip", "not a .pfx file"),
        (bytes(1024 * 1024 + 1), "at most 1 MiB"),
    ]
    for data, text in cases:
        with pytest.raises(NotPkcs12Error) as caught:
            load_pfx(data, Secret("p"), NOW)
        assert text in caught.value.message
    with pytest.raises(NotPkcs12Error, match="Contoso management"):
        load_pfx(ec_pair.cer, Secret("p"), NOW)


def test_an_expired_certificate_is_named_with_its_date(ec_pair):
    data = ec_pair.pfx(Secret("p"))
    with pytest.raises(CertificateExpiredError, match=r"Contoso management .*expired at 2027-03-23T14:00:00Z"):
        load_pfx(data, Secret("p"), NOW + 365 * DAY)
    assert load_pfx(data, Secret("p"), NOW + 365 * DAY - 1)


def test_a_certificate_of_the_future_is_named_with_its_date(ec_pair):
    with pytest.raises(CertificateExpiredError, match="valid only from 2026-03-23T13:50:00Z"):
        load_pfx(ec_pair.pfx(Secret("p")), Secret("p"), NOW - 601)


def test_a_key_that_tls_and_jose_do_not_want_is_refused():
    key = ed25519.Ed25519PrivateKey.generate()
    loaded = self_signed(key)
    data = pkcs12.serialize_key_and_certificates(b"x", key, loaded.certificate, None, BestAvailableEncryption(b"p"))
    with pytest.raises(UnsuitableCertificateError, match="neither RSA nor elliptic-curve"):
        load_pfx(data, Secret("p"), NOW)


def test_further_certificates_come_along_but_strangers_are_not_sent(ec_pair, rsa_pair, ec_key):
    leaf = self_signed(ec_key)
    chain = (ec_pair.certificate, rsa_pair.certificate)
    loaded = load_pfx(to_pfx("x", ec_key, leaf.certificate, Secret("p"), chain), Secret("p"), NOW)
    assert loaded.chain_pem() == to_pem(leaf.certificate)
    assert set(loaded.chain) == set(chain)
    assert b"PRIVATE KEY" in loaded.key_pem().reveal()
    assert "***" in repr(loaded)


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 3000), value=st.integers(0, 255), cut=st.integers(0, 3000))
def test_a_damaged_file_raises_an_error_of_ours(position, value, cut):
    data = bytearray((GOLDEN / "legacy-3des.pfx").read_bytes())
    data[position % len(data)] = value
    for damaged in (bytes(data), bytes(data[: cut % len(data)])):
        try:
            load_pfx(damaged, Secret("legacy"), LATER)
        except EntrepotError:
            continue


def test_a_cer_file_is_read_in_both_forms_and_nothing_else(ec_pair):
    assert load_cer(ec_pair.cer) == load_cer(to_pem(ec_pair.certificate).encode()) == ec_pair.certificate
    for junk in (b"", b"junk", bytes(100_000), b"-----BEGIN CERTIFICATE-----\nx\n"):
        with pytest.raises(BadInputError, match=r"not an X\.509 certificate"):
            load_cer(junk)


def with_unknown_name(key):
    """A certificate with an alternative name that cannot be read: an X.400 address."""
    plain = self_signed(key, names=()).certificate
    builder = x509.CertificateBuilder(plain.issuer, plain.subject, plain.public_key(), plain.serial_number)
    builder = builder.not_valid_before(plain.not_valid_before_utc).not_valid_after(plain.not_valid_after_utc)
    name = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex("3004a3020500"))
    return builder.add_extension(name, critical=False).sign(key, hashes.SHA256())


def test_a_certificate_that_can_be_read_in_part_only_is_refused(ec_key):
    curve = bytes.fromhex("06082a8648ce3d030107")
    strange_curve = self_signed(ec_key).certificate.public_bytes(Encoding.DER).replace(curve, curve[:-1] + b"\x63")
    strange_name = with_unknown_name(ec_key)
    for data in (strange_curve, strange_name.public_bytes(Encoding.DER)):
        with pytest.raises(BadInputError, match=r"not an X\.509 certificate"):
            load_cer(data)
    with pytest.raises(UnsuitableCertificateError, match="cannot be read"):
        load_pfx(to_pfx("n", ec_key, strange_name, Secret("p")), Secret("p"), NOW)


# --- service certificates (R4)


def test_a_good_service_certificate_gives_its_name(rsa_key, ec_key):
    assert check_service_certificate(self_signed(rsa_key), "", NOW) == "cloud1.contoso.com"
    assert check_service_certificate(self_signed(ec_key), "Cloud1.Contoso.COM.", NOW) == "cloud1.contoso.com"


def test_a_name_that_the_certificate_lacks_is_refused_with_those_it_has(ec_key):
    with pytest.raises(
        UnsuitableCertificateError, match=r"is not for cloud2\.contoso\.com but for cloud1\.contoso\.com"
    ):
        check_service_certificate(self_signed(ec_key), "cloud2.contoso.com", NOW)


def test_a_wildcard_needs_a_host_in_place_of_the_asterisk(ec_key):
    wildcard = self_signed(ec_key, cn="*.contoso.com", names=("*.contoso.com",))
    with pytest.raises(UnsuitableCertificateError, match="Name a host instead of the asterisk"):
        check_service_certificate(wildcard, "", NOW)
    assert check_service_certificate(wildcard, "cloud1.contoso.com", NOW) == "cloud1.contoso.com"
    with pytest.raises(UnsuitableCertificateError):
        check_service_certificate(wildcard, "a.b.contoso.com", NOW)


def test_purpose_key_names_and_characters_are_checked_each_with_its_remedy(ec_key, rsa_key):
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    p384 = ec.generate_private_key(ec.SECP384R1())
    cases = [
        (self_signed(ec_key, purposes=()), "Server Authentication"),
        (self_signed(ec_key, purposes=("client",)), "Server Authentication"),
        (self_signed(small), "2048 bits"),
        (self_signed(p384), "P-256"),
        (self_signed(rsa_key, names=()), "subject alternative name"),
        (self_signed(rsa_key, ca=True), "issuer's own"),
        (self_signed(rsa_key, cn="云1.contoso.com"), "single-byte"),
    ]
    for loaded, text in cases:
        with pytest.raises(UnsuitableCertificateError) as caught:
            check_service_certificate(loaded, "cloud1.contoso.com", NOW)
        assert text in str(caught.value)
        assert describe(loaded.certificate) in caught.value.message


def test_a_service_certificate_must_be_valid_now(ec_key):
    loaded = self_signed(ec_key, days=30)
    with pytest.raises(CertificateExpiredError):
        check_service_certificate(loaded, "", NOW + 30 * DAY)
    with pytest.raises(CertificateExpiredError):
        check_service_certificate(loaded, "", NOW - 2 * DAY)


@pytest.mark.parametrize(
    "fqdn", ["cloud1", "cloud 1.contoso.com", "-a.contoso.com", "a..com", "x." * 130 + "com", "a_b.c"]
)
def test_what_is_no_dns_name_is_refused(ec_key, fqdn):
    with pytest.raises(BadInputError, match="fully qualified domain name"):
        check_service_certificate(self_signed(ec_key), fqdn, NOW)


def test_a_certificate_without_common_name_is_prefilled_from_its_dns_names(ec_key):
    loaded = self_signed(ec_key, cn="", names=("cloud1.contoso.com", "cloud2.contoso.com"))
    assert certificate_name(loaded.certificate) == "cloud1.contoso.com"
    assert check_service_certificate(loaded, "", NOW) == "cloud1.contoso.com"


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("a.b.com", "A.B.com", True),
        ("*.b.com", "a.b.com", True),
        ("*.b.com", "b.com", False),
        ("*.b.com", "x.a.b.com", False),
        ("*.com", "b.com", False),
        ("a*.b.com", "ax.b.com", False),
        ("*", "a", False),
    ],
)
def test_a_wildcard_covers_one_whole_label(name, host, expected):
    assert covers(name, host) is expected


# --- chains and renewals


def issued(key, issuer_key, issuer_name, *, cn="cloud1.contoso.com", ca=False, days=30):
    """A certificate by an issuer of that name and key."""
    begin = datetime.datetime.fromtimestamp(NOW - 2 * DAY, datetime.UTC)
    builder = (
        x509.CertificateBuilder(
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)]),
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]),
            public_key=key.public_key(),
        )
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(cn)]), False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def keys():
    return {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "middle", "leaf", "other")}


def chain_of(keys, **middle):
    root = issued(keys["root"], keys["root"], "Root", cn="Root", ca=True)
    between = issued(keys["middle"], keys["root"], "Root", cn="Middle", **({"ca": True} | middle))
    leaf = issued(keys["leaf"], keys["middle"], "Middle")
    return leaf, between, root


def test_a_chain_is_put_into_order_and_strangers_are_left_out(keys):
    leaf, middle, root = chain_of(keys)
    stranger = issued(keys["other"], keys["other"], "Other", cn="Other", ca=True)
    loaded = LoadedPfx(keys["leaf"], leaf, (root, stranger, middle))
    assert check_service_certificate(loaded, "", NOW) == "cloud1.contoso.com"
    assert loaded.chain_pem() == to_pem(leaf, middle, root)


def test_a_chain_of_another_issuer_is_refused(keys):
    leaf, _, root = chain_of(keys)
    same_name = issued(keys["other"], keys["root"], "Root", cn="Middle", ca=True)
    with pytest.raises(UnsuitableCertificateError, match="not issued by any") as caught:
        check_service_certificate(LoadedPfx(keys["leaf"], leaf, (same_name, root)), "", NOW)
    assert "chain" in caught.value.next_step


def test_an_issuer_that_expired_or_is_none_is_refused_and_named(keys):
    leaf, middle, root = chain_of(keys, days=1)
    with pytest.raises(CertificateExpiredError, match="Middle"):
        check_service_certificate(LoadedPfx(keys["leaf"], leaf, (middle, root)), "", NOW)
    leaf, middle, root = chain_of(keys, ca=False)
    with pytest.raises(UnsuitableCertificateError, match="Middle"):
        check_service_certificate(LoadedPfx(keys["leaf"], leaf, (middle, root)), "", NOW)


def test_a_renewal_keeps_the_name_whatever_its_case(ec_key):
    renewed = self_signed(ec_key, cn="CLOUD1.Contoso.com").certificate
    check_same_name("service", "cloud1.contoso.com", renewed)
    with pytest.raises(UnsuitableCertificateError, match="keeps the name") as caught:
        check_same_name("service", "cloud2.contoso.com", renewed)
    assert "cloud2.contoso.com" in caught.value.next_step


@pytest.fixture(scope="module")
def outdated():
    """Made with OpenSSL: one signed with SHA-1, and one whose issuer is; all have the same key."""
    data = (SAMPLES / "outdated.pem").read_bytes()
    return load_pem_private_key(data[data.index(b"-----BEGIN EC") :], None), x509.load_pem_x509_certificates(data)


def test_what_is_signed_with_an_outdated_hash_is_refused(outdated):
    key, (alone, *_) = outdated
    with pytest.raises(UnsuitableCertificateError, match="outdated hash") as refused:
        check_service_certificate(LoadedPfx(key, alone), "", LATER)
    assert "SHA-2" in refused.value.next_step


def test_an_issuer_that_is_signed_with_an_outdated_hash_is_refused_and_named(outdated):
    key, (_, leaf, middle, root) = outdated
    assert check_service_certificate(LoadedPfx(key, leaf), "", LATER) == "cloud1.contoso.com"
    with pytest.raises(UnsuitableCertificateError, match=r"issued by Middle .*, which is signed with an outdated hash"):
        check_service_certificate(LoadedPfx(key, leaf, (middle, root)), "", LATER)


@pytest.mark.parametrize(("may_sign", "good"), [(True, True), (False, False)])
def test_a_key_usage_must_let_the_server_sign(ec_key, may_sign, good):
    plain = self_signed(ec_key).certificate
    builder = x509.CertificateBuilder(
        plain.issuer, plain.subject, plain.public_key(), 5, plain.not_valid_before_utc, plain.not_valid_after_utc
    )
    for extension in plain.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    usage = x509.KeyUsage(may_sign, False, True, False, False, False, False, False, False)
    loaded = LoadedPfx(ec_key, builder.add_extension(usage, critical=True).sign(ec_key, hashes.SHA256()))
    if good:
        assert check_service_certificate(loaded, "", NOW) == "cloud1.contoso.com"
        return
    with pytest.raises(UnsuitableCertificateError, match=r"TLS 1\.3") as refused:
        check_service_certificate(loaded, "", NOW)
    assert "Digital Signature" in refused.value.next_step
