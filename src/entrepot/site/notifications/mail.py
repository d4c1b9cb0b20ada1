"""Mail: one conversation with the site's mail server for each message, TLS and authentication as it is set."""

import smtplib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, formataddr
from typing import Final

import msgspec

from entrepot.core.errors import (
    BadInputError,
    EntrepotError,
    RefusedError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.core.secret import Secret
from entrepot.protocol.alertapi import Security
from entrepot.rules.notifying import mail_addresses
from entrepot.site.notifications.texts import Rendered

TIMEOUT: Final = 30.0


class MailAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A mail server, and how to send through it; ``account`` empty: without authentication."""

    host: str
    port: int
    security: Security
    sender: str
    authority: str = ""
    account: str = ""
    password: Secret = Secret(b"")


def check_account(account: MailAccount) -> None:
    """Check that the account makes sense.

    Raises:
        BadInputError: no proper sender, a password that would travel unprotected, or one that cannot be sent.
        TrustError: the authority cannot be read.
    """
    if len(mail_addresses(account.sender)) != 1:
        raise BadInputError("The sender is one mail address.")
    if account.security is Security.NONE and account.account:
        raise BadInputError(
            "A password is never sent over a connection without TLS.", next_step="Use starttls or tls, or no account."
        )
    if bool(account.account) != bool(account.password):
        raise BadInputError("Authentication takes an account and a password.")
    if not (account.account.isascii() and account.password.reveal_text().isascii()):
        raise _not_ascii()
    _context(account.authority)


def compose(
    rendered: Rendered, *, sender: str, to: Sequence[str], message_id: str, site: str, now: float
) -> EmailMessage:
    """A mail in two forms, HTML and text. ``message_id`` is the idempotency key: it stays when it is sent again."""
    mail = EmailMessage()
    mail["Subject"] = rendered.subject
    mail["From"] = formataddr((f"Entrepôt {site}", sender))
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    mail["Message-ID"] = f"<{message_id}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(rendered.text)
    mail.add_alternative(rendered.html, subtype="html")
    mail["Content-Language"] = rendered.language
    return mail


def send(account: MailAccount, mail: EmailMessage, to: Sequence[str]) -> str:
    """Hand a mail to the server; what it was refused for, if some of several addresses were. Blocking.

    Raises:
        UnavailableError: the server does not answer, or not now.
        UnauthenticatedError: it refuses the account.
        TrustError: its certificate is not trusted, or it offers no STARTTLS.
        RefusedError: it refuses the mail for good.
        BadInputError: account or password cannot be sent at all.
    """
    try:
        with _connect(account) as server:
            if account.account:
                _login(server, account)
            refused = server.send_message(mail, from_addr=account.sender, to_addrs=list(to))
    except ssl.SSLError as error:
        raise TrustError(
            f"The mail server {account.host} is not trusted: {getattr(error, 'verify_message', '') or error.reason}.",
            next_step="Check its name and certificate, or give its authority with --authority.",
        ) from None
    except smtplib.SMTPException as error:
        raise _translated(account, error) from None
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"The mail server {account.host}:{account.port} does not answer: {error}.") from None
    return "; ".join(f"{address}: {code}" for address, (code, _) in refused.items())


def _login(server: smtplib.SMTP, account: MailAccount) -> None:
    try:
        server.login(account.account, account.password.reveal_text())
    except smtplib.SMTPServerDisconnected:  # how some servers answer a wrong password that is tried in several ways
        raise smtplib.SMTPAuthenticationError(535, b"disconnected") from None
    except UnicodeError:  # its text names a character of the password
        raise _not_ascii() from None


def _not_ascii() -> BadInputError:
    return BadInputError(
        "Account and password of a mail server must be ASCII text.", next_step="Choose another password, set it again."
    )


def _connect(account: MailAccount) -> smtplib.SMTP:
    context = _context(account.authority)
    if account.security is Security.TLS:
        return smtplib.SMTP_SSL(account.host, account.port, timeout=TIMEOUT, context=context)
    server = smtplib.SMTP(account.host, account.port, timeout=TIMEOUT)
    if account.security is Security.STARTTLS:
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
    return server


def _context(authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority:
        try:
            context.load_verify_locations(cadata=authority)
        except (ssl.SSLError, TypeError):
            raise TrustError("The authority is not a certificate in PEM form.") from None
    return context


def _translated(account: MailAccount, error: smtplib.SMTPException) -> EntrepotError:
    name = f"The mail server {account.host}"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return UnauthenticatedError(f"{name} refuses the account.", next_step="Check account and password.")
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return TrustError(f"{name} does not offer what is needed: {error}.", next_step="Check port and security.")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        kind = RefusedError if codes and min(codes) >= 500 else UnavailableError
        return kind(f"{name} refuses every recipient ({', '.join(map(str, codes[:5]))}).")
    if isinstance(error, smtplib.SMTPResponseException):
        kind = RefusedError if error.smtp_code >= 500 else UnavailableError
        return kind(f"{name} refuses the mail ({error.smtp_code}).")
    return UnavailableError(f"{name} broke off: {type(error).__name__}.")
