"""Alerts by webhook: a real HTTPS receiver checks what it is sent."""

import asyncio
import hashlib
import hmac
import json

import pytest

from entrepot.core.errors import BadInputError, RefusedError, TrustError
from entrepot.core.times import DAY, HOUR
from entrepot.protocol.alertapi import AlertSubscriptionChange, AlertSubscriptionRequest, Channel, Language
from entrepot.rules.alerts import ALERT_TYPES, Condition
from entrepot.rules.notifying import check_destination, check_webhook
from entrepot.site.notifications.texts import catalogue

SECRET = "a-secret-of-thirty-two-characters"


@pytest.fixture
async def hooked(told, receiver, certificate):
    await told.subscriptions.add(_request(receiver, authority=certificate.pem))
    return told


def _request(receiver, **changes):
    values = {
        "name": "pager",
        "channel": Channel.WEBHOOK,
        "target": f"https://localhost:{receiver.port}/hook",
        "secret": SECRET,
        "private_networks": True,
        "language": Language.GERMAN,
    }
    return AlertSubscriptionRequest(**(values | changes))


async def test_a_webhook_is_signed_and_says_what_happened(hooked, receiver):
    hooked.turn("storage_critical", Condition.BAD, "2 TB of 2 TB")
    assert await hooked.outbox.run_once() == 1
    [(headers, body)] = receiver.taken
    signed = f"{headers['Entrepot-Timestamp']}.".encode() + body
    expected = "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(headers["Entrepot-Signature"], expected)
    assert headers["Entrepot-Timestamp"] == str(int(hooked.clock()))
    told = json.loads(body)
    assert told["id"] == headers["Idempotency-Key"]
    [event] = told["events"]
    assert (event["type"], event["event"], event["severity"]) == ("storage_critical", "opened", "critical")
    assert (event["message"], event["subject_name"]) == ("2 TB of 2 TB", "cloud-eu")
    assert event["title"] == "Der gespeicherte Inhalt hat seine Grenze erreicht"
    assert SECRET not in body.decode()
    assert SECRET.encode() not in hooked.path.read_bytes()


async def test_a_changed_webhook_gets_what_waits_at_once_signed_with_the_secret_that_it_had(hooked, receiver):
    """Corrected after a failure: nobody waits for the next attempt, nothing is lost, nothing is told twice."""
    right = receiver.port
    await hooked.subscriptions.change("pager", AlertSubscriptionChange(target="https://localhost:9/hook"))
    hooked.turn("storage_critical", Condition.BAD, "2 TB of 2 TB")
    assert await hooked.outbox.run_once() == 0
    assert (await hooked.subscriptions.listed())[0].waiting == 1
    await hooked.subscriptions.change("pager", AlertSubscriptionChange(target=f"https://localhost:{right}/hook"))
    assert await hooked.outbox.run_once() == 1
    [(headers, body)] = receiver.taken
    signed = f"{headers['Entrepot-Timestamp']}.".encode() + body
    assert headers["Entrepot-Signature"] == "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert await hooked.outbox.run_once() == 0
    another = "another-secret-of-thirty-two-chars"
    await hooked.subscriptions.change("pager", AlertSubscriptionChange(secret=another))
    hooked.turn("storage_critical", Condition.GOOD)
    assert await hooked.outbox.run_once() == 1
    headers, body = receiver.taken[-1]
    signed = f"{headers['Entrepot-Timestamp']}.".encode() + body
    assert headers["Entrepot-Signature"] == "v1=" + hmac.new(another.encode(), signed, hashlib.sha256).hexdigest()
    assert another.encode() not in hooked.path.read_bytes()


async def test_it_is_tried_again_later_and_later_under_one_key(hooked, receiver):
    receiver.answers = [503, 500, 429]
    hooked.turn("storage_critical", Condition.BAD)
    for _ in range(3):
        assert await hooked.outbox.run_once() == 0
        assert await hooked.outbox.run_once() == 0, "not before its time"
        hooked.clock.now += HOUR
    assert await hooked.outbox.run_once() == 1
    assert len(receiver.taken) == 4
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.taken}) == 1
    assert len({headers["Entrepot-Timestamp"] for headers, _ in receiver.taken}) == 4


