"""One subscription of Azure: who we are there, and the SDK's clients."""

import base64
import binascii
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.core.polling import LROPoller
from azure.core.rest import HttpRequest
from azure.identity import CertificateCredential
from azure.mgmt.appcontainers import ContainerAppsAPIClient
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.monitor import MonitorManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.storage import StorageManagementClient

from entrepot.cloud.providers.azure.errors import AzureBusyError, azure_errors
from entrepot.core.errors import BadInputError, CancelledError, FormatError, UnavailableError
from entrepot.core.secret import Secret
from entrepot.protocol.cloudapi import ARM, AUTHORITY, AzureOptions
from entrepot.trust.inspection import load_cer, to_pem

STORAGE_SCOPE: Final = "https://storage.azure.com/.default"
LONGEST_OPERATION: Final = 2700.0
"""Seconds: a Container Apps environment may take half an hour."""
_LOOK: Final = 0.25
"""Seconds between two looks whether waiting is to end."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds until a resource that is busy is tried again, at most."""
_SUBSCRIPTION_VERSION: Final = "2022-12-01"

T = TypeVar("T")
Progress = Callable[[str], None]
_WATCHED: ContextVar[Progress | None] = ContextVar("watched", default=None)
"""Who looks at what this thread does."""


@contextlib.contextmanager
def watched(progress: Progress) -> Iterator[None]:
    """What the SDK sleeps in here is told, and ends when ``progress`` says so."""
    before = _WATCHED.set(progress)
    try:
        yield
    finally:
        _WATCHED.reset(before)


class AzureAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How to get there. ``ca`` is the path of a PEM file that is trusted instead of the system's roots, for proxies
    that open TLS; ``polling`` is how often long-running operations are asked, in seconds, unless Azure says."""

    subscription: str
    options: AzureOptions
    certificate: bytes
    private_key: Secret
    region: str
    arm: str = ARM
    mark: bytes = b""
    proxy: str = ""
    ca: str = ""
    polling: float = 10.0


class PatientTransport(RequestsTransport):  # type: ignore[misc]  # the SDK loads it lazily, untyped
    """The SDK's transport; what the SDK sleeps, between two looks at an operation or before it tries a request again,
    ends when the account is closed, or whoever watches the work ends that."""

    def __init__(self, closing: threading.Event, **settings: Any) -> None:
        super().__init__(**settings)
        self._closing = closing

    def sleep(self, duration: float) -> None:
        """Sleep, unless the account is closed or the work is stopped meanwhile.

        Raises:
            CancelledError: it is.
        """
        _pause(self._closing, duration, "Waiting until Azure takes the next request", _WATCHED.get())


class AzureAccount:
    """Credential and clients; thread-safe, as the SDK's are. Whoever waits in it is woken by :meth:`close`."""

    def __init__(self, access: AzureAccess) -> None:
        self.access = access
        self._closing = threading.Event()
        transport: dict[str, Any] = {"connection_timeout": 10, "read_timeout": 60}
        if access.ca:
            transport["connection_verify"] = access.ca
        proxies: dict[str, Any] = {"proxies": {"https": access.proxy}} if access.proxy else {}
        pem = access.private_key.reveal() + to_pem(load_cer(access.certificate)).encode()
        try:
            self.credential = CertificateCredential(
                access.options.tenant,
                access.options.application,
                certificate_data=pem,
                authority=access.options.authority,
                disable_instance_discovery=access.options.authority != AUTHORITY,
                **transport,
                **proxies,
            )
        except ValueError:
            raise BadInputError(
                "Azure's sign-in cannot use this management certificate: it takes RSA only.",
                next_step="Make one: entrepot certificate new-management NAME --key rsa",
            ) from None
        self.scope = f"{access.arm}/.default"
        common: dict[str, Any] = {
            "credential": self.credential,
            "subscription_id": access.subscription,
            "base_url": access.arm,
            "credential_scopes": [self.scope],
            "polling_interval": access.polling,
            "retry_total": 5,
            "retry_backoff_factor": min(0.8, access.polling),
            **proxies,
        }

        def settings() -> dict[str, Any]:
            return {**common, "transport": PatientTransport(self._closing, **transport)}

        self.resources = ResourceManagementClient(**settings())
        # The SDK's types know its own models as bodies only; plain ones, as ``bodies`` has them, it takes as well.
        self.storage: Any = StorageManagementClient(**settings())
        self.apps: Any = ContainerAppsAPIClient(**settings())
        self.roles = AuthorizationManagementClient(**settings())
        self.monitor = MonitorManagementClient(**settings())

    def close(self) -> None:
        """Wake whoever waits, and close all connections."""
        self._closing.set()
        for client in (self.resources, self.storage, self.apps, self.roles, self.monitor, self.credential):
            client.close()

    def subscription(self) -> tuple[Mapping[str, Any], int]:
        """The subscription as ARM describes it, and ARM's clock (0: not told).

        Raises:
            EntrepotError: as ``errors`` translates.
        """
        path = f"{self.access.arm}/subscriptions/{self.access.subscription}"
        with azure_errors(f"the subscription {self.access.subscription}"):
            request = HttpRequest("GET", path, params={"api-version": _SUBSCRIPTION_VERSION})
            response = self.resources.send_request(request)
            if response.status_code != 200:
                raise HttpResponseError(response=response)
            body = response.json()
        return body if isinstance(body, dict) else {}, _seconds(response.headers.get("Date", ""))

    def principal(self) -> str:
        """Object id of the application's service principal: the ``oid`` claim of our own ARM token.

        Raises:
            FormatError: the token is none that can be read.
            UnauthenticatedError: Azure refuses the certificate.
        """
        with azure_errors("signing in"):
            token = self.credential.get_token(self.scope).token
        try:
            middle = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
            return str(claims["oid"])
        except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
            raise FormatError("Azure's token does not name the application's service principal.") from None

    def storage_token(self) -> dict[str, Any]:
        """A token for Blob storage, as obstore wants it."""
        with azure_errors("signing in"):
            token = self.credential.get_token(STORAGE_SCOPE)
        return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}

    def patiently(self, work: Callable[[], T], doing: str, progress: Progress) -> T:
        """Do it, and while an operation that is under way on the same resource keeps Azure from taking it, wait for
        that one's end: it may be another process's, or of an order that gave way to this one.

        Args:
            work: looks at what is there first, as the other operation may bring about what is wanted.

        Raises:
            CancelledError: ``progress`` says so, or the account is closed.
            AzureBusyError: the other operation takes too long.
            EntrepotError: as ``errors`` translates.
        """
        ends, pause = time.monotonic() + LONGEST_OPERATION, self.access.polling
        while True:
            try:
                with azure_errors(doing):
                    return work()
            except AzureBusyError as busy:
                if time.monotonic() > ends:
                    raise
                self.pause(pause, f"Waiting for the end of Azure's present operation. {busy.message}", progress)
                pause = min(1.5 * pause, 6 * self.access.polling, _LONGEST_PAUSE)

    def order(self, begin: Callable[[], LROPoller[Any] | None], doing: str, progress: Progress) -> Any:
        """Begin a long-running operation as soon as the resource is free, and wait for its end.

        Args:
            begin: looks first, and begins it unless what is wanted is there: then there is nothing to wait for.

        Returns:
            what became of it; None where nothing was begun.

        Raises:
            EntrepotError: as :meth:`patiently`, :meth:`wait`.
        """
        poller = self.patiently(begin, doing, progress)
        return None if poller is None else self.wait(poller, doing, progress)

    def wait(self, poller: LROPoller[Any], doing: str, progress: Progress) -> Any:
        """Wait for a long-running operation; ``progress`` may stop the waiting, the operation goes on in Azure.

        Raises:
            CancelledError: ``progress`` says so, or the account is closed.
            UnavailableError: it takes too long.
            EntrepotError: as ``errors`` translates.
        """
        deadline = time.monotonic() + LONGEST_OPERATION
        with azure_errors(doing):
            while not poller.done():
                if time.monotonic() > deadline:
                    raise UnavailableError(f"Azure has not finished after {LONGEST_OPERATION / 60:.0f} min ({doing}).")
                self._check_open()
                progress(f"Waiting for Azure: {doing}")
                poller.wait(min(_LOOK, self.access.polling))
            return poller.result()

    def pause(self, seconds: float, telling: str, progress: Progress) -> None:
        """Wait until it is time to look again.

        Raises:
            CancelledError: ``progress`` says so, or the account is closed.
        """
        _pause(self._closing, seconds, telling, progress)

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise _closed()


def _pause(closing: threading.Event, seconds: float, telling: str, progress: Progress | None) -> None:
    """Sleep; every look is told to ``progress``, which may end it."""
    ends = time.monotonic() + seconds
    while True:
        if closing.is_set():
            raise _closed()
        if progress is not None:
            progress(telling)
        rest = ends - time.monotonic()
        if rest <= 0:
            return
        closing.wait(rest if progress is None else min(rest, _LOOK))


def _closed() -> CancelledError:
    return CancelledError("The connection to Azure was closed.")


def _seconds(date: str) -> int:
    try:
        return int(datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0
