"""Looking again at what a holder has: the site's ``POST /objects/verify`` and ``GET /copies/{id}``.

A holder reads its objects again and compares them with their ids; it changes nothing. The site decides what becomes of
what is damaged: it sends the object again, which replaces it.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final, Protocol, cast

from entrepot.content.checking import look
from entrepot.core.errors import BadInputError, FormatError, RefusedError
from entrepot.core.ids import OBJECT_ID_BYTES, ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.protocol.dataplane import MAX_OBJECT_BYTES, MAX_VERIFY_IDS
from entrepot.rules.verdicts import Verdict
from entrepot.web.asgi import Receive, Scope, Send, read_body, send_response

_VERDICTS: Final = (Verdict.GOOD, Verdict.MISSING, Verdict.DAMAGED)
_OCTETS: Final = b"application/octet-stream"


class Copies(Protocol):
    """A holder whose objects can be looked at again. Idempotent; may be retried after ``UnavailableError``."""

    async def verify(self, ids: Sequence[ObjectId]) -> list[Verdict]:
        """What the holder finds when it reads these objects again, in their order; at most ``MAX_VERIFY_IDS``."""

    async def get(self, object_id: ObjectId, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """An object's bytes, not verified here.

        Raises:
            NotFoundError: it is not held.
            LimitedError: it has more than ``limit`` bytes.
        """


def copies_of(holder: object) -> Copies:
    """A holder as one whose objects can be looked at again. Holders that wrap another have to ask it, at each call.

    Raises:
        RefusedError: it is none.
    """
    # hasattr, and no isinstance: a holder that finds its store at the first call answers to any name, but has none
    if not (hasattr(holder, "verify") and hasattr(holder, "get")):
        raise RefusedError("What this store holds cannot be looked at again through its provider.")
    return cast("Copies", holder)


def encode_verdicts(verdicts: Sequence[Verdict]) -> bytes:
    """One byte for each."""
    return bytes(_VERDICTS.index(each) for each in verdicts)


def decode_verdicts(data: bytes, count: int) -> list[Verdict]:
    """What :func:`encode_verdicts` made of ``count`` verdicts.

    Raises:
        FormatError: anything else.
    """
    if len(data) != count or any(each >= len(_VERDICTS) for each in data):
        raise FormatError("The holder's answer about damaged objects is malformed.")
    return [_VERDICTS[each] for each in data]


async def answer_verify(shelf: Shelf, executor: Executor, scope: Scope, receive: Receive, send: Send) -> None:
    """``POST /objects/verify``."""
    body = await read_body(scope, receive, MAX_VERIFY_IDS * OBJECT_ID_BYTES)
    if len(body) % OBJECT_ID_BYTES:
        raise BadInputError("The body is a sequence of 32-byte object ids.")
    ids = [ObjectId(body[at : at + OBJECT_ID_BYTES]) for at in range(0, len(body), OBJECT_ID_BYTES)]
    loop = asyncio.get_running_loop()
    verdicts = [await loop.run_in_executor(executor, look, shelf, object_id) for object_id in ids]
    await send_response(send, 200, encode_verdicts(verdicts), media_type=_OCTETS)


async def answer_copy(shelf: Shelf, executor: Executor, object_id: ObjectId, send: Send) -> None:
    """``GET /copies/{id}``: whole or an error, never damaged bytes."""
    data = await asyncio.get_running_loop().run_in_executor(executor, shelf.read_whole, object_id)
    await send_response(send, 200, data, media_type=_OCTETS, headers=[(b"cache-control", b"no-store")])