async def test_a_receiver_that_does_not_take_one_message_is_not_asked_to_take_the_others_at_once(hooked, receiver):
    receiver.answers = [503]
    for number in range(3):
        hooked.turn("storage_critical", Condition.BAD, subject=f"pt-{number}")
    assert await hooked.outbox.run_once() == 0
    assert len(receiver.taken) == 1
    hooked.clock.now += HOUR
    assert await hooked.outbox.run_once() == 3


async def _until(so):
    for _ in range(6000):
        if so():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it does not come about")


async def test_slow_receivers_hold_nobody_else_up(hooked, receiver, certificate, monkeypatch):
    monkeypatch.setattr("entrepot.site.notifications.outbox.LOOK_SECONDS", 0.01)
    receiver.hold = asyncio.Event()
    slow = f"https://localhost:{receiver.port}/slow"
    for number in range(6):
        request = _request(receiver, name=f"slow-{number}", target=slow, authority=certificate.pem)
        await hooked.subscriptions.add(request)
    serving = asyncio.create_task(hooked.outbox.serve())
    for number in range(3):  # what happens while six receivers are still being asked reaches the seventh
        hooked.turn("storage_critical", Condition.BAD, subject=f"pt-{number}")
        await _until(lambda reached=number: len(receiver.taken) > reached and receiver.held == 6)
    assert (len(receiver.taken), receiver.held) == (3, 6)
    receiver.hold.set()
    await _until(lambda: len(receiver.taken) == 3 * 7)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.taken}) == 3 * 7


async def test_after_days_it_is_given_up_and_said_so(hooked, receiver):
    receiver.answers = [500] * 40
    hooked.turn("storage_critical", Condition.BAD)
    for _ in range(40):
        await hooked.outbox.run_once()
        hooked.clock.now += 3 * HOUR
    [info] = await hooked.subscriptions.listed()
    assert (info.waiting, info.failed) == (0, 1)
    assert len(receiver.taken) == 30
    hooked.clock.now += 31 * DAY
    await hooked.outbox.run_once()
    [info] = await hooked.subscriptions.listed()
    assert info.failed == 0


async def test_redirects_are_not_followed(hooked, receiver):
    receiver.answers = [302]
    with pytest.raises(RefusedError, match="302"):
        await hooked.subscriptions.test("pager")
    assert len(receiver.taken) == 1


async def test_a_receiver_with_an_unknown_certificate_is_not_trusted(told, receiver):
    await told.subscriptions.add(_request(receiver, name="other"))
    with pytest.raises(TrustError):
        await told.subscriptions.test("other")
    assert receiver.taken == []


async def test_a_name_that_leads_to_a_private_address_is_not_called(told, receiver, certificate):
    await told.subscriptions.add(_request(receiver, name="other", private_networks=False, authority=certificate.pem))
    with pytest.raises(BadInputError, match="not public"):
        await told.subscriptions.test("other")
    assert receiver.taken == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.9.9",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::1",
    ],
)
def test_addresses_that_are_not_public_are_refused(address):
    with pytest.raises(BadInputError):
        check_destination(address, private_networks=False)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "::ffff:169.254.1.1"])
def test_some_are_refused_even_where_private_networks_are_allowed(address):
    with pytest.raises(BadInputError):
        check_destination(address, private_networks=True)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111"])
def test_public_addresses_may_be_called(address):
    check_destination(address, private_networks=False)
    check_destination("10.1.2.3", private_networks=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://contoso.com/hook",
        "https://user:password@contoso.com/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https:///hook",
        "https://contoso.com/#fragment",
        "https://contoso.com:99999/",
        "file:///etc/passwd",
    ],
)
def test_addresses_of_webhooks_that_will_not_do(url):
    with pytest.raises(BadInputError):
        check_webhook(url, private_networks=False)


async def test_a_short_secret_is_refused(told, receiver):
    with pytest.raises(BadInputError, match="16 bytes"):
        await told.subscriptions.add(_request(receiver, secret="short"))


@pytest.mark.parametrize("language", [Language.GERMAN, Language.FRENCH])
def test_every_title_and_every_remedy_is_translated(language):
    wanted = {kind.title for kind in ALERT_TYPES.values()}
    wanted |= {remedy for kind in ALERT_TYPES.values() for remedy in kind.remedies}
    wanted |= {"critical", "warning", "informational", "opened", "resumed", "closed", "test", "%d messages"}
    assert sorted(wanted - set(catalogue(language))) == []
