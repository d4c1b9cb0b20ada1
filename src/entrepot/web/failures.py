"""What went wrong on the network, in words that help (R6: the agent reports whether the name or the way is missing).

Everything that may pass is :class:`UnavailableError` and retryable; a certificate that cannot be accepted is
:class:`TrustError` and is not.
"""

import contextlib
import errno
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from entrepot.core.errors import BadInputError, EntrepotError, TrustError, UnavailableError


class NameResolutionError(UnavailableError):
    """The host's name has no address: DNS, or the CNAME of a cloud service, is not in place (R6)."""

    code = "name_resolution"


class NoRouteError(UnavailableError):
    """The name resolves, but the network gives no way there: no internet, a firewall, a missing route (R6)."""

    code = "no_route"


_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EACCES, errno.EPERM}
_NO_ROUTE_WINDOWS = {10013, 10050, 10051, 10065}


@contextlib.contextmanager
def network_failures(url: str) -> Iterator[None]:
    """Translate what aiohttp raises while asking ``url``.

    Raises:
        UnavailableError: and its kinds above.
        TrustError: the server's certificate is not acceptable.
        BadInputError: the URL is not one.
    """
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
        raise explain(error, url) from error


@contextlib.contextmanager
def impossible_requests(url: str) -> Iterator[None]:
    """Translate what aiohttp raises while it puts a request together from what others gave: an address with a password
    or with a name that no DNS could hold, a token with line breaks.

    Raises:
        BadInputError: it cannot be sent.
    """
    try:
        yield
    except (aiohttp.ClientError, OSError):  # some of these are ValueErrors, too
        raise
    except ValueError as error:
        raise BadInputError(
            f"{host_of(url)[:200]} cannot be asked: {error}",
            next_step="Check the address, which may hold no user and no password, and the token. Ask who gave them.",
        ) from None


def never_connected(error: EntrepotError) -> bool:
    """Whether a failure of :func:`network_failures` came before there was a connection: nobody was asked anything."""
    return isinstance(error.__cause__, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def explain(error: BaseException, url: str) -> EntrepotError:
    """The error that says which host, what happened and what to check."""
    where = host_of(url)
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return BadInputError(f"{url[:200]!r} is not a URL that can be asked.")
        case aiohttp.ServerFingerprintMismatch():
            return TrustError(
                f"{where} presents another certificate than the pinned one (SHA-256 {error.got.hex()}).",
                next_step="Somebody is between you and it, such as a proxy that opens TLS connections (it must leave "
                "these alone), unless its administrator replaced its key: ask them for the pin (entrepot host identity "
                "show) and compare. If it is the same, accept it: entrepot cloud accept-pin NAME --host-pin PIN",
            )
        case aiohttp.ClientConnectorCertificateError():
            return _certificate(error.certificate_error, where)
        case aiohttp.ClientConnectorDNSError():
            return NameResolutionError(
                f"The name {where} cannot be resolved.",
                next_step="Check DNS; for a cloud point, that the record exists which `entrepot cloud dns` names.",
            )
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return _proxy(error, where)
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            if isinstance(_cause(error), ssl.SSLCertVerificationError):
                return _certificate(_cause(error), where)
            return TrustError(
                f"No secure connection to {where}: {_reason(_cause(error))}.",
                next_step="Check that this is an HTTPS port with TLS 1.2 or later.",
            )
        case aiohttp.ClientConnectorError():
            return _unreachable(error.os_error, where)
        case TimeoutError():
            return UnavailableError(
                f"{where} did not answer in time.", next_step="Check that it is running and not overloaded."
            )
        case aiohttp.ClientPayloadError():
            return UnavailableError(
                f"{where} broke off before its answer was complete.", next_step="Trying again may help."
            )
        case OSError():
            return _unreachable(error, where)
        case _:
            return UnavailableError(
                f"The connection to {where} failed: {type(error).__name__}.", next_step="Check that it is running."
            )


def _proxy(error: aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError, where: str) -> NoRouteError:
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return NoRouteError(
            f"The proxy on the way to {where} cannot be reached.",
            next_step="Check the proxy setting, and that the proxy is running.",
        )
    if error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return NoRouteError(
            f"The proxy on the way to {where} does not accept the user or the password.",
            next_step="Check those in the proxy setting; special characters are written as %XX there.",
        )
    return NoRouteError(
        f"The proxy does not lead to {where} (HTTP status {error.status}).",
        next_step="Check what the proxy permits, and whether it reaches that address.",
    )


def _certificate(error: BaseException | None, where: str) -> TrustError:
    return TrustError(
        f"The certificate of {where} is not acceptable: {_reason(error)}.",
        next_step="Check its name, its dates, and that its issuer is trusted here.",
    )


def _unreachable(error: OSError, where: str) -> UnavailableError:
    if error.errno in _NO_ROUTE or getattr(error, "winerror", None) in _NO_ROUTE_WINDOWS:
        return NoRouteError(
            f"There is no way to {where}: {error.strerror or 'no route'}.",
            next_step="Check the network connection, the route and the firewall.",
        )
    if isinstance(error, ConnectionRefusedError):
        return UnavailableError(
            f"{where} refuses connections.", next_step="Check that the server is running and its port."
        )
    if isinstance(error, ConnectionError):
        return UnavailableError(f"{where} closed the connection.", next_step="Check that the server is running.")
    return UnavailableError(
        f"No connection to {where}: {error.strerror or type(error).__name__}.",
        next_step="Check the network and that the server is running.",
    )


def _cause(error: BaseException) -> BaseException:
    inner = getattr(error, "os_error", None)
    return inner if isinstance(inner, BaseException) else error


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error).rstrip(".") or type(error).__name__


def host_of(url: str) -> str:
    """``host:port`` of a URL, for error texts; never its path or query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "?", parts.port
    except ValueError:
        return "?"
    return f"{host}:{port}" if port else host
