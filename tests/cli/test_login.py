"""Logging in pins the hierarchy, keeps the session private, and never takes a password from the arguments."""

import json
import stat
import sys
import time
from pathlib import Path

import pytest

from entrepot.cli.credentials import SiteLogin, find_login, load_credentials, save_login
from entrepot.core.errors import NotFoundError, UnauthenticatedError
from entrepot.trust.root import RootKey, readable


def test_login_keeps_a_private_session_without_the_password(site, entrepot, password_file, config: Path) -> None:
    ran = entrepot("login", site.url, "--fingerprint", site.fingerprint, "--password-file", str(password_file))
    assert ran.code == 0
    kept = config / "credentials.json"
    assert "correct horse" not in kept.read_text()
    assert json.loads(kept.read_text())["current"] == site.url
    if sys.platform != "win32":
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_the_fingerprint_may_be_copied_as_it_is_shown_to_people(site, entrepot, password_file) -> None:
    shown = readable(site.root.fingerprint)
    ran = entrepot("login", site.url, "--fingerprint", shown, "--password-file", str(password_file))
    assert ran.code == 0


def test_another_hierarchy_is_refused_before_any_password_is_sent(site, entrepot, password_file) -> None:
    other = RootKey.generate().fingerprint.hex()
    ran = entrepot("login", site.url, "--fingerprint", other, "--password-file", str(password_file))
    assert ran.code == 9
    assert [asked for asked, _, _ in site.asked] == ["GET /mp/trust"]
    told = " ".join(ran.err.split())
    assert "This is not the hierarchy of that fingerprint." in told
    assert "Next: On the site server, `entrepot site fingerprint` prints the right one" in told


def test_a_site_whose_certificate_is_not_of_the_hierarchy_is_refused(site, entrepot, password_file) -> None:
    site.authority = type(site)().authority  # the trust document now names another issuer than the TLS certificate's
    ran = entrepot("login", site.url, "--fingerprint", site.fingerprint, "--password-file", str(password_file))
    assert ran.code == 9
    assert "certificate" in ran.err


def test_the_first_login_needs_the_fingerprint_and_a_later_one_does_not(logged_in, entrepot, password_file) -> None:
    assert entrepot("login", logged_in.url, "--password-file", str(password_file)).code == 0
    first = entrepot("login", "https://127.0.0.1:1", "--password-file", str(password_file))
    assert (first.code, "entrepot site fingerprint" in first.err) == (2, True)


def test_a_login_without_an_address_goes_where_the_last_one_went(logged_in, entrepot, password_file) -> None:
    ran = entrepot("login", "--password-file", str(password_file))
    assert (ran.code, logged_in.asked[-1][0]) == (0, "POST /api/v1/login")
    assert logged_in.url in ran.err


def test_a_first_login_without_an_address_asks_for_it(entrepot, password_file, config: Path) -> None:
    ran = entrepot("login", "--password-file", str(password_file))
    assert (ran.code, "address" in ran.err) == (2, True)


def test_the_bearer_token_goes_with_every_request_and_ends_at_logout(logged_in, entrepot) -> None:
    logged_in.replies |= {"GET /api/v1/tasks": [], "POST /api/v1/logout": None}
    assert entrepot("task", "list").code == 0
    assert logged_in.asked[-1][1] == "Bearer t0ken"
    assert entrepot("logout").code == 0
    ran = entrepot("task", "list")
    assert (ran.code, "entrepot login" in ran.err) == (6, True)


def test_without_a_terminal_a_missing_password_is_an_error_that_says_how(site, entrepot) -> None:
    ran = entrepot("login", site.url, "--fingerprint", site.fingerprint)
    assert ran.code == 2
    assert "--password-file" in ran.err


def test_a_password_file_that_others_may_read_is_refused(site, entrepot, password_file: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("permissions are POSIX's")
    password_file.chmod(0o644)
    ran = entrepot("login", site.url, "--fingerprint", site.fingerprint, "--password-file", str(password_file))
    assert ran.code == 2
    assert "chmod 600" in ran.err


def test_an_ended_session_and_a_foreign_site_are_told_apart(config: Path) -> None:
    now = time.time()
    save_login(SiteLogin(url="https://a", fingerprint="00", name="admin", token="t", expires=int(now) - 1))
    with pytest.raises(UnauthenticatedError, match="has ended"):
        find_login(None, now)
    with pytest.raises(NotFoundError):
        find_login("https://b", now)


def test_the_last_login_is_current_and_others_are_kept(config: Path) -> None:
    for url in ("https://a", "https://b", "https://a"):
        save_login(SiteLogin(url=url, fingerprint="00", name="admin", token="t", expires=2**40))
    known = load_credentials()
    assert known.current == "https://a"
    assert {site.url for site in known.sites} == {"https://a", "https://b"}
    assert "token=***" in repr(known.sites[0])
