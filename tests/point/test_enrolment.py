"""How a point becomes known to its site, and what it refuses on the way."""

import stat

import pytest
from cryptography import x509

from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    FormatError,
    NotFoundError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.point.enrolment import init_point
from entrepot.point.home import home_of, load_settings
from entrepot.point.server import serve_point
from entrepot.protocol.enrolment import Kind, parse_enrolment_code
from entrepot.trust.authority import public_key_of
from entrepot.trust.root import RootKey
from entrepot.web.ports import lasting_port


async def test_a_code_makes_a_point(site, settings, tmp_path):
    home = home_of(tmp_path / "point")
    assert load_settings(home) == settings
    assert (settings.site, settings.point, settings.name) == ("PS1", "pt-00000000000000aa", "dp-berlin")
    assert settings.url == f"https://{settings.listen}"
    assert not settings.listen.endswith(":0")
    [request] = site.enrolled
    assert (request.kind, request.name, request.url, request.code_id) == (Kind.POINT, "dp-berlin", settings.url, "c1")
    leaf = x509.load_pem_x509_certificates(home.tls_certificate.read_bytes())[0]
    assert leaf.public_key() == public_key_of(request.csr)
    for private in (home.identity, home.tls_key):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700


async def test_the_codes_secret_is_not_kept(site, settings, tmp_path):
    kept = b"".join(path.read_bytes() for path in (tmp_path / "point").rglob("*") if path.is_file())
    assert parse_enrolment_code(site.code()).secret not in kept


async def test_any_name_that_people_can_read_is_kept(site, tmp_path):
    settings = await init_point(tmp_path / "p", site.code(), "127.0.0.1:0", name='Berlin "Süd" 🏢 \\')
    assert load_settings(home_of(tmp_path / "p")) == settings


@pytest.mark.parametrize(("answered", "kept"), [("dp-munich", "dp-munich"), ("", "here"), ("a\nb", "here")])
async def test_the_name_that_the_site_announced_is_kept(site, tmp_path, answered, kept):
    site.calls_it = answered
    settings = await init_point(tmp_path / "p", site.code(), "127.0.0.1:0", name="here")
    assert settings.name == kept


@pytest.mark.parametrize("name", ["a\x7f", "a\nb", "\udc80", "n" * 129])
async def test_a_name_that_nobody_can_read_is_refused_before_the_code_is_used(site, tmp_path, name):
    with pytest.raises(BadInputError, match="printable"):
        await init_point(tmp_path / "p", site.code(), "127.0.0.1:0", name=name)
    assert site.enrolled == []


async def test_a_point_listens_at_the_port_at_which_it_shall_be_reached(site, tmp_path):
    port = lasting_port("127.0.0.1")
    settings = await init_point(tmp_path / "p", site.code(), "", f"https://dp1.contoso.example:{port}")
    assert settings.listen == f"0.0.0.0:{port}"


async def test_a_point_of_which_nobody_says_where_it_is_reached_is_refused(site, tmp_path):
    with pytest.raises(BadInputError, match="Nobody can reach"):
        await init_point(tmp_path / "p", site.code(), "")
    assert site.enrolled == []


async def test_a_second_point_does_not_fit_into_one_folder(site, settings, tmp_path):
    with pytest.raises(ConflictError, match="already"):
        await init_point(tmp_path / "point", site.code(), "127.0.0.1:0")


async def test_a_try_that_failed_can_be_repeated_by_the_same_newcomer(site, tmp_path):
    site.state = "pending"
    with pytest.raises(ConflictError, match="approve"):
        await init_point(tmp_path / "p", site.code(), "127.0.0.1:0")
    with pytest.raises(NotFoundError, match="entrepot point init"):
        await serve_point(tmp_path / "p")
    site.state = "approved"
    await init_point(tmp_path / "p", site.code(), "127.0.0.1:0")
    first, second = site.enrolled
    assert first.public_key == second.public_key
    assert public_key_of(first.csr) == public_key_of(second.csr)


async def test_a_site_of_another_hierarchy_is_refused_before_anything_is_sent(site, tmp_path):
    site.root, real = RootKey.generate(), site.root
    code = site.code()
    site.root = real
    with pytest.raises(TrustError, match="another root"):
        await init_point(tmp_path / "p", code, "127.0.0.1:0")
    assert site.enrolled == []


async def test_a_wrong_certificate_is_named(site, tmp_path):
    site.certificates = "nonsense"
    with pytest.raises(FormatError, match="no certificate"):
        await init_point(tmp_path / "p", site.code(), "127.0.0.1:0")
    site.certificates = site.authority.pem()
    with pytest.raises(BadInputError, match="cannot be used"):
        await init_point(tmp_path / "p", site.code(), "127.0.0.1:0")
    assert not (tmp_path / "p" / "point.toml").exists()


async def test_a_code_that_is_used_up_is_named(site, tmp_path):
    code = parse_enrolment_code(site.code())
    stolen = type(code)(
        url=code.url, site=code.site, code_id=code.code_id, secret=bytes(16), fingerprint=code.fingerprint
    )
    with pytest.raises(UnauthenticatedError, match="code is not valid"):
        await init_point(tmp_path / "p", stolen.encode(), "127.0.0.1:0")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("nonsense", ""),
        ("0.0.0.0:0", ""),
        ("127.0.0.1:0", "http://h:1"),
        ("127.0.0.1:0", "https://h/x"),
        ("127.0.0.1:0", "https://u:p@h"),
    ],
)
async def test_addresses_are_checked_first(site, tmp_path, listen, url):
    with pytest.raises(BadInputError):
        await init_point(tmp_path / "p", site.code(), listen, url)
    assert not (tmp_path / "p").exists()
    assert site.enrolled == []


async def test_a_site_that_is_away_is_unavailable(site, tmp_path):
    code = parse_enrolment_code(site.code())
    gone = type(code)(
        url="https://127.0.0.1:1", site="PS1", code_id="c", secret=bytes(16), fingerprint=code.fingerprint
    )
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await init_point(tmp_path / "p", gone.encode(), "127.0.0.1:0")
    for text in ("", "entrepot1.", "entrepot1.AAAA"):
        with pytest.raises(BadInputError):
            await init_point(tmp_path / "p", text, "127.0.0.1:0")


@pytest.mark.parametrize(
    "line",
    ["colour = 'red'\n", "drain_seconds = -1\n", "max_downloads = 0\n", "max_downloads = 'many'\n", "[[[", "\xff"],
)
async def test_settings_are_checked_and_unknown_keys_refused(settings, tmp_path, line):
    file = tmp_path / "point" / "point.toml"
    kept = "".join(row for row in file.read_text().splitlines(keepends=True) if row.split(" ")[0] != line.split(" ")[0])
    file.write_bytes(kept.encode() + line.encode("latin-1"))
    with pytest.raises(BadInputError):
        await serve_point(tmp_path / "point")


async def test_settings_of_the_operator_count(settings, tmp_path):
    file = tmp_path / "point" / "point.toml"
    file.write_text(file.read_text().replace("max_downloads = 4096", "max_downloads = 7"))
    assert load_settings(home_of(tmp_path / "point")).max_downloads == 7
