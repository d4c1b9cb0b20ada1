"""TLS ClientHellos made by hand: what no library of today says any more, said to a server to see that it refuses.

Formats: RFC 5246 and RFC 8446 (hello messages), RFC 6101 (SSL 3.0), and SSL 2.0's own hello.
"""

import secrets
import socket
import struct
from collections.abc import Sequence

import msgspec

TLS12 = 0x0303
ALERT, HANDSHAKE, SERVER_HELLO = 21, 22, 2
DOWNGRADE_MARK = b"DOWNGRD\x01"
"""End of a random value of a server that would have spoken TLS 1.3 (RFC 8446 section 4.1.3)."""
MODERN_GROUPS = (0x001D, 0x0017, 0x0018)  # X25519, P-256, P-384
SIGNATURES = (0x0403, 0x0503, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said: a hello, an alert, or nothing at all (``refused`` for both)."""

    refused: bool
    alert: int = -1
    version: int = 0
    random: bytes = b""
    cipher: int = -1
    compression: int = -1
    extensions: tuple[int, ...] = ()


def _extension(number: int, body: bytes) -> bytes:
    return struct.pack(">HH", number, len(body)) + body


def client_hello(
    name: str,
    ciphers: Sequence[int],
    *,
    version: int = TLS12,
    compression: bytes = b"\x00",
    groups: Sequence[int] = MODERN_GROUPS,
    more: bytes = b"",
) -> bytes:
    """A record with a ClientHello of at most ``version``; SSL 3.0 (0x0300) has no extensions."""
    host = name.encode()
    extensions = b"".join(
        (
            _extension(0, struct.pack(">HBH", len(host) + 3, 0, len(host)) + host),
            _extension(10, struct.pack(f">H{len(groups)}H", 2 * len(groups), *groups)),
            _extension(11, b"\x01\x00"),
            _extension(13, struct.pack(f">H{len(SIGNATURES)}H", 2 * len(SIGNATURES), *SIGNATURES)),
            more,
        )
    )
    body = struct.pack(">H", version) + secrets.token_bytes(32) + b"\x00"
    body += struct.pack(f">H{len(ciphers)}H", 2 * len(ciphers), *ciphers)
    body += bytes([len(compression)]) + compression
    if version > 0x0300:
        body += struct.pack(">H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return struct.pack(">BHH", HANDSHAKE, min(version, 0x0301), len(message)) + message


def ssl2_hello() -> bytes:
    """SSL 2.0: seven cipher kinds of three bytes each, a challenge of 16."""
    kinds = b"".join(bytes([number, 0, 0x80]) for number in (1, 2, 3, 4, 5, 6, 7))
    body = b"\x01\x00\x02" + struct.pack(">HHH", len(kinds), 0, 16) + kinds + secrets.token_bytes(16)
    return struct.pack(">H", 0x8000 | len(body)) + body


def say(port: int, hello: bytes) -> Answer:
    """Send a hello to a server on this machine and read its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(hello)
        kind, data = _record(connection)
    if kind == HANDSHAKE and data[:1] == bytes([SERVER_HELLO]):
        return _server_hello(data[4:])
    return Answer(refused=True, alert=data[1] if kind == ALERT and len(data) == 2 else -1)


def _record(connection: socket.socket) -> tuple[int, bytes]:
    try:
        head = _exactly(connection, 5)
        return head[0], _exactly(connection, int.from_bytes(head[3:], "big"))
    except (ConnectionError, EOFError):
        return -1, b""


def _exactly(connection: socket.socket, count: int) -> bytes:
    gathered = b""
    while len(gathered) < count:
        piece = connection.recv(count - len(gathered))
        if not piece:
            raise EOFError
        gathered += piece
    return gathered


def _server_hello(body: bytes) -> Answer:
    (version,) = struct.unpack_from(">H", body)
    at = 35 + body[34]
    cipher, compression = struct.unpack_from(">HB", body, at)
    at += 5
    found = []
    while at + 4 <= len(body):
        number, length = struct.unpack_from(">HH", body, at)
        found.append(number)
        at += 4 + length
    return Answer(
        refused=False,
        version=version,
        random=body[2:34],
        cipher=cipher,
        compression=compression,
        extensions=tuple(found),
    )
