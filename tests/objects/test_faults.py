"""Stores far away fail in every way that networks and services know: each is retried or named, nothing wrong stays."""

import contextlib
import http.client
import http.server
import socket
import ssl
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from entrepot.core.errors import (
    BadInputError,
    ForbiddenError,
    IntegrityError,
    NotFoundError,
    StorageError,
    TrustError,
    UnavailableError,
)
from entrepot.objects.hashing import object_id_of
from entrepot.objects.metering import Meter
from entrepot.objects.opening import open_remote
from entrepot.objects.retrying import Backoff
from entrepot.objects.settings import StoreKind, StoreSettings, check_store, load_credentials
from entrepot.objects.shelf import Shelf, key_of
from entrepot.objects.store import ObjectStore, SignedUrl
from entrepot.objects.verifying import VerifyingStore

pytestmark = pytest.mark.process
QUICK = Backoff(attempts=4, first=0.01)
DATA = bytes(range(256)) * 4096
OBJECT = object_id_of(DATA)
KEY = key_of(OBJECT)


class Between:
    """An HTTP server in front of moto that spoils the next answers, one fault each."""

    def __init__(self, port: int) -> None:
        self.faults: list[str] = []
        self.always = ""
        self.requests = 0
        between = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each body waits 40 ms for its headers to be acknowledged

            def log_message(self, format, *arguments):  # noqa: A002  # the base's name
                pass

            def answer(self) -> None:
                between.requests += 1
                fault = between.faults.pop(0) if between.faults else between.always
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if fault == "reset before":
                    return self.reset()
                if fault.isdigit():
                    return self.give(int(fault), b"<Error><Code>SlowDown</Code></Error>")
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                upstream.request(self.command, self.path, body, dict(self.headers))
                found = upstream.getresponse()
                data = found.read()
                upstream.close()
                if fault == "reset after":
                    return self.reset()
                headers = {name: value for name, value in found.getheaders() if name.lower() in KEPT}
                if fault == "flip" and data:
                    data = bytes([data[0] ^ 1]) + data[1:]
                size = len(data) if self.command != "HEAD" else int(found.getheader("content-length") or 0)
                cut = len(data) // 2 if fault == "truncate" else len(data)
                return self.give(found.status, data[:cut], size, headers, close=fault == "truncate")

            do_GET = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815  # the base's names

            def give(self, status, data, size=None, headers=(), *, close=False) -> None:
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data) if size is None else size))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                self.close_connection = close

            def reset(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # connections that are reset are the purpose

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


KEPT = {"etag", "last-modified", "content-type", "content-range", "accept-ranges"}


@pytest.fixture
def settings(moto) -> StoreSettings:
    found: StoreSettings = moto.settings()
    return found


@pytest.fixture
def straight(settings: StoreSettings) -> ObjectStore:
    """The same bucket without anything in between."""
    return open_remote(settings, meter=Meter())


@pytest.fixture
def between(moto) -> Iterator[Between]:
    made = Between(moto.port)
    yield made
    made.close()


@pytest.fixture
def store(settings: StoreSettings, between: Between) -> ObjectStore:
    there = msgspec.structs.replace(settings, endpoint=f"http://127.0.0.1:{between.port}")
    return open_remote(there, meter=Meter(), backoff=QUICK)


TRANSIENT = ["503", "500", "429", "reset before", "reset after"]


@pytest.mark.parametrize("fault", TRANSIENT)
class TestTransientFaults:
    def test_a_put_succeeds_after_them(self, store, straight, between, fault):
        between.faults = [fault] * 3
        assert store.put(KEY, DATA)
        assert b"".join(straight.read(KEY)) == DATA

    def test_a_conditional_put_has_a_true_answer(self, store, straight, between, fault):
        between.faults = [fault] * 2
        assert store.put("tx/1/a/0", b"segment", if_absent=True)
        between.faults = [fault]
        assert not store.put("tx/1/a/0", b"another", if_absent=True)
        assert b"".join(straight.read("tx/1/a/0")) == b"segment"

    def test_reading_asking_listing_and_deleting_succeed_after_them(self, store, straight, between, fault):
        straight.put(KEY, DATA)
        uses: list[Callable[[], object]] = [
            lambda: b"".join(store.read(KEY)) == DATA,
            lambda: store.stat(KEY).size == len(DATA),
            lambda: [entry.key for entry in store.list().entries] == [KEY],
            lambda: store.fetch(KEY, limit=len(DATA)).data == DATA,
            lambda: store.delete(KEY),
        ]
        for use in uses:
            between.faults = [fault] * 2
            assert use()
            between.faults.clear()
        assert straight.list().entries == ()

    def test_they_are_named_when_they_last(self, store, straight, between, fault):
        between.always = fault
        if fault == "reset after":
            straight.put(KEY, DATA)
        for use in (lambda: next(store.read(KEY)), lambda: store.stat(KEY), lambda: store.list()):
            with pytest.raises(UnavailableError, match="object store"):
                use()
        assert between.requests == 3 * QUICK.attempts


class TestWrongBytes:
    def test_a_truncated_body_is_read_on(self, store, straight, between):
        straight.put(KEY, DATA)
        between.faults = ["truncate"]
        assert b"".join(store.read(KEY)) == DATA
        assert between.requests == 2

    def test_a_body_that_is_always_truncated_still_comes_to_an_end(self, store, straight, between):
        straight.put("control", DATA)
        between.always = "truncate"
        with pytest.raises(UnavailableError):
            store.fetch("control", limit=len(DATA))
        with pytest.raises(UnavailableError):
            list(store.read("control"))

    def test_flipped_bytes_are_never_passed_on_whole(self, store, straight, between):
        straight.put(KEY, DATA)
        between.always = "flip"
        gathered = bytearray()
        with pytest.raises(IntegrityError, match="damaged"):
            for piece in VerifyingStore(store).read(KEY):
                gathered += piece
        assert len(gathered) < len(DATA)
        with pytest.raises(IntegrityError):
            Shelf(store).read_whole(OBJECT)

    def test_bytes_that_are_not_the_object_are_never_stored(self, store, straight, between):
        shelf = Shelf(store)
        with pytest.raises(IntegrityError):
            shelf.put(OBJECT, iter([DATA[:-1], b"x"]))
        with pytest.raises(NotFoundError):
            straight.stat(KEY)


class TestRefusals:
    """They are final: one request each, and no word of the answer that could hold a secret."""

    @pytest.mark.parametrize(
        ("status", "error"), [("403", ForbiddenError), ("401", ForbiddenError), ("400", StorageError)]
    )
    def test_they_are_not_tried_again(self, store, between, status, error):
        between.always = status
        with pytest.raises(error) as raised:
            store.put("k", b"x")
        assert between.requests == 1
        assert str(between.port) not in str(raised.value)

    def test_a_missing_bucket_is_named(self, settings):
        store = open_remote(msgspec.structs.replace(settings, bucket="no-such-bucket"), meter=Meter())
        with pytest.raises(StorageError, match="NoSuchBucket"):
            store.put("k", b"x")

    def test_a_missing_container_is_named(self, azurite):
        store = open_remote(msgspec.structs.replace(azurite.settings(), bucket="no-such-one"), meter=Meter())
        with pytest.raises(StorageError, match="ContainerNotFound"):
            store.put("k", b"x")

    def test_wrong_credentials_are_named_and_new_ones_taken_up(self, azurite, tmp_path, monkeypatch):
        monkeypatch.setattr("entrepot.objects.opening.LOOK_SECONDS", 0.0)
        credentials = tmp_path / "azure.toml"
        right = Path(azurite.settings().credentials).read_text()
        credentials.write_text('account_key = "d3Jvbmc="\n')
        credentials.chmod(0o600)
        store = open_remote(
            msgspec.structs.replace(azurite.settings(), credentials=str(credentials)), meter=Meter(), backoff=QUICK
        )
        with pytest.raises(ForbiddenError, match="credentials"):
            store.put("k", b"x")
        credentials.write_text(right)
        assert store.put("k", b"x")

    def test_a_certificate_of_a_stranger_is_not_trusted(self, azurite):
        store = open_remote(msgspec.structs.replace(azurite.settings(), ca=""), meter=Meter(), backoff=QUICK)
        with pytest.raises(TrustError, match="certificate"):
            store.stat("k")


class TestSignedAddresses:
    def test_they_open_one_key_for_reading_until_they_expire(self, azurite):
        store = open_remote(azurite.settings(), meter=Meter())
        store.put(KEY, DATA)
        store.put("other", b"secret")
        link = store.link(KEY, seconds=3)
        assert isinstance(link, SignedUrl)
        assert "sig=" not in repr(link)
        assert _read(azurite, link.url) == DATA
        assert _read(azurite, link.url.replace(KEY, "other")) == 403
        assert _read(azurite, link.url, method="DELETE") == 403
        assert _read(azurite, link.url, method="PUT", body=b"x") == 403
        assert b"".join(store.read(KEY)) == DATA
        waited = threading.Event()
        for _ in range(600):
            if _read(azurite, link.url) == 403:
                break
            waited.wait(0.1)
        assert _read(azurite, link.url) == 403, "it has expired"

    def test_s3_signs_too(self, straight):
        straight.put(KEY, DATA)
        link = straight.link(KEY, seconds=60)
        assert isinstance(link, SignedUrl)
        assert "X-Amz-Expires=60" in link.url
        with urllib.request.urlopen(link.url) as answer:
            assert answer.read() == DATA


def _read(server, url: str, *, method: str = "GET", body: bytes | None = None) -> bytes | int:
    request = urllib.request.Request(url, method=method, data=body, headers={"x-ms-blob-type": "BlockBlob"})
    context = ssl.create_default_context(cafile=str(server.ca))
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            found: bytes = answer.read()
            return found
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_sigkill_in_the_middle_of_uploads_leaves_values_whole_or_absent(own_azurite):
    store = open_remote(own_azurite.settings(), meter=Meter(), backoff=Backoff(attempts=2, first=0.01))
    values = {f"k{number}": bytes([number]) * 3_000_000 for number in range(40)}
    confirmed: list[str] = []
    begun = threading.Event()

    def upload() -> None:
        try:
            for key, value in values.items():
                store.put(key, value)
                confirmed.append(key)
                begun.set()
        except UnavailableError:
            pass

    thread = threading.Thread(target=upload)
    thread.start()
    begun.wait(60)
    own_azurite.kill()
    thread.join()
    assert 0 < len(confirmed) < len(values), "killed in the middle"
    own_azurite.start()
    for key, value in values.items():
        # Absent also after a confirmation: Azurite writes its index now and then only.
        with contextlib.suppress(NotFoundError):
            assert b"".join(store.read(key)) == value, f"{key} is torn"
        store.put(key, value)
        assert b"".join(store.read(key)) == value


class TestSettings:
    @pytest.mark.parametrize(
        "bad",
        [
            {"kind": "s3", "region": "eu-central-1"},
            {"kind": "s3", "bucket": "b"},
            {"kind": "s3", "bucket": "b", "region": "r", "account": "a"},
            {"kind": "azure", "bucket": "b"},
            {"kind": "azure", "bucket": "b", "account": "a", "region": "r"},
            {"kind": "folder", "bucket": "b"},
            {"kind": "s3", "bucket": "b", "region": "r", "prefix": "../x"},
            {"kind": "s3", "bucket": "b", "endpoint": "http://192.0.2.1"},
            {"kind": "s3", "bucket": "b", "endpoint": "https://user:word@192.0.2.1"},
            {"kind": "s3", "bucket": "b", "endpoint": "https://192.0.2.1/?x=1"},
            {"kind": "s3", "bucket": "b", "endpoint": "ftp://127.0.0.1"},
        ],
    )
    def test_contradictions_are_refused(self, bad):
        with pytest.raises(BadInputError):
            check_store(msgspec.convert(bad, StoreSettings))

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("s3", 'access_key_id = "only"'),
            ("s3", 'account_key = "hush"'),
            ("azure", ""),
            ("azure", 'account_key = "hush"\nsas_token = "hush"'),
            ("azure", 'account_key = "hush"\nmore = "hush"'),
            ("azure", "hush"),
            ("azure", "\xff"),
        ],
    )
    def test_credentials_files_are_checked_and_never_quoted(self, tmp_path, kind, text):
        path = tmp_path / "credentials.toml"
        path.write_bytes(text.encode("latin-1"))
        path.chmod(0o600)
        with pytest.raises(BadInputError) as raised:
            load_credentials(path, StoreKind(kind))
        assert "hush" not in str(raised.value)

    def test_credentials_that_others_can_read_are_refused(self, tmp_path):
        path = tmp_path / "credentials.toml"
        path.write_text('account_key = "hush"')
        path.chmod(0o640)
        with pytest.raises(BadInputError, match="chmod 600"):
            load_credentials(path, StoreKind.AZURE)
        with pytest.raises(BadInputError, match="cannot be read"):
            load_credentials(tmp_path / "none", StoreKind.AZURE)

    def test_credentials_have_no_text_form(self, azurite):
        found = load_credentials(Path(azurite.settings().credentials), StoreKind.AZURE)
        assert "Eby8" not in f"{found} {found!r}"
