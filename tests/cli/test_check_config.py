"""``check-config`` of every role: what counts, and what is wrong, without starting anything."""

import time

import pytest

from entrepot.cloud.host.setup import init_host

SITE = 'site = "PS1"\nurl = "https://site.example:8443"\nlisten = "0.0.0.0:8443"\n'


@pytest.fixture
def site_home(tmp_path):
    (tmp_path / "site.toml").write_text(SITE)
    return tmp_path


def test_every_setting_is_shown_with_the_value_that_counts(entrepot, site_home) -> None:
    (site_home / "site.toml").write_text(SITE + "transfers = 7\n")
    ran = entrepot("site", "check-config", "--home", str(site_home))
    assert ran.code == 0, ran.err
    rows = dict(line.split(maxsplit=1) for line in ran.out.splitlines()[1:])
    assert rows["transfers"] == "7"
    assert rows["threads"] == "8  (default)"
    told = entrepot("site", "check-config", "--home", str(site_home), "--json")
    assert (told.value["settings"]["transfers"], told.value["settings"]["threads"]) == (7, 8)


@pytest.mark.parametrize(
    ("line", "said"),
    [("transferz = 7\n", "transferz"), ("transfers = 0\n", "transfers is 1 to 50"), ("transfers =\n", "cannot be used"),
     ('cloud_ca = "/nowhere/ca.pem"\n', "cloud_ca names /nowhere/ca.pem"),
     ('database = "mysql://db/site"\n', "'mysql' are not supported"), ('database = "here"\n', "database address"),
     ('proxy = "proxy.example:3128"\n', "setting proxy"), ('dns_servers = ["ns1.example"]\n', "'ns1.example' is no IP"),
     ('[resolve]\n"a.example" = "1.2.3"\n', "'1.2.3' is no IP")],
)  # fmt: skip
def test_what_is_wrong_with_a_site_is_named(entrepot, site_home, line, said) -> None:
    (site_home / "site.toml").write_text(SITE + line)
    ran = entrepot("site", "check-config", "--home", str(site_home))
    assert ran.code == 2
    assert said in ran.err


def test_no_password_of_a_database_or_proxy_is_shown(entrepot, site_home) -> None:
    lines = (
        'database = "postgresql://entrepot:S3cr/et@db/site?sslmode=require"\nproxy = "http://me:S3cr@et@proxy:3128"\n'
    )
    (site_home / "site.toml").write_text(SITE + lines)
    for more in ((), ("--json",)):
        ran = entrepot("site", "check-config", "--home", str(site_home), *more)
        assert ran.code == 0, ran.err
        assert "postgresql://entrepot:***@db/site?sslmode=require" in ran.out
        assert "http://me:***@proxy:3128" in ran.out
        assert "S3cr" not in ran.out


def test_an_address_to_listen_on_is_checked_before_anything_listens(entrepot, site_home) -> None:
    (site_home / "site.toml").write_text(SITE.replace("0.0.0.0:8443", "nonsense"))
    ran = entrepot("site", "check-config", "--home", str(site_home))
    assert (ran.code, "'nonsense' is not an address to listen on" in ran.err) == (2, True)


def test_a_cloud_hosts_credentials_are_read_and_not_shown(entrepot, tmp_path) -> None:
    home, keys = tmp_path / "host", tmp_path / "keys.toml"
    init_host(home, "127.0.0.1:0", now=time.time())
    with (home / "host.toml").open("a") as file:
        file.write(f'[store]\nkind = "s3"\nbucket = "b"\nregion = "eu-central-1"\ncredentials = "{keys}"\n')
    ran = entrepot("host", "check-config", "--home", str(home))
    assert (ran.code, str(keys) in ran.err) == (2, True)
    keys.touch(mode=0o600)
    keys.write_text('access_key_id = "AKIDEXAMPLE"\nsecret_access_key = "wJalrXUtnFEMI"\n')
    ran = entrepot("host", "check-config", "--home", str(home))
    assert ran.code == 0, ran.err
    assert "store.bucket" in ran.out
    assert "wJalr" not in ran.out


def test_a_client_without_a_file_has_all_defaults_and_a_misspelt_key_is_refused(entrepot, tmp_path) -> None:
    ran = entrepot("client", "check-config", "--home", str(tmp_path))
    assert (ran.code, "all defaults" in ran.out) == (0, True)
    (tmp_path / "client.toml").write_text("cache_sise = '1 GB'\n")
    ran = entrepot("client", "check-config", "--home", str(tmp_path))
    assert (ran.code, "cache_sise" in ran.err) == (2, True)


@pytest.mark.parametrize("role", ["site", "host", "point"])
def test_a_folder_without_a_role_is_told(entrepot, tmp_path, role) -> None:
    ran = entrepot(role, "check-config", "--home", str(tmp_path))
    assert (ran.code, f"entrepot {role} init" in ran.err) == (3, True)
