"""Golden vectors of the signed formats: recomputed byte for byte from fixed keys, and verified as a stranger would.

``docs/formats/`` cites them. Should one of these tests fail, the format has changed: that needs a decision record and
a new version, not a new vector.
"""

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from entrepot.core.encoding import from_json, to_json
from entrepot.core.secret import Secret
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol.control import ControlDocument, GatewaySettings, ServiceState
from entrepot.protocol.enrolment import DeviceClaims, EnrolmentCode, Kind, parse_enrolment_code
from entrepot.protocol.tokens import site_audience
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust import vault
from entrepot.trust.assertions import body_hash, sign_device, verify_client_assertion, verify_device
from entrepot.trust.enrolment import enrolment_mac
from entrepot.trust.inspection import expires, load_cer
from entrepot.trust.root import RootKey, fingerprint, verify_trust_by_fingerprint
from entrepot.trust.signing import Ring, SigningKey, kid_of, sign
from entrepot.trust.tokens import mint_content_token, mint_site_token, verify_content_token, verify_site_token
from entrepot.trust.vault import ServerVault

GOLDEN = Path(__file__).parent / "golden"
NOW = 1_774_274_400  # 2026-03-23T14:00:00Z
BODY = b'{"nonce":"n"}'
SETS = [hashlib.sha256(f"set {number}".encode()).digest() for number in range(2)]


def private(name: str) -> Secret:
    """Private keys of the vectors: SHA-256 of ``entrepot golden <name>``."""
    return Secret(hashlib.sha256(f"entrepot golden {name}".encode()).digest())


def key(name: str) -> SigningKey:
    return SigningKey.from_private(private(name))


ROOT = RootKey(key("root"))
AUTHORITY = (GOLDEN / "authority.cer").read_bytes()


def trust_document() -> TrustDocument:
    roles = (Role.MANIFEST, Role.TOKEN, Role.POLICY, Role.CONTROL)
    entries = [
        KeyEntry(
            kid=key(role).kid,
            role=role,
            site="PS1",
            public=key(role).public,
            not_before=NOW,
            not_after=NOW + 31_536_000,
        )
        for role in roles
    ]
    certificate = load_cer(AUTHORITY)
    begins = int(certificate.not_valid_before_utc.timestamp())
    issuer = KeyEntry(
        kid=kid_of(AUTHORITY),
        role=Role.CA,
        site="PS1",
        public=AUTHORITY,
        not_before=begins,
        not_after=expires(certificate),
    )
    return TrustDocument(hierarchy="Contoso", number=7, epoch=1, issued=NOW, keys=(*entries, issuer))


def control_document() -> ControlDocument:
    return ControlDocument(
        site="PS1",
        point="pt-00000000000000c1",
        fresh=Freshness(epoch=1, counter=42, issued=NOW, expires=NOW + 8 * 3600),
        state=ServiceState.RUNNING,
        token_kids=(key(Role.TOKEN).kid,),
        revoked_devices=("dev-00000000000000d2",),
        revoked_tokens=("j-revoked",),
        settings=GatewaySettings(),
    )


def content_token() -> str:
    return mint_content_token(
        key(Role.TOKEN),
        site="PS1",
        device="dev-00000000000000d1",
        audience="pt-00000000000000c1",
        sets=SETS,
        now=NOW,
        jti="j-1",
    )


def device_assertion() -> str:
    claims = DeviceClaims(
        sub="dev-00000000000000d1", aud=site_audience("PS1"), iat=NOW, exp=NOW + 300, jti="j-3", bh=body_hash(BODY)
    )
    return sign_device(claims, key("device"))


def made() -> dict[str, str]:
    """All vectors that can be recomputed, by file name."""
    return {
        "trust-document.jws": ROOT.sign_trust(trust_document()),
        "control-document.jws": sign(to_json(control_document()), typ=SignedType.CONTROL, key=key(Role.CONTROL)),
        "content-token.jwt": content_token(),
        "site-token.jwt": mint_site_token(
            key(Role.TOKEN), site="PS1", audience="pt-00000000000000a1", now=NOW, jti="j-2"
        ),
        "device-assertion.jwt": device_assertion(),
    }


def read(name: str) -> str:
    return (GOLDEN / name).read_text(encoding="ascii")


