"""The form of a token request: client credentials with a JWT assertion (RFC 6749 4.4.2, RFC 7523 2.2)."""

from typing import Final
from urllib.parse import parse_qsl, urlencode

from entrepot.core.errors import BadInputError

TOKEN_PATH: Final = "/oauth2/token"
FORM_TYPE: Final = "application/x-www-form-urlencoded"
MAX_FORM: Final = 16 * 1024
_GRANT: Final = "client_credentials"
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def token_form(subscription: str, assertion: str) -> bytes:
    """What a client sends."""
    fields = {
        "grant_type": _GRANT,
        "client_id": subscription,
        "client_assertion_type": _ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    return urlencode(fields).encode()


def assertion_of(form: bytes) -> str:
    """The assertion in a request.

    Raises:
        BadInputError: not such a request, or one that contradicts itself.
    """
    try:
        pairs = parse_qsl(form.decode("ascii"), strict_parsing=True, max_num_fields=16)
    except ValueError:
        raise BadInputError("The token request is not a form.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadInputError("The token request gives a field twice.")
    if fields.get("grant_type") != _GRANT or fields.get("client_assertion_type") != _ASSERTION_TYPE:
        raise BadInputError(
            "The token request is not for client credentials with a JWT assertion.",
            next_step="See RFC 7523 section 2.2.",
        )
    return fields.get("client_assertion", "")
