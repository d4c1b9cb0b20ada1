"""Amazon S3 by HTTPS: a front before the moto server that judges links as S3 does, and can be silent.

moto believes every signature and serves links that have expired; this front checks a link's signature (Signature
Version 4, query parameters), its method and its end, and refuses with 403. What else is signed goes through unread.
"""

import hashlib
import hmac
import http.client
import http.server
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from entrepot.objects.settings import StoreSettings
from entrepot.trust.authority import create_authority, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem

SECRET = b"test-secret"
Judge = Callable[[str, str], bool]


class S3Front:
    """Listens until :meth:`close`.

    Args:
        moto: where the store that answers is.
        folder: for certificates.

    Attributes:
        clock: by which links end.
        refuses: whether every link is refused, as where the bucket's policy forbids them.
        silent: tells of a request (method, path) whether it is accepted and never answered; while it is so.
        held: paths of the requests that wait for an answer now, because of that.
        links: method and status of each request that came by a link.
        credentials: what all requests showed as authorisation.
    """

    def __init__(self, moto: StoreSettings, folder: Path) -> None:
        self.clock: Callable[[], float] = time.time
        self.refuses = False
        self.silent: Judge = lambda _method, _path: False
        self.held: list[str] = []
        self.links: list[tuple[str, int]] = []
        self.credentials: list[str] = []
        self.direct = moto
        """The same store, past this front."""
        self._closed = threading.Event()
        self._upstream = urlsplit(moto.endpoint)
        authority = create_authority("The store's own", now=time.time())
        key = new_tls_key()
        certificate = authority.issue_server(key.public_key(), names=["localhost"], ips=["127.0.0.1"], now=time.time())
        ca, cert, private = (folder / name for name in ("store-ca.pem", "store.crt", "store.key"))
        ca.write_text(authority.pem())
        cert.write_text(to_pem(certificate))
        private.write_bytes(key_pem(key).reveal())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, private)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        endpoint = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.settings = msgspec.structs.replace(moto, endpoint=endpoint, ca=str(ca))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, whoever waits."""
        self._closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_while_silent(self, method: str, path: str) -> None:
        """Hold a request as long as it is to get no answer."""
        if not self.silent(method, path):
            return
        self.held.append(path)
        while self.silent(method, path) and not self._closed.is_set():
            self._closed.wait(0.05)
        self.held.remove(path)

    def refused(self, method: str, target: str, host: str) -> bool:
        """Tell whether a request is by a link that S3 would refuse."""
        return self.refuses or not _good_link(method, target, host, self.clock())

    def upstream(self) -> http.client.HTTPConnection:
        """A connection to moto."""
        assert self._upstream.hostname
        return http.client.HTTPConnection(self._upstream.hostname, self._upstream.port)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asks may leave at any time."""


def _handler(front: S3Front) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each body waits 40 ms for its headers to be acknowledged

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            front.wait_while_silent(self.command, self.path)
            front.credentials.append(self.headers.get("Authorization", ""))
            by_link = "X-Amz-Signature" in self.path
            if by_link and front.refused(self.command, self.path, self.headers["Host"]):
                status, headers, data = 403, [], b"<Error><Code>AccessDenied</Code></Error>"
            else:
                status, headers, data = self._ask(body)
            if by_link:
                front.links.append((self.command, status))
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "server"):
                    self.send_header(name, value)
            told = dict(headers).get("Content-Length") if self.command == "HEAD" else str(len(data))
            if status not in (204, 304):
                self.send_header("Content-Length", told or "0")
            self.end_headers()
            self.wfile.write(data)

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = front.upstream()
            try:
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  # the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            """Nobody reads it."""

    return Handler


def _good_link(method: str, target: str, host: str, now: float) -> bool:
    """Signature Version 4 by query parameters, as Amazon's documentation describes."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    signature = query.pop("X-Amz-Signature")
    begun = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    if not begun - 900 <= now < begun + int(query["X-Amz-Expires"]):
        return False
    asked = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
    request = "\n".join((method, parts.path, asked, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"))
    scope = query["X-Amz-Credential"].partition("/")[2]
    hashed = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashed))
    key = b"AWS4" + SECRET
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature)
