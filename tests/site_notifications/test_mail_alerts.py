"""Alerts by mail: a real SMTP conversation, with TLS and authentication."""

import email
import email.policy
from email.message import EmailMessage

import pytest

from entrepot.core.errors import BadInputError, ConflictError, TrustError, UnauthenticatedError
from entrepot.core.secret import Secret
from entrepot.core.times import HOUR, MINUTE
from entrepot.protocol.alertapi import (
    AlertSubscriptionRequest,
    Channel,
    Language,
    MailServerRequest,
    Security,
    Severity,
)
from entrepot.rules.alerts import Condition
from entrepot.rules.sentences import SENT_UNBOUND, say
from entrepot.site.notifications.mail import MailAccount, send

from .conftest import ACCOUNT, PASSWORD

# With TLS from the first byte there is no STARTTLS to require; aiosmtpd warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")

BAD, GOOD = Condition.BAD, Condition.GOOD


def _request(**changes):
    values = {"name": "ops", "channel": Channel.MAIL, "target": "ops@contoso.com"}
    return AlertSubscriptionRequest(**(values | changes))


@pytest.fixture
async def ready(told, smtp_port, security, certificate):
    await told.subscriptions.set_mail_server(
        MailServerRequest(
            host="localhost" if security == "starttls" else "127.0.0.1",
            port=smtp_port,
            security=Security(security),
            account=ACCOUNT,
            password=PASSWORD,
            sender="entrepot@contoso.com",
            authority=certificate.pem,
        )
    )
    return told


async def test_an_alert_is_mailed_over_tls_after_authentication_in_html_and_text(ready, mailbox):
    await ready.subscriptions.add(_request(target="ops@contoso.com; anna@contoso.com"))
    ready.turn("transfer_critical", BAD, "9.2 TB of 10.0 TB <sent>")
    assert await ready.outbox.run_once() == 1
    assert mailbox.logins == [(ACCOUNT.encode(), PASSWORD.encode())]
    assert mailbox.encrypted == [True]
    assert mailbox.to == [["ops@contoso.com", "anna@contoso.com"]]
    mail = email.message_from_bytes(mailbox.mails[0], policy=email.policy.default)
    assert mail["Subject"] == "[critical] cloud-eu: Transfers to clients have reached the critical level (opened)"
    text = mail.get_body(("plain",)).get_content()
    html = mail.get_body(("html",)).get_content()
    assert "9.2 TB of 10.0 TB <sent>" in text
    assert "Stop the service" in text
    assert "9.2 TB of 10.0 TB &lt;sent&gt;" in html
    assert await ready.outbox.run_once() == 0, "told once"
    [info] = await ready.subscriptions.listed()
    assert (info.waiting, info.failed, info.error, info.delivered) == (0, 0, "", int(ready.clock()))


@pytest.mark.parametrize(
    ("language", "title", "sentence"),
    [
        (
            Language.GERMAN,
            "Übertragungen an Clients haben die kritische Schwelle erreicht",
            "9.2 TB in 30 Tagen an Clients gesendet; keine Grenze ist gesetzt.",
        ),
        (
            Language.FRENCH,
            "Les transferts vers les clients ont atteint le niveau critique",
            "9.2 TB envoyés aux clients en 30 jours ; aucune limite n'est fixée.",
        ),
    ],
)
async def test_it_speaks_the_subscribers_language(ready, mailbox, language, title, sentence):
    await ready.subscriptions.add(_request(language=language))
    ready.say("transfer_critical", BAD, (say(SENT_UNBOUND, used=9_200_000_000_000, days=30),))
    await ready.outbox.run_once()
    mail = email.message_from_bytes(mailbox.mails[0], policy=email.policy.default)
    assert title in mail["Subject"]
    assert sentence in mail.get_body(("plain",)).get_content()
    assert mail["Content-Language"] == language.value


async def test_filters_by_type_and_severity(ready, mailbox):
    await ready.subscriptions.add(_request(types=("storage_warning",)))
    await ready.subscriptions.add(_request(name="critical", target="b@x.org", severities=(Severity.CRITICAL,)))
    ready.turn("storage_warning", BAD)
    ready.turn("transfer_critical", BAD)
    ready.turn("certificate_problem", BAD)
    assert await ready.outbox.run_once() == 2
    assert sorted(mailbox.to) == [["b@x.org"], ["ops@contoso.com"]]


async def test_a_digest_gathers_what_happens_and_is_one_mail(ready, mailbox):
    await ready.subscriptions.add(_request(digest_minutes=30))
    ready.turn("storage_warning", BAD)
    ready.clock.now += 20 * MINUTE
    ready.turn("storage_warning", GOOD)
    ready.turn("transfer_warning", BAD)
    assert await ready.outbox.run_once() == 0
    ready.clock.now += 11 * MINUTE
    assert await ready.outbox.run_once() == 3
    assert len(mailbox.mails) == 1
    mail = email.message_from_bytes(mailbox.mails[0], policy=email.policy.default)
    assert "3 messages" in mail["Subject"]


