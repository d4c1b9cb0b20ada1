"""What one shelf holds, seen as the data plane shows it: pages of objects, and documents beside them. Synchronous.

A document's key never lies below the shelf's own prefix, so that nobody can replace an object, whose id would then
lie, by writing a document; and lists of documents step over the objects.
"""

from entrepot.core.errors import BadInputError, LimitedError, NotFoundError
from entrepot.core.ids import ObjectId
from entrepot.objects.keys import check_key
from entrepot.objects.shelf import PREFIX, Shelf
from entrepot.objects.store import Stored
from entrepot.protocol.dataplane import MAX_DOCUMENT_BYTES, PAGE, DocumentPage, ObjectPage

_AFTER_OBJECTS = PREFIX[:-1] + "0"  # "0" follows "/": greater than every object's key, smaller than all that follow


def check_document_key(key: str) -> str:
    """Check a document's key.

    Raises:
        BadInputError: not a key of a store, or one that belongs to the objects.
    """
    check_key(key)
    if (key.lower() + "/").startswith(PREFIX):
        raise BadInputError("Documents have no keys among the objects.")
    return key


def object_page(shelf: Shelf, after: ObjectId | None = None, limit: int = PAGE) -> ObjectPage:
    """Ids and sizes, ascending, from the one that follows ``after``."""
    found = shelf.page(after, limit)
    return ObjectPage(
        ids=tuple(object_id.hex() for object_id, _ in found),
        sizes=tuple(size for _, size in found),
        more=len(found) == limit,
    )


def read_document(shelf: Shelf, key: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """A document's bytes.

    Raises:
        NotFoundError: there is none.
        LimitedError: it has more than ``limit`` bytes.
    """
    data = b"".join(shelf.store.read(check_document_key(key), length=limit + 1))
    if len(data) > limit:
        raise LimitedError(f"The document {key} is larger than {limit} bytes.")
    return data


def write_document(shelf: Shelf, key: str, data: bytes) -> None:
    """Store a document durably, replacing what was there."""
    shelf.store.put(check_document_key(key), data)


def delete_document(shelf: Shelf, key: str) -> None:
    """Remove a document durably; gone already is fine."""
    if shelf.store.delete(check_document_key(key)):
        shelf.flush()


def delete_object(shelf: Shelf, object_id: ObjectId) -> int | None:
    """Remove an object durably; its size, or None when it was not there."""
    try:
        size = shelf.size(object_id)
    except NotFoundError:
        return None
    if not shelf.delete(object_id):
        return None
    shelf.flush()
    return size


def document_page(shelf: Shelf, prefix: str = "", after: str = "", limit: int = PAGE) -> DocumentPage:
    """Keys and sizes that begin with ``prefix``, ascending, from the one that follows ``after``.

    Raises:
        BadInputError: ``prefix`` or ``after`` is nothing that a key can begin with.
    """
    for part in (prefix, after):
        if part:
            check_document_key(part.removesuffix("/"))
    found: list[Stored] = []
    more = True
    while more and len(found) < limit:
        page = shelf.store.list(prefix, after=after, limit=limit - len(found))
        more = page.more
        for entry in page.entries:
            if entry.key.startswith(PREFIX):
                after, more = _AFTER_OBJECTS, True
                break
            found.append(entry)
            after = entry.key
    keys, sizes = tuple(entry.key for entry in found), tuple(entry.size for entry in found)
    return DocumentPage(keys=keys, sizes=sizes, more=more)
