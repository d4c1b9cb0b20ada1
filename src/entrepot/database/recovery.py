"""What the index says of an object set: enough to find references again after a server was lost."""

from sqlalchemy import Connection, select

from entrepot.content.ledger import KnownChunk
from entrepot.content.sealing import Purpose
from entrepot.core.ids import ObjectId
from entrepot.database.tables.library import chunk, object_, object_set, set_object


def indexed_in_set(connection: Connection, set_id: ObjectId, purpose: Purpose) -> list[KnownChunk]:
    """The index entries of a set's objects of one purpose."""
    itself = object_.alias("itself")
    number = select(object_set.c.id).join(itself, itself.c.id == object_set.c.object)
    found = select(chunk.c.payload_hash, chunk.c.generation, object_.c.object_id, object_.c.size)
    found = found.join(object_, object_.c.id == chunk.c.object)
    found = found.join(set_object, set_object.c.object == object_.c.id)
    mine = found.where(
        set_object.c.object_set == number.where(itself.c.object_id == set_id).scalar_subquery(),
        object_.c.purpose == int(purpose),
    )
    return [
        KnownChunk(
            object_id=ObjectId(row.object_id),
            sealed_size=row.size,
            payload_hash=row.payload_hash,
            generation=row.generation,
            purpose=int(purpose),
        )
        for row in connection.execute(mine)
    ]