async def test_a_digest_that_was_refused_goes_again_as_it_was_and_what_is_new_by_itself(ready, mailbox):
    """A receiver that took the first one all the same knows it again, and misses nothing."""
    await ready.subscriptions.add(_request(digest_minutes=30))
    mailbox.refuse = ["451 Not now"]
    ready.turn("storage_warning", BAD)
    ready.turn("transfer_warning", BAD)
    ready.clock.now += 31 * MINUTE
    assert await ready.outbox.run_once() == 0
    ready.turn("storage_critical", BAD)
    ready.clock.now += HOUR
    assert await ready.outbox.run_once() == 3
    mails = [email.message_from_bytes(mail, policy=email.policy.default) for mail in mailbox.mails]
    assert len({mail["Message-ID"] for mail in mails}) == 2
    assert "2 messages" in mails[0]["Subject"]
    assert "messages" not in mails[1]["Subject"]


async def test_a_server_that_refuses_for_now_gets_the_same_mail_again(ready, mailbox):
    await ready.subscriptions.add(_request())
    mailbox.refuse = ["451 Not now"]
    ready.turn("storage_critical", BAD)
    assert await ready.outbox.run_once() == 0
    [info] = await ready.subscriptions.listed()
    assert (info.waiting, "451" in info.error) == (1, True)
    ready.clock.now += HOUR
    assert await ready.outbox.run_once() == 1
    assert len(mailbox.mails) == 1


async def test_killed_between_sending_and_settling_it_is_sent_again_under_the_same_id(ready, mailbox, monkeypatch):
    class KilledError(BaseException):
        pass

    def killed(*_args, **_kwargs):
        raise KilledError

    await ready.subscriptions.add(_request())
    ready.turn("storage_critical", BAD)
    with monkeypatch.context() as patch:
        patch.setattr("entrepot.site.notifications.outbox.notifications.settle", killed)
        with pytest.raises(KilledError):
            await ready.outbox.run_once()
    ready.boot()
    assert await ready.outbox.run_once() == 0, "taken up: nobody else sends it meanwhile"
    ready.clock.now += HOUR
    assert await ready.outbox.run_once() == 1
    ids = {email.message_from_bytes(mail)["Message-ID"] for mail in mailbox.mails}
    assert (len(mailbox.mails), len(ids)) == (2, 1)


async def test_the_test_button_says_what_came_of_it(ready, mailbox):
    info = await ready.subscriptions.add(_request())
    assert (await ready.subscriptions.test(info.name)).target == "ops@contoso.com"
    await ready.subscriptions.test_mail("anna@contoso.com")
    assert mailbox.to == [["ops@contoso.com"], ["anna@contoso.com"]]


async def test_a_wrong_password_is_a_clear_error_and_never_told(ready, smtp_port, security, certificate):
    await ready.subscriptions.set_mail_server(
        MailServerRequest(
            host="localhost",
            port=smtp_port,
            security=Security(security),
            account=ACCOUNT,
            password="wrong-secret",
            sender="a@b.org",
            authority=certificate.pem,
        )
    )
    with pytest.raises(UnauthenticatedError) as caught:
        await ready.subscriptions.test_mail("anna@contoso.com")
    assert "wrong-secret" not in str(caught.value)
    assert "wrong-secret" not in repr(await ready.subscriptions.mail_server())
    assert b"wrong-secret" not in ready.path.read_bytes()


async def test_a_server_with_an_unknown_certificate_is_not_trusted(ready, smtp_port, security):
    await ready.subscriptions.set_mail_server(
        MailServerRequest(
            host="localhost",
            port=smtp_port,
            security=Security(security),
            account=ACCOUNT,
            password=PASSWORD,
            sender="a@b.org",
        )
    )
    with pytest.raises(TrustError):
        await ready.subscriptions.test_mail("anna@contoso.com")


async def test_without_a_mail_server_the_message_waits(told):
    await told.subscriptions.add(_request())
    told.turn("storage_critical", BAD)
    assert await told.outbox.run_once() == 0
    [info] = await told.subscriptions.listed()
    assert info.waiting == 1
    assert "No mail server" in info.error
    with pytest.raises(ConflictError):
        await told.subscriptions.test("ops")


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "nobody"},
        {"target": "a@b\r\nBcc: c@d"},
        {"target": ";"},
        {"types": ("no_such_type",)},
        {"secret": "x" * 20},
    ],
)
async def test_a_subscription_that_will_not_do_is_refused(told, changes):
    with pytest.raises(BadInputError):
        await told.subscriptions.add(_request(**changes))
    assert await told.subscriptions.listed() == []


async def test_a_password_that_cannot_be_sent_is_refused_at_once_and_not_told(told):
    with pytest.raises(BadInputError, match="ASCII") as caught:
        await told.subscriptions.set_mail_server(
            MailServerRequest(host="h", security=Security.TLS, account="a", password="pässword", sender="a@b.org")
        )
    assert "ä" not in str(caught.value)
    assert (await told.subscriptions.mail_server()).host == ""


async def test_a_kept_password_that_cannot_be_sent_is_no_problem_of_the_server(ready, smtp_port, security, certificate):
    account = MailAccount(
        host="localhost",
        port=smtp_port,
        security=Security(security),
        sender="a@b.org",
        authority=certificate.pem,
        account=ACCOUNT,
        password=Secret("pässword"),
    )
    with pytest.raises(BadInputError) as caught:
        send(account, EmailMessage(), ["anna@contoso.com"])
    assert "ä" not in str(caught.value)
    assert "xe4" not in str(caught.value)


async def test_a_password_is_never_sent_without_tls(told):
    with pytest.raises(BadInputError, match="without TLS"):
        await told.subscriptions.set_mail_server(
            MailServerRequest(host="h", security=Security.NONE, account="a", password="b", sender="a@b.org")
        )
