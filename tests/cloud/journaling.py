"""What tests of journals and of recorders share: a journal to write, and what a site would find of it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from entrepot.cloud.gateway.journal import Journal, Limits
from entrepot.objects.memory import MemoryStore
from entrepot.protocol import transactions as tx
from entrepot.protocol.transactions import Record

MakeRecord = Callable[[int], Record]
LIMITS = Limits(size=600, seconds=30.0)
NOW = 1_700_000_000_000


def open_journal(state: Path, instance: str = "gw-1") -> Journal:
    return Journal(state / instance, point="pt-1", instance=instance)


def collected(store: MemoryStore) -> dict[str, list[tuple[tx.SegmentHeader, list[Record]]]]:
    """What a site would find, per instance in order, with the chain checked."""
    found: dict[str, list[tuple[tx.SegmentHeader, list[Record]]]] = {}
    previous: dict[str, bytes] = {}
    for entry in sorted(store.list("tx/").entries, key=lambda stored: stored.key.split("/")[2:]):
        data = b"".join(store.read(entry.key))
        header, batches = tx.decode_segment(data)
        assert header.sequence == len(found.get(header.instance, []))
        assert header.previous == previous.get(header.instance, bytes(32))
        previous[header.instance] = hashlib.sha256(data).digest()
        found.setdefault(header.instance, []).append((header, [record for batch in batches for record in batch]))
    return found


def numbers(store: MemoryStore, instance: str = "gw-1") -> list[int]:
    return [record.sent for _, records in collected(store).get(instance, []) for record in records]


def sent(store: MemoryStore) -> list[int]:
    """What the records in the store say, whatever became of the chain."""
    pages = [tx.decode_segment(b"".join(store.read(entry.key)))[1] for entry in store.list("tx/").entries]
    return [record.sent for batches in pages for batch in batches for record in batch]
