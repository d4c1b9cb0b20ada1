"""Addresses that people write down: where a server listens, and where others reach it."""

import ipaddress
from urllib.parse import urlsplit

from entrepot.core.errors import BadInputError

MAX_URL = 512
MAX_PORT = 65_535


def parse_listen(text: str) -> tuple[str, int]:
    """Split ``host:port`` (``[::1]:8443`` for IPv6); port 0 picks a free one.

    Raises:
        BadInputError: any other text.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > MAX_PORT:
        raise BadInputError(f"{text!r} is not an address to listen on.", next_step="Write host:port.")
    return host, int(port)


def is_wildcard(host: str) -> bool:
    """Whether this stands for all addresses of a machine, so that nobody can be told it."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_unspecified
    except ValueError:
        return False


def parse_ports(text: str) -> tuple[range, ...]:
    """Read ports and ranges of them: ``443, 8443-8499``.

    Raises:
        BadInputError: any other text, or none at all.
    """
    found = []
    for part in text.split(","):
        first, dash, last = (one.strip() for one in part.partition("-"))
        ends = [
            int(one) if one.isascii() and one.isdigit() and len(one) <= 5 else 0
            for one in (first, last if dash else first)
        ]
        if not 1 <= ends[0] <= ends[1] <= MAX_PORT:
            raise BadInputError(f"{text[:80]!r} names no ports.", next_step="Write them so: 443,8443-8499.")
        found.append(range(ends[0], ends[1] + 1))
    return tuple(found)


def ip_and_port(text: str, port: int) -> tuple[str, int]:
    """Split ``address`` or ``address:port`` (``[v6]:port``); an IP address, no name.

    Args:
        port: where the text has none.

    Raises:
        BadInputError: any other text.
    """
    host, _, given = text.rpartition(":") if text.count(":") == 1 or text.startswith("[") else (text, "", str(port))
    try:
        found = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(given)
    except ValueError:
        found = "", -1
    if not 0 <= found[1] <= MAX_PORT:
        raise BadInputError(f"{text[:80]!r} is no IP address.", next_step="Write address or address:port.")
    return found


def proxy_url(text: str) -> str:
    """Check the address of an HTTP proxy, which may hold a password and is therefore not repeated.

    Raises:
        BadInputError: any other text.
    """
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise BadInputError("The setting proxy is not the address of a proxy.", next_step="Write http://host:port.")
    return text


def server_url(text: str, of: str) -> str:
    """Check the address at which others reach a server: ``https://host`` or ``https://host:port``, no slash at its end.

    Args:
        of: whose address it is, for the message, such as ``a site``.

    Raises:
        BadInputError: any other text.
    """
    try:
        parts = urlsplit(text)
        fine = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, or a port out of range
        fine = False
    if not fine or text != f"https://{parts.netloc}" or set(text) & set("@ ") or len(text) > MAX_URL:
        raise BadInputError(f"{text!r} is not an address of {of}.", next_step="Write https://host:port.")
    if not text.isascii():
        raise BadInputError(
            f"The host name of {text!r} is not written as DNS has it.",
            next_step="Write its ASCII form, such as xn--bcher-kva.example.",
        )
    return text
