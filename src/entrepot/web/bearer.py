"""The bearer token of a request (RFC 6750 section 2.1): from the header only, never from a URL."""

from entrepot.core.errors import UnauthenticatedError
from entrepot.protocol.tokens import MAX_TOKEN_BYTES
from entrepot.web.asgi import Scope, header


def bearer_token(scope: Scope) -> str:
    """The token.

    Raises:
        UnauthenticatedError: no such header or several, another scheme, or longer than any token of ours.
    """
    text = header(scope, b"authorization") or ""
    if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:  # a proxy might have judged another one
        raise UnauthenticatedError("This request has more than one Authorization header.")
    scheme, _, token = text.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("This request needs a bearer token.")
    if len(token) > MAX_TOKEN_BYTES:
        raise UnauthenticatedError("The token is longer than any valid one.")
    return token
