"""From settings to a store that works: vendor's client, retries, meter.

Credentials are read again when their file changes, so that keys can be replaced while everything runs.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from obstore.store import AzureStore, S3Store

from entrepot.core.errors import BadInputError
from entrepot.core.times import Clock
from entrepot.objects.metering import Meter, MeteredStore
from entrepot.objects.remote import Client, RemoteStore
from entrepot.objects.retrying import DEFAULT, Backoff, RetryingStore
from entrepot.objects.settings import AzureCredentials, StoreKind, StoreSettings, check_store, load_credentials
from entrepot.objects.store import ObjectStore
from entrepot.objects.vendor import vendor_errors

LOOK_SECONDS: Final = 5.0
_NO_RETRIES: Final[Any] = {"max_retries": 0}


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a store may take, in seconds: to connect, to say nothing, and for one request in all."""

    connect: int = 10
    silence: int = 30
    whole: int = 300


USUAL: Final = Waits()


def open_remote(
    settings: StoreSettings,
    *,
    below: str = "",
    meter: Meter,
    backoff: Backoff = DEFAULT,
    waits: Waits = USUAL,
    clock: Clock = time.time,
) -> ObjectStore:
    """Open a store far away; no request is made yet.

    Args:
        below: a further prefix, for one of several users of the same settings.
        waits: how long one try may take.

    Raises:
        BadInputError: settings or credentials cannot be used.
    """
    check_store(settings)
    if settings.kind is StoreKind.FOLDER:
        raise BadInputError("A folder is not far away.")
    make = _azure if settings.kind is StoreKind.AZURE else _s3
    client = _Reloading(settings, lambda settings: make(settings, waits))
    client()  # shows now what is wrong
    remote = RemoteStore(
        client,
        prefix="/".join(filter(None, (settings.prefix, below))),
        tells_deletions=settings.kind is StoreKind.AZURE,
        clock=clock,
    )
    return RetryingStore(MeteredStore(remote, meter), backoff)


class _Reloading:
    """Gives the client; a new one when the credentials file changed. A file that cannot be used changes nothing."""

    def __init__(self, settings: StoreSettings, make: Callable[[StoreSettings], Client]) -> None:
        self._settings, self._make = settings, make
        self._lock = threading.Lock()
        self._stamp = self._stamp_now()
        self._looked = time.monotonic()
        self._client = make(settings)

    def __call__(self) -> Client:
        with self._lock:
            now = time.monotonic()
            if now >= self._looked + LOOK_SECONDS:
                self._looked = now
                stamp = self._stamp_now()
                if stamp != self._stamp:
                    try:
                        self._client = self._make(self._settings)
                        self._stamp = stamp
                    except BadInputError:  # half written, perhaps: the old ones go on
                        pass
            return self._client

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            found = Path(self._settings.credentials).stat() if self._settings.credentials else None
        except OSError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size) if found else None


def _options(settings: StoreSettings, waits: Waits) -> Any:
    options: dict[str, Any] = {
        "allow_http": settings.endpoint.startswith("http://"),
        "connect_timeout": f"{waits.connect}s",
        "timeout": f"{waits.whole}s",
        "read_timeout": f"{waits.silence}s",
    }
    if settings.ca:
        try:
            options["root_certificate"] = Path(settings.ca).read_bytes()
        except OSError as error:
            raise BadInputError(f"The store's CA file {settings.ca} cannot be read: {error.strerror}.") from None
    return options


def _s3(settings: StoreSettings, waits: Waits) -> S3Store:
    config: Any = {"region": settings.region or "us-east-1", "disable_bulk_delete": True}
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
        config["virtual_hosted_style_request"] = False
    if settings.credentials:
        found = load_credentials(Path(settings.credentials), StoreKind.S3)
        assert not isinstance(found, AzureCredentials)
        config["access_key_id"] = found.access_key_id
        config["secret_access_key"] = found.secret_access_key
        if found.session_token:
            config["session_token"] = found.session_token
    options = _options(settings, waits)
    with vendor_errors("the bucket"):
        return S3Store(settings.bucket, config=config, client_options=options, retry_config=_NO_RETRIES)


def _azure(settings: StoreSettings, waits: Waits) -> AzureStore:
    config: Any = {"account_name": settings.account}
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    if settings.credentials:
        found = load_credentials(Path(settings.credentials), StoreKind.AZURE)
        assert isinstance(found, AzureCredentials)
        if found.account_key:
            config["account_key"] = found.account_key
        else:
            config["sas_key"] = found.sas_token
    options = _options(settings, waits)
    with vendor_errors("the container"):
        return AzureStore(settings.bucket, config=config, client_options=options, retry_config=_NO_RETRIES)
