"""A session with a site's admin API: what every administrator command works through.

The hierarchy root's fingerprint is pinned at the first login. It verifies the trust document, the trust document
names the CA, the CA verifies TLS: no certificate of the operating system is asked, none is accepted by hand.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote, urlencode

import typer

from entrepot.cli.credentials import find_login, trust_file
from entrepot.core.errors import BadInputError
from entrepot.protocol.siteapi import PREFIX

if TYPE_CHECKING:  # loaded when a site is asked: --help and usage errors answer without waiting for them
    from entrepot.web.http import HttpClient
    from entrepot.web.tls import TlsTrust

T = TypeVar("T")

FINGERPRINT_SOURCE = "On the site server, `entrepot site fingerprint`"


class SiteSession:
    """Synchronous calls to one site's API; use as a context manager.

    Raises:
        EntrepotError: from every call: what the site answered, or why it could not be asked.
    """

    def __init__(self, url: str, tls: "TlsTrust", token: str = "") -> None:
        self.url = url
        self.tls = tls
        self._token = token or None
        self._runner = asyncio.Runner()
        self._http: HttpClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._http is not None:
            self._runner.run(self._http.close())
        self._runner.close()

    def get(self, path: str, kind: type[T], /, **query: str | int | None) -> T:
        """``GET`` below ``/api/v1``; queries that are ``None`` are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", path + (f"?{urlencode(given)}" if given else ""), None, kind)

    def post(self, path: str, body: object, kind: type[T]) -> T:
        """``POST`` below ``/api/v1``."""
        return self.call("POST", path, body, kind)

    def call(self, method: str, path: str, body: object, kind: type[T], *, patience: float | None = None) -> T:
        """Any request below ``/api/v1``; ``type(None)`` as ``kind`` ignores the answer.

        Args:
            patience: how many seconds the site may take, where that is longer than usual.
        """
        return self._runner.run(self._request(method, f"{self.url}{PREFIX}{path}", body, kind, patience))

    async def _request(self, method: str, url: str, body: object, kind: type[T], patience: float | None) -> T:
        from entrepot.web.http import DEFAULT_TIMEOUTS, HttpClient, Timeouts

        if self._http is None:
            self._http = HttpClient(self.tls)
        timeouts = DEFAULT_TIMEOUTS if patience is None else Timeouts(stall=patience, total=patience)
        return await self._http.request_json(method, url, body, kind, bearer=self._token, timeouts=timeouts)


def seg(name: str) -> str:
    """A name or id as one path segment.

    Raises:
        BadInputError: nothing has such a name, and the path would lead elsewhere.
    """
    if not name.strip() or "/" in name or name in (".", ".."):
        raise BadInputError(
            f"{name!r} is no name or id: one has no slash and is not empty.", next_step="Give a name or an id."
        )
    return quote(name, safe="")


@contextlib.contextmanager
def site_session(ctx: typer.Context) -> Iterator[SiteSession]:
    """The session of the site that this command goes to (``--site``, else the current one).

    Raises:
        UnauthenticatedError: nobody has logged in there.
    """
    login = find_login(chosen_site(ctx), time.time())
    with SiteSession(login.url, hierarchy_trust(login.fingerprint), login.token) as session:
        yield session


def chosen_site(ctx: typer.Context) -> str | None:
    """What ``--site`` or ``ENTREPOT_SITE`` says."""
    chosen = ctx.find_root().params.get("site")
    return chosen if isinstance(chosen, str) and chosen else None


def hierarchy_trust(fingerprint: str) -> "TlsTrust":
    """TLS trust of a hierarchy that was pinned before.

    Raises:
        TrustError: the pinned documents are missing or damaged.
    """
    from entrepot.trust.pins import TrustStore
    from entrepot.web.tls import TlsTrust

    return TlsTrust.hierarchy(TrustStore(trust_file(fingerprint)).ca_certificates())


def fingerprint_from(text: str) -> bytes:
    """A root fingerprint as people copy it: hexadecimal, with or without colons, dashes and spaces.

    Raises:
        BadInputError: anything else.
    """
    cleaned = re.sub(r"[:\s-]", "", text).lower()
    try:
        raw = bytes.fromhex(cleaned)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise BadInputError(
            "A fingerprint is 64 hexadecimal digits.",
            next_step=f"{FINGERPRINT_SOURCE} prints it.",
        )
    return raw
