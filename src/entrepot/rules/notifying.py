"""Who is told of what, and the bounds of where messages may go. Pure.

A webhook leads to a public address over TLS. Private addresses are an administrator's choice for a subscription;
link-local ones (where clouds keep the credentials of their machines), multicast and unspecified ones are never called.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from entrepot.core.errors import BadInputError
from entrepot.rules.alerttypes import ALERT_TYPES, Severity
from entrepot.rules.retry import Schedule

RETRIES: Final = Schedule(quick=(10, 30, 120, 600, 1800), pause=7200, attempts=30)
"""Two and a half days: a mail server or receiver that is down over a weekend still gets its messages."""
MAX_ADDRESSES: Final = 50
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def matches(types: tuple[str, ...], severities: tuple[str, ...], *, type_: str, severity: Severity) -> bool:
    """Whether a subscription with these filters (empty: all) wants an alert."""
    return (not types or type_ in types) and (not severities or severity.value in severities)


def check_types(types: tuple[str, ...]) -> None:
    """Check that these are types of alerts.

    Raises:
        BadInputError: one is not.
    """
    for type_ in types:
        if type_ not in ALERT_TYPES:
            raise BadInputError(
                f"{type_[:48]!r} is no type of alert.", next_step=f"Types: {', '.join(sorted(ALERT_TYPES))}."
            )


def mail_addresses(text: str) -> tuple[str, ...]:
    """Addresses separated by ``;``.

    Raises:
        BadInputError: none, too many, or one that is no mail address.
    """
    found = tuple(part.strip() for part in text.split(";") if part.strip())
    if not 1 <= len(found) <= MAX_ADDRESSES:
        raise BadInputError(f"Give 1 to {MAX_ADDRESSES} mail addresses, separated by semicolons.")
    for address in found:
        if not _ADDRESS.fullmatch(address) or ".." in address:
            raise BadInputError(f"{address[:100]!r} is not a mail address.")
    return found


def check_webhook(url: str, *, private_networks: bool) -> None:
    """Check the address of a webhook; what its name resolves to is checked again whenever it is called.

    Raises:
        BadInputError: not https, with credentials in it, or an address that may not be called.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or not url.isascii() or parts.scheme != "https":
        raise BadInputError("The address of a webhook begins with https://.")
    if parts.username is not None or parts.fragment:
        raise BadInputError("The address of a webhook has no user name, password or fragment.")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    check_destination(host, private_networks=private_networks)


def check_destination(address: str, *, private_networks: bool) -> None:
    """Check an IP address that a webhook is about to call.

    Raises:
        BadInputError: it may not be called.
    """
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and (inner := ip.ipv4_mapped or ip.sixtofour):
        ip = inner
    never = ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.is_reserved and not ip.is_private)
    if never or (not ip.is_global and not private_networks):
        raise BadInputError(
            "The webhook leads to an address that is not public.",
            next_step="If that is intended, make the subscription anew and allow private networks.",
        )
