"""Grants whose tokens have ended: what can have been sent on them, and when the figures have it (R23; ADR 0017).

Around a collection: the marks of the instances are read before it, so that what they speak of is in the store when it
lists the store; after it, the slots of ended tokens are looked at, and what every instance won and has accounted for is
charged no longer. What an instance never accounts for (its disk is lost) counts whole until no period has it.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import structlog

from entrepot.core.errors import FormatError, NotFoundError
from entrepot.core.times import DAY, MINUTE
from entrepot.database import grants
from entrepot.database.engine import Database
from entrepot.database.grants import Chain, Grant
from entrepot.protocol.allowances import (
    ALL_SEGMENTS,
    ALLOWANCE_PREFIX,
    MARK_PREFIX,
    MAX_MARK_BYTES,
    MAX_SLOT_BYTES,
    Mark,
    decode_mark,
    decode_slot,
    mark_key,
    slot_key,
)
from entrepot.rules.allowance import slots

if TYPE_CHECKING:
    from entrepot.web.dataplane import Holder

CLOSED_AFTER: Final = 10 * MINUTE
"""After a token's end its slots are looked at: an instance whose clock is late by more would still win some."""
AT_ONCE: Final = 8
PAGE: Final = 200
KEPT: Final = 33 * DAY
"""After this time no period of a budget has a grant any more."""
MARKS_KEPT: Final = 2 * DAY
UNKNOWN: Final = "?"

log = structlog.get_logger("site.cost.settling")


async def read_marks(store: "Holder") -> dict[str, Mark]:
    """What the instances of a cloud point say of themselves.

    Raises:
        EntrepotError: the store does not answer.
    """
    found: dict[str, Mark] = {}
    after, more = "", True
    while more:
        page = await store.list_documents(MARK_PREFIX, after=after)
        for key in page.keys:
            try:
                found[key.removeprefix(MARK_PREFIX)] = decode_mark(await store.get_document(key, MAX_MARK_BYTES))
            except NotFoundError:
                continue
            except FormatError as error:
                log.warning("mark_damaged", key=key[:200], error=str(error))
        more = page.more and bool(page.keys)
        after = page.keys[-1] if page.keys else ""
    return found


async def settle(database: Database, point: str, store: "Holder", marks: Mapping[str, Mark], *, now: float) -> None:
    """Charge what is granted no longer where it need not be. A collection must have begun after the marks were read.

    Raises:
        EntrepotError: the store or the database does not answer; the next run goes on.
    """
    while found := await database.read(grants.ended, point, before=int(now) - CLOSED_AFTER, limit=PAGE):
        held: dict[str, Mapping[str, int]] = {}
        for begin in range(0, len(found), AT_ONCE):
            some = found[begin : begin + AT_ONCE]
            won = await asyncio.gather(*(_won(store, grant) for grant in some))
            held |= {grant.jti: parts for grant, parts in zip(some, won, strict=True)}
        await database.write(grants.close, held)
    after = ""
    while page := await database.read(grants.closed, point, after=after, limit=PAGE):
        chains = await database.read(grants.chains, point, {name for one in page for name in one.held})
        rest = {one.jti: _open(one.held, one.expires, marks, chains) for one in page}
        await database.write(
            grants.set_held, {one.jti: rest[one.jti] for one in page if len(rest[one.jti]) < len(one.held)}
        )
        after = page[-1].jti


async def _won(store: "Holder", grant: Grant) -> dict[str, int]:
    """Bytes that instances won of a grant whose token has ended, by instance."""
    sizes = slots(grant.bytes)
    page = await store.list_documents(f"{ALLOWANCE_PREFIX}{grant.jti}/", limit=len(sizes) + 1)
    taken = set(page.keys)
    found: dict[str, int] = {}
    for number, size in enumerate(sizes):
        key = slot_key(grant.jti, number)
        if key in taken:
            try:
                name = decode_slot(await store.get_document(key, MAX_SLOT_BYTES))
            except FormatError:
                name = UNKNOWN
            found[name] = found.get(name, 0) + size
    return found


def _open(
    held: Mapping[str, int], expires: int, marks: Mapping[str, Mark], chains: Mapping[str, Chain]
) -> dict[str, int]:
    """What is not accounted for yet."""
    return {name: size for name, size in held.items() if not _accounted(marks.get(name), chains.get(name), expires)}


def _accounted(mark: Mark | None, chain: Chain | None, expires: int) -> bool:
    """Whether all that an instance sent on a token is in the figures: it says how many segments have it, and so many
    were collected, none missing."""
    if mark is None or expires >= mark.before:
        return False
    if chain is None:  # it recorded nothing: it won a slot, and sent nothing of it
        return mark.segments in (0, ALL_SEGMENTS)
    return chain.whole and (mark.segments == ALL_SEGMENTS or chain.collected >= mark.segments)


async def sweep(database: Database, point: str, store: "Holder", *, now: float) -> int:
    """Remove from the store the slots of grants that no longer count, and the marks of instances that ended long
    before; how many grants.

    Raises:
        EntrepotError: the store or the database does not answer; the next run goes on.
    """
    swept = 0
    before = int(now) - DAY
    while gone := await database.read(
        grants.done, point, before=before, unaccounted_before=int(now) - KEPT, limit=PAGE
    ):
        for grant in gone:
            page = await store.list_documents(f"{ALLOWANCE_PREFIX}{grant.jti}/", limit=len(slots(grant.bytes)) + 1)
            for key in page.keys:
                await store.delete_document(key)
        await database.write(grants.forget_grants, [grant.jti for grant in gone])
        swept += len(gone)
    waiting = await database.read(grants.oldest_waiting, point)
    for name, mark in (await read_marks(store)).items():
        needed = waiting is not None and waiting < mark.at + DAY  # a grant that it may speak of is not settled yet
        if mark.at < now - KEPT or (mark.ended and mark.at < now - MARKS_KEPT and not needed):
            await store.delete_document(mark_key(name))
    return swept
