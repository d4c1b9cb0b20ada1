"""A device enrols with a code, or waits for approval; and never trusts another hierarchy (R35)."""

import stat
import sys
from pathlib import Path

import msgspec
import pytest

from entrepot.client.enrol import check_enrolment, enrol, from_code, from_parts
from entrepot.client.identity import load_identity
from entrepot.client.session import open_session
from entrepot.client.settings import Settings, load_settings
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.trust.root import RootKey, readable


async def test_with_a_code_a_device_is_approved_at_once(world, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = await enrol(home, world.invitation(), name="laptop", settings=Settings(addresses=("10.0.0.1",)))
    assert (done.state, done.site, done.name) == ("approved", "PS1", "laptop")
    identity = load_identity(home)
    assert world.devices[done.device] == (identity.key.public, "approved")
    assert identity.fingerprint == done.fingerprint
    kept = load_settings(home)
    assert kept.url == world.url
    assert kept.fingerprint == world.hierarchy.root.fingerprint
    assert kept.addresses == ("10.0.0.1",)
    assert (await check_enrolment(home)) == done


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
async def test_the_key_is_its_owners_alone(world, tmp_path: Path) -> None:
    home = await world.client()
    assert stat.S_IMODE((home / "device.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


async def test_without_a_code_an_administrator_approves(world, tmp_path: Path) -> None:
    home = tmp_path / "home"
    fingerprint = readable(world.hierarchy.root.fingerprint)
    done = await enrol(home, from_parts(world.url, "PS1", fingerprint), name="kiosk")
    assert done.state == "pending"
    with pytest.raises(ForbiddenError, match="waits for approval"):
        async with open_session(home):
            pass
    public, _ = world.devices[done.device]
    world.devices[done.device] = (public, "approved")
    async with open_session(home) as session:
        assert session.identity.registration.state == "approved"
    assert (await check_enrolment(home)).state == "approved"


async def test_another_hierarchy_is_refused_and_told_nothing(world, tmp_path: Path) -> None:
    world.hierarchy.root = RootKey.generate()
    invitation = world.invitation()
    world.hierarchy.root = RootKey.generate()  # whoever answers has another root
    with pytest.raises(TrustError, match="another root"):
        await enrol(tmp_path / "home", invitation)
    assert world.devices == {}


async def test_after_a_failed_attempt_the_right_hierarchy_can_be_joined(world, tmp_path: Path) -> None:
    right = world.hierarchy.root
    wrong = world.hierarchy.root = RootKey.generate()
    invitation = world.invitation()
    world.codes = {"code-1": b"z" * 16}
    with pytest.raises(UnauthenticatedError):  # the other hierarchy does not know the code
        await enrol(tmp_path / "home", invitation)
    assert wrong.fingerprint != right.fingerprint
    world.hierarchy.root = right
    world.codes = {"code-1": b"k" * 16}
    assert (await enrol(tmp_path / "home", world.invitation())).state == "approved"


async def test_a_site_that_the_hierarchy_does_not_have_is_refused(world, tmp_path: Path) -> None:
    invitation = msgspec.structs.replace(world.invitation(), site="XX9")
    with pytest.raises(TrustError, match="no site XX9"):
        await enrol(tmp_path / "home", invitation)


async def test_a_device_enrols_once(world, tmp_path: Path) -> None:
    home = await world.client()
    with pytest.raises(ConflictError, match="enrolled already"):
        await enrol(home, world.invitation())


async def test_a_wrong_code_is_refused_and_leaves_the_device_free_to_try_again(world, tmp_path: Path) -> None:
    home = tmp_path / "home"
    world.codes["code-1"] = b"x" * 16
    with pytest.raises(UnauthenticatedError, match="enrolment code"):
        await enrol(home, world.invitation())
    with pytest.raises(NotFoundError):
        load_identity(home)
    world.codes["code-1"] = b"k" * 16
    assert (await enrol(home, world.invitation())).state == "approved"


async def test_a_site_that_does_not_answer_is_named(tmp_path: Path, world) -> None:
    invitation = msgspec.structs.replace(world.invitation(), url="https://127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9 refuses connections"):
        await enrol(tmp_path / "home", invitation)


@pytest.mark.parametrize("text", ["", "hello", "entrepot1.", "entrepot1.AAAA"])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="not an enrolment code"):
        from_code(text)


@pytest.mark.parametrize(
    ("url", "site", "fingerprint"),
    [("http://site", "PS1", "ab" * 32), ("https://site", "", "ab" * 32), ("https://site", "PS1", "abc")],
)
def test_incomplete_invitations_are_refused(url: str, site: str, fingerprint: str) -> None:
    with pytest.raises(BadInputError):
        from_parts(url, site, fingerprint)


async def test_policy_is_fetched_and_kept(world, tmp_path: Path) -> None:
    from entrepot.client.session import current_policy, kept_policy, update_policy

    home = await world.client()
    async with open_session(home) as session:
        assert kept_policy(session.home) is None
        policy = await update_policy(session)
        assert policy.settings.allow_cloud is False
        kept = kept_policy(session.home)
        assert kept is not None
        assert kept.policy == policy
        counter = world.hierarchy.counter
        assert await current_policy(session) == policy
        assert world.hierarchy.counter == counter  # within the poll interval nobody asks again
        later = await current_policy(session, clock=lambda: kept.received + 3700.0)
        assert later is not None
        assert world.hierarchy.counter == counter + 1
