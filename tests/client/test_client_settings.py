"""``client.toml``: read once, checked, written without losing anything."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.client.settings import Settings, check_settings, enrolled_settings, load_settings, save_settings
from entrepot.core.errors import BadInputError, NotFoundError

FULL = """
url = "https://site.example:8443"
site = "PS1"
root = "ab00000000000000000000000000000000000000000000000000000000000000"
service_ca = "/etc/ca.pem"
addresses = ["10.0.0.7", "2001:db8::7"]
proxy = "http://proxy.example:3128"
cache_size = "2 GB"
parallel = 8
retries = 0
keep_versions = 3

[resolve]
"content.example.com" = "127.0.0.1"
"""


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "client.toml").write_text(FULL)
    found = load_settings(tmp_path)
    assert found.url == "https://site.example:8443"
    assert found.fingerprint == bytes.fromhex("ab" + "00" * 31)
    assert found.addresses == ("10.0.0.7", "2001:db8::7")
    assert found.cache_bytes == 2 * 10**9
    assert found.resolve == {"content.example.com": "127.0.0.1"}
    assert (found.parallel, found.retries, found.keep_versions) == (8, 0, 3)
    assert enrolled_settings(tmp_path) == found


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings()
    assert load_settings(tmp_path).cache_bytes is None
    with pytest.raises(NotFoundError, match="belongs to no site"):
        enrolled_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("paralel = 3", "paralel"),
        ("[resolve]\nhost = 7", "resolve"),
        ('[resolve]\nhost = "not an address"', "not an IP address"),
        ('addresses = ["10.0.0.1/24"]', "not an IP address"),
        ('url = "http://site"', "https://"),
        ('url = "https://site/"', "trailing slash"),
        ('proxy = "socks5://x"', "proxy"),
        ('root = "AB"', "64 lower-case"),
        ("parallel = 0", "parallel"),
        ("parallel = 65", "parallel"),
        ("retries = -1", "retries"),
        ("keep_versions = 0", "keep_versions"),
        ('cache_size = "much"', "not a size"),
        ("url = ", "cannot be read"),
        ('url = "\ud800"', "cannot be read"),
        ("#" * 300_000, "too large"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "client.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInputError, match=match):
        load_settings(tmp_path)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    service_ca=TEXT,
    resolve=st.dictionaries(TEXT, st.sampled_from(["127.0.0.1", "::1"]), max_size=3),
    parallel=st.integers(1, 64),
    addresses=st.lists(st.ip_addresses().map(str), max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
def test_what_is_saved_is_loaded(tmp_path: Path, service_ca: str, resolve, parallel: int, addresses) -> None:
    wanted = Settings(service_ca=service_ca, resolve=resolve, parallel=parallel, addresses=tuple(addresses))
    save_settings(tmp_path, wanted)
    assert load_settings(tmp_path) == wanted


def test_wrong_settings_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(BadInputError):
        save_settings(tmp_path, Settings(parallel=0))
    assert not list(tmp_path.iterdir())
    assert check_settings(Settings()) == Settings()
