"""Who is told of alerts, and when nobody is, over the admin API."""

import msgspec
import pytest

from entrepot.core.times import HOUR
from entrepot.protocol.alertapi import (
    AlertSubscriptionInfo,
    AlertSubscriptionRequest,
    Channel,
    Language,
    MailServerInfo,
    MailServerRequest,
    MaintenanceWindowInfo,
    MaintenanceWindowRequest,
    Repeat,
    Security,
    Severity,
)

SECRET = "a secret of thirty-two characters"
WINDOW = {"name": "patching", "start": "2026-03-23T13:00", "zone": "Europe/Berlin", "minutes": 120, "repeat": "weekly"}


async def test_a_subscription_is_added_listed_without_its_secret_and_deleted(site) -> None:
    request = AlertSubscriptionRequest(
        name="pager",
        channel=Channel.WEBHOOK,
        target="https://hooks.example/entrepot",
        language=Language.FRENCH,
        types=("transfer_critical",),
        severities=(Severity.CRITICAL,),
        secret=SECRET,
    )
    added = await site.call("POST", "/alert-subscriptions", AlertSubscriptionInfo, request)
    answer = await site.raw("GET", "/alert-subscriptions")
    assert SECRET.encode() not in answer.body
    (listed,) = site.decoded(answer, list[AlertSubscriptionInfo])
    assert listed == added
    assert (listed.types, listed.severities, listed.language) == (request.types, request.severities, "fr")
    assert (await site.raw("POST", "/alert-subscriptions", request)).status == 409, "the name is taken"
    await site.call("DELETE", "/alert-subscriptions/pager", type(None))
    assert await site.call("GET", "/alert-subscriptions", list[AlertSubscriptionInfo]) == []
    for method, path in (("DELETE", "/alert-subscriptions/pager"), ("POST", "/alert-subscriptions/pager/test")):
        assert (await site.raw(method, path)).status == 404


async def test_whoever_cannot_be_told_yet_for_want_of_a_mail_server_is_shown_so(site) -> None:
    body = {"name": "ops", "channel": "mail", "target": "ops@contoso.com"}
    added = await site.call("POST", "/alert-subscriptions", AlertSubscriptionInfo, body)
    assert "No mail server is set" in added.error
    server = MailServerRequest(host="smtp.contoso.com", port=25, security=Security.NONE, sender="site@contoso.com")
    await site.call("PUT", "/mail-server", MailServerInfo, server)
    [listed] = await site.call("GET", "/alert-subscriptions", list[AlertSubscriptionInfo])
    assert listed.error == ""


async def test_what_is_given_of_a_subscription_changes_and_the_rest_stays(site) -> None:
    body = {"name": "pager", "channel": "webhook", "target": "https://hooks.example/a", "secret": SECRET}
    added = await site.call("POST", "/alert-subscriptions", AlertSubscriptionInfo, body | {"digest_minutes": 5})
    change = {"name": "duty", "target": "https://hooks.example/b", "severities": ["critical"]}
    changed = await site.call("PATCH", "/alert-subscriptions/pager", AlertSubscriptionInfo, change)
    assert changed == msgspec.structs.replace(added, **(change | {"severities": (Severity.CRITICAL,)}))
    assert await site.call("GET", "/alert-subscriptions", list[AlertSubscriptionInfo]) == [changed]
    await site.call("POST", "/alert-subscriptions", AlertSubscriptionInfo, body)
    for wrong, status in (
        ({"name": "PAGER"}, 409),
        ({"target": "ops@contoso.com"}, 400),  # it stays a webhook
        ({"secret": "short"}, 400),
        ({"types": ["weather"]}, 400),
        ({"digest_minutes": 1441}, 400),
    ):
        assert (await site.raw("PATCH", "/alert-subscriptions/duty", wrong)).status == status, wrong
    assert (await site.raw("PATCH", "/alert-subscriptions/nobody", {})).status == 404
    assert (await site.call("GET", "/alert-subscriptions", list[AlertSubscriptionInfo]))[0] == changed


@pytest.mark.parametrize(
    "change",
    [
        {"types": ["weather"]},
        {"severities": ["loud"]},
        {"target": "not an address"},
        {"language": "tlh"},
        {"digest_minutes": -1},
        {"digest_minutes": 1441},
        {"secret": SECRET},
    ],
)
async def test_a_subscription_that_will_not_do_is_refused(site, change) -> None:
    body = {"name": "operators", "channel": "mail", "target": "ops@contoso.com"}
    answer = await site.raw("POST", "/alert-subscriptions", body | change)
    assert answer.status == 400, answer.body
    assert (await site.raw("POST", "/alert-subscriptions", body)).status == 201


async def test_the_mail_server_is_kept_without_telling_its_password_and_tested_with_the_reason(site) -> None:
    assert await site.call("GET", "/mail-server", MailServerInfo) == MailServerInfo()
    assert (await site.raw("POST", "/mail-server/test", {"address": "a@contoso.com"})).status == 409, "none is set"
    request = MailServerRequest(
        host="127.0.0.1", port=1, security=Security.TLS, account="entrepot", password=SECRET, sender="e@contoso.com"
    )
    await site.call("PUT", "/mail-server", MailServerInfo, request)
    shown = await site.raw("GET", "/mail-server")
    assert SECRET.encode() not in shown.body
    assert site.decoded(shown, MailServerInfo).account == "entrepot"
    tested = await site.raw("POST", "/mail-server/test", {"address": "a@contoso.com"})
    assert tested.status == 503
    assert b"127.0.0.1:1 does not answer" in tested.body


async def test_a_maintenance_window_is_open_when_the_clocks_on_the_wall_say_so(site, clock) -> None:
    async def is_open() -> list[bool]:
        await site.login()  # the session before it has ended
        return [one.open for one in await site.call("GET", "/maintenance-windows", list[MaintenanceWindowInfo])]

    added = await site.call("POST", "/maintenance-windows", MaintenanceWindowInfo, WINDOW)
    assert (added.repeat, added.open) == (Repeat.WEEKLY, True), "12:00 in UTC is 13:00 in Berlin"
    clock.advance(2 * HOUR)
    assert await is_open() == [False]
    clock.advance((7 * 24 - 3) * HOUR)
    assert await is_open() == [True], "a week later summer time has begun: 11:00 in UTC is 13:00 in Berlin"
    clock.advance(2 * HOUR)
    assert await is_open() == [False]
    assert (await site.raw("POST", "/maintenance-windows", WINDOW)).status == 409
    await site.call("DELETE", "/maintenance-windows/patching", type(None))
    assert (await site.raw("DELETE", "/maintenance-windows/patching")).status == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"zone": "Mars/Olympus"}, 400),
        ({"start": "tomorrow"}, 400),
        ({"minutes": 0}, 400),
        ({"repeat": "daily", "minutes": 1441}, 400),
        ({"types": ["weather"]}, 400),
        ({"cloud_point": "nowhere"}, 404),
    ],
)
async def test_a_window_that_makes_no_sense_is_refused(site, change, status) -> None:
    answer = await site.raw("POST", "/maintenance-windows", WINDOW | change)
    assert answer.status == status, answer.body
    assert MaintenanceWindowRequest(**{key: WINDOW[key] for key in ("name", "start", "zone", "minutes")})