@pytest.mark.parametrize("name", list(made()))
def test_every_vector_is_recomputed_byte_for_byte(name):
    assert made()[name] == read(name)


@pytest.fixture(scope="module")
def ring():
    return Ring(verify_trust_by_fingerprint(read("trust-document.jws"), fingerprint(key("root").public)))


def test_the_trust_document_reads_back(ring):
    assert ring.document == trust_document()


def test_the_control_document_reads_back(ring):
    verified = ring.verify(read("control-document.jws"), typ=SignedType.CONTROL, role=Role.CONTROL, now=NOW, site="PS1")
    assert from_json(verified.payload, ControlDocument, "control document") == control_document()


def test_the_tokens_are_good_where_they_say(ring):
    kids = control_document().token_kids
    claims = verify_content_token(
        read("content-token.jwt"), ring, "PS1", "pt-00000000000000c1", kids, NOW + 8 * 3600 - 1
    )
    assert claims.sub == "dev-00000000000000d1"
    assert verify_site_token(read("site-token.jwt"), ring, "PS1", "pt-00000000000000a1", kids, NOW + 599).jti == "j-2"


def test_the_device_assertion_is_good_for_its_body():
    found = verify_device(read("device-assertion.jwt"), key("device").public, "site:PS1", BODY, NOW)
    assert found.jti == "j-3"


@pytest.mark.parametrize(("kind", "algorithm"), [("rsa", "PS256"), ("ec", "ES256")])
def test_client_assertions_once_made_stay_good(kind, algorithm):
    certificate = (GOLDEN / f"management-{kind}.cer").read_bytes()
    token = read(f"client-assertion-{kind}.jwt")
    found = verify_client_assertion(token, [certificate], "https://cloud.example/oauth2/token", NOW + 299)
    assert (found.subscription, found.jti) == ("sub-0000000000000001", f"j-{algorithm}")


def test_the_other_values(ring):
    values = json.loads(read("values.json"))
    mac = enrolment_mac(
        bytes(range(16)), nonce=bytes(16), kind=Kind.DEVICE, name="PC-1", public_key=key("device").public
    )
    assert values["enrolment_mac"] == mac.hex()
    code = EnrolmentCode(
        url="https://site.contoso.com:8443",
        site="PS1",
        code_id="code-0000000000000001",
        secret=bytes(range(16)),
        fingerprint=ROOT.fingerprint,
    )
    assert values["enrolment_code"] == code.encode()
    assert parse_enrolment_code(values["enrolment_code"]) == code
    assert values["root_fingerprint"] == ROOT.fingerprint.hex()
    assert values["kids"] == {str(entry.role): entry.kid for entry in ring.document.keys}


def test_a_sealed_secret_opens(tmp_path):
    values = json.loads(read("values.json"))
    ephemeral = X25519PrivateKey.from_private_bytes(private("ephemeral").reveal())
    (tmp_path / "vault.key").write_bytes(private("vault").reveal())
    server = ServerVault.load(tmp_path / "vault.key")
    sealed = vault._seal(ephemeral, server.public, "hierarchy/content-secret/1", Secret(b"a secret"))
    assert values["sealed_secret"] == sealed.hex()
    assert server.open("hierarchy/content-secret/1", bytes.fromhex(values["sealed_secret"])).reveal() == b"a secret"


def test_the_root_key_file_opens():
    root = RootKey.load((GOLDEN / "root-key.pem").read_bytes(), Secret("correct horse battery staple"))
    assert root.public == ROOT.public


@pytest.mark.parametrize("page", ["trust-document", "control-document", "token"])
def test_the_page_cites_the_vectors_with_their_hashes(page):
    text = (Path(__file__).parents[2] / "docs" / "formats" / f"{page}.md").read_text(encoding="utf-8")
    cited = {path.name for path in GOLDEN.iterdir() if f"golden/{path.name}" in text}
    assert cited
    for name in cited:
        assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() in text, name


def test_every_vector_is_cited_somewhere_or_is_a_pkcs12_sample():
    pages = [path.read_text(encoding="utf-8") for path in (Path(__file__).parents[2] / "docs" / "formats").glob("*.md")]
    for path in GOLDEN.iterdir():
        assert path.suffix == ".pfx" or any(f"golden/{path.name}" in text for text in pages), path.name
