"""What each answer of the admin API tells browsers and caches, whatever the route says.

Answers hold session tokens, enrolment codes, certificates with their keys: nobody on the way keeps them. The page that
describes the API takes a token, too: no other page may show it in a frame.
"""

from typing import Final

from entrepot.site.api.documentation import ASSETS
from entrepot.web.asgi import Message, Scope, Send

_NO_STORE: Final = (b"cache-control", b"no-store")
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


def with_protection(scope: Scope, send: Send) -> Send:
    """As ``send``; headers that an answer has already stay as they are."""
    wanted = _ALWAYS if scope["path"].startswith(f"{ASSETS}/") else (_NO_STORE, *_ALWAYS)

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            held = [*message["headers"]]
            names = {name.lower() for name, _ in held}
            message = {**message, "headers": [*held, *(one for one in wanted if one[0] not in names)]}
        await send(message)

    return sending
