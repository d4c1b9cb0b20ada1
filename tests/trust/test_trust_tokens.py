"""Content tokens and site tokens: they only narrow."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.encoding import to_json, unb64url
from entrepot.core.errors import BadInputError, UnauthenticatedError
from entrepot.protocol import SignedType
from entrepot.protocol.tokens import MAX_TOKEN_BYTES, SiteClaims
from entrepot.protocol.trust import Role
from entrepot.trust.signing import sign
from entrepot.trust.tokens import mint_content_token, mint_site_token, set_ids, verify_content_token, verify_site_token

SET = bytes(range(32))


@pytest.fixture
def mint(hierarchy):
    def make(**changes):
        fields = {
            "site": "PS1",
            "device": "dev-1",
            "audience": "pt-1",
            "sets": [SET],
            "now": hierarchy.now,
            "jti": "j1",
        } | changes
        key = fields.pop("key", hierarchy.keys[Role.TOKEN])
        return mint_content_token(key, **fields)

    return make


@pytest.fixture
def check(hierarchy):
    def verify(token, *, audience="pt-1", site="PS1", now=None, kids=None):
        allowed = kids if kids is not None else [hierarchy.keys[Role.TOKEN].kid]
        return verify_content_token(
            token, hierarchy.ring, site, audience, allowed, hierarchy.now if now is None else now
        )

    return verify


def claims(hierarchy, **changes):
    fields = {
        "iss": "PS1",
        "sub": "dev-1",
        "aud": "pt-1",
        "jti": "j1",
        "iat": hierarchy.now,
        "nbf": hierarchy.now,
        "exp": hierarchy.now + 600,
        "sets": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"],
    }
    return fields | changes


def signed(hierarchy, **changes):
    """A token with any claims, really signed by the site's token key."""
    return sign(
        msgspec.json.encode(claims(hierarchy, **changes)), typ=SignedType.CONTENT_TOKEN, key=hierarchy.keys[Role.TOKEN]
    )


def test_a_token_tells_who_may_read_what_where(mint, check):
    found = check(mint())
    assert (found.iss, found.sub, found.aud, found.jti) == ("PS1", "dev-1", "pt-1", "j1")
    assert set_ids(found) == (SET,)


def test_the_largest_token_fits_its_bound(mint, check):
    sets = [bytes([number]) * 32 for number in range(64)]
    token = mint(sets=sets, jti="j" * 64, device="dev-0123456789abcdef", audience="points:PS1")
    assert len(token) <= MAX_TOKEN_BYTES
    assert set_ids(check(token, audience="points:PS1")) == tuple(sets)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sets": []},
        {"sets": [SET] * 65},
        {"sets": [b"short"]},
        {"lifetime": 8 * 3600 + 1},
        {"lifetime": 0},
        {"jti": ""},
        {"jti": "j" * 65},
    ],
)
def test_what_no_holder_would_accept_is_not_minted(mint, wrong):
    with pytest.raises(BadInputError):
        mint(**wrong)


def test_a_token_ends_to_the_second(mint, check, hierarchy):
    token = mint(lifetime=100)
    assert check(token, now=hierarchy.now + 99.9)
    with pytest.raises(UnauthenticatedError, match="expired"):
        check(token, now=hierarchy.now + 100)


def test_a_token_from_a_clock_slightly_ahead_is_taken(mint, check, hierarchy):
    assert check(mint(), now=hierarchy.now - 120)
    with pytest.raises(UnauthenticatedError, match="not valid yet"):
        check(mint(), now=hierarchy.now - 121)


def test_a_token_for_another_point_is_refused(mint, check):
    with pytest.raises(UnauthenticatedError, match="another distribution point"):
        check(mint(), audience="pt-2")


def test_another_site_cannot_mint_for_this_one(mint, check, hierarchy):
    with pytest.raises(UnauthenticatedError, match="belongs to site PS2"):
        check(mint(key=hierarchy.foreign), kids=[hierarchy.foreign.kid])
    with pytest.raises(UnauthenticatedError, match="another site than the one that signed"):
        check(mint(site="PS2"))


def test_a_key_that_the_control_document_dropped_is_refused(mint, check):
    with pytest.raises(UnauthenticatedError, match="no longer in use"):
        check(mint(), kids=["another"])


def test_during_rollover_both_keys_are_good(mint, check, hierarchy):
    assert check(mint(), kids=["another", hierarchy.keys[Role.TOKEN].kid])


@pytest.mark.parametrize("role", [Role.POLICY, Role.CONTROL, Role.MANIFEST])
def test_keys_of_other_roles_mint_nothing(mint, check, hierarchy, role):
    key = hierarchy.keys[role]
    with pytest.raises(UnauthenticatedError, match="not for token"):
        check(mint(key=key), kids=[key.kid])


