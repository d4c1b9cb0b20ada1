"""How much a point holds: counted once an hour, and kept current by what comes and goes in between."""

import asyncio

from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.protocol.dataplane import PAGE


class Inventory:
    """Numbers of objects and bytes. Use it in one event loop."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.objects = 0
        self.bytes = 0
        self.counted = False

    def note(self, _object_id: ObjectId, size: int) -> None:
        """An object came (its size) or went (its size, negative)."""
        self.objects += 1 if size >= 0 else -1
        self.bytes += size

    async def run_once(self) -> None:
        """Count everything. What comes and goes meanwhile may be counted a little off, until the next time."""
        objects = size = 0
        after: ObjectId | None = None
        while page := await asyncio.to_thread(self._shelf.page, after, PAGE):
            objects += len(page)
            size += sum(found for _, found in page)
            after = page[-1][0]
        self.objects, self.bytes, self.counted = objects, size, True
