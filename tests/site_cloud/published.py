"""Contents that a cloud point holds, entered into the site's books without publishing them."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import insert

from entrepot.content.objectset import encode_set
from entrepot.core.ids import ObjectId
from entrepot.database import contents, pointsets
from entrepot.database.contents import Version
from entrepot.database.pointsets import PointSet
from entrepot.database.tables.library import object_, object_set, set_object
from entrepot.objects.hashing import object_id_of

from ..rows import content_row
from .conftest import NOW, SITE, SiteUnderTest


def publish(
    site: SiteUnderTest, point: str, name: str, sizes: tuple[int, ...], *, state: str = pointsets.HELD
) -> bytes:
    """A content of one version on the cloud point; gives its set."""
    ids = [hashlib.sha256(f"{name}/{number}".encode()).digest() for number in range(len(sizes) + 1)]
    _enter(site, point, name, ids, (40, *sizes), state)
    return ids[0]


def publish_bytes(site: SiteUnderTest, point: str, name: str, members: tuple[bytes, ...]) -> dict[ObjectId, bytes]:
    """As :func:`publish`, but with objects that hash to their ids; gives them, the set first."""
    ids = sorted(object_id_of(data) for data in members)
    in_set = b"".join(encode_set(iter(ids)))
    made = {object_id_of(in_set): in_set} | {object_id_of(data): data for data in members}
    _enter(site, point, name, list(made), tuple(len(data) for data in made.values()), pointsets.HELD)
    return made


def _enter(
    site: SiteUnderTest, point: str, name: str, ids: Sequence[bytes], sizes: tuple[int, ...], state: str
) -> None:
    total = sum(sizes[1:])
    fields = dict.fromkeys(("set_size", "files", "folders", "links", "plain_size", "chunks", "new_objects"), 0)
    content = content_row(f"pkg-{name}", name, site=SITE)
    version = Version(
        content=content.id,
        number=1,
        set_id=ids[0],
        root=b"sealed",
        objects=len(sizes) - 1,
        stored_size=total,
        new_bytes=total,
        warnings=(),
        created=0,
        **fields,
    )
    held = PointSet(
        point=point,
        set_id=ids[0],
        content=content.id,
        version=1,
        from_version=0,
        state=state,
        size=total,
        changed=0,
        retired=0,
    )
    with site.database.transaction() as connection:
        numbers = [
            connection.execute(
                insert(object_)
                .values(object_id=one, size=size, purpose=1, state="live", changed=NOW)
                .returning(object_.c.id)
            ).scalar_one()
            for one, size in zip(ids, sizes, strict=True)
        ]
        made = insert(object_set).values(object=numbers[0], created=NOW).returning(object_set.c.id)
        number = connection.execute(made).scalar_one()
        for one in numbers[1:]:
            connection.execute(insert(set_object).values(object_set=number, object=one))
        contents.add_content(connection, content)
        contents.add_version(connection, version)
        pointsets.begin_set(connection, held)