def test_a_site_token_is_no_content_token_and_the_other_way_round(mint, check, hierarchy):
    key = hierarchy.keys[Role.TOKEN]
    site_token = mint_site_token(key, site="PS1", audience="pt-1", now=hierarchy.now, jti="j")
    with pytest.raises(UnauthenticatedError):
        check(site_token)
    with pytest.raises(UnauthenticatedError):
        verify_site_token(mint(), hierarchy.ring, "PS1", "pt-1", None, hierarchy.now)


def wrong_claims():
    yield {"exp": 0}
    yield {"sets": []}
    yield {"sets": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"] * 65}
    yield {"sets": ["AAEC"]}
    yield {"sets": ["not base64url!"]}
    yield {"sets": "AAEC"}
    yield {"sub": ""}
    yield {"jti": ""}
    yield {"jti": "j" * 65}
    yield {"aud": ["pt-1"]}
    yield {"iat": "now"}
    yield {"allow": -1}
    yield {"rate": -1}


@pytest.mark.parametrize("changes", list(wrong_claims()), ids=repr)
def test_claims_out_of_bounds_are_refused_even_when_signed(check, hierarchy, changes):
    assert check(signed(hierarchy)).sub == "dev-1"
    with pytest.raises(UnauthenticatedError):
        check(signed(hierarchy, **changes))


def test_times_out_of_bounds_are_refused_even_when_signed(check, hierarchy):
    now = hierarchy.now
    for changes in ({"exp": now + 8 * 3600 + 1}, {"nbf": now + 121}, {"iat": now - 8 * 3600}, {"iat": now + 601}):
        with pytest.raises(UnauthenticatedError):
            check(signed(hierarchy, **changes))


def test_a_missing_claim_is_refused(check, hierarchy):
    for name in ("iss", "sub", "aud", "jti", "iat", "nbf", "exp", "sets"):
        fields = claims(hierarchy)
        del fields[name]
        token = sign(msgspec.json.encode(fields), typ=SignedType.CONTENT_TOKEN, key=hierarchy.keys[Role.TOKEN])
        with pytest.raises(UnauthenticatedError):
            check(token)


@given(st.text(max_size=200) | st.from_regex(r"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,90}"))
def test_whatever_a_client_shows_is_refused_as_unauthenticated(hierarchy, junk):
    for verify in (verify_content_token, verify_site_token):
        with pytest.raises(UnauthenticatedError):
            verify(junk, hierarchy.ring, "PS1", "pt-1", None, hierarchy.now)


@given(
    start=st.integers(0, 8 * 3600),
    lifetime=st.integers(1, 8 * 3600),
    audience=st.sampled_from(["pt-1", "pt-2"]),
    asked=st.sampled_from(["pt-1", "pt-2"]),
)
def test_a_token_is_good_exactly_for_its_audience_and_lifetime(hierarchy, start, lifetime, audience, asked):
    key = hierarchy.keys[Role.TOKEN]
    token = mint_content_token(
        key, site="PS1", device="d", audience=audience, sets=[SET], now=hierarchy.now, jti="j", lifetime=lifetime
    )
    now = hierarchy.now + start
    try:
        verify_content_token(token, hierarchy.ring, "PS1", asked, [key.kid], now)
    except UnauthenticatedError:
        good = False
    else:
        good = True
    assert good == (audience == asked and start < lifetime)


def test_a_site_token_lives_ten_minutes_at_most(hierarchy):
    key = hierarchy.keys[Role.TOKEN]
    token = mint_site_token(key, site="PS1", audience="pt-1", now=hierarchy.now, jti="j")
    found = verify_site_token(token, hierarchy.ring, "PS1", "pt-1", [key.kid], hierarchy.now + 599)
    assert (found.iss, found.aud) == ("PS1", "pt-1")
    with pytest.raises(UnauthenticatedError, match="expired"):
        verify_site_token(token, hierarchy.ring, "PS1", "pt-1", None, hierarchy.now + 600)
    with pytest.raises(BadInputError):
        mint_site_token(key, site="PS1", audience="pt-1", now=hierarchy.now, jti="j", lifetime=601)
    longer = SiteClaims(iss="PS1", aud="pt-1", jti="j", iat=hierarchy.now, exp=hierarchy.now + 601)
    with pytest.raises(UnauthenticatedError, match="lifetime"):
        verify_site_token(
            sign(to_json(longer), typ=SignedType.SITE_TOKEN, key=key),
            hierarchy.ring,
            "PS1",
            "pt-1",
            None,
            hierarchy.now,
        )


def test_claims_travel_under_their_registered_names(mint):
    claims_found = msgspec.json.decode(unb64url(mint().split(".")[1]))
    assert set(claims_found) == {"iss", "sub", "aud", "jti", "iat", "nbf", "exp", "sets"}
