"""A library on disk as a site has it: folder store, SQLite ledger, real keys."""

import secrets
import time
from pathlib import Path

import msgspec

from entrepot.content.chunking import DomainKeys, domain_keys
from entrepot.content.publish import Published, PublishOptions, publish
from entrepot.content.sealing import Generation
from entrepot.core.secret import Secret
from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.database.library import SqlLibrary
from entrepot.database.objectsets import adopt_set
from entrepot.database.tables import metadata
from entrepot.database.tables.checks import object_check
from entrepot.database.tables.library import chunk, object_, object_set, publish_session, session_object, set_object
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SignedType
from entrepot.trust.signing import SigningKey, sign

_TABLES = [object_, chunk, object_set, set_object, publish_session, session_object, object_check]
"""What the ledger needs. A site's other tables, and what migrates them, would only take time to load."""


class BenchmarkSite(msgspec.Struct, frozen=True):
    """What publishing needs."""

    shelf: Shelf
    library: SqlLibrary
    database: Database
    keys: DomainKeys
    key: SigningKey

    def publish(self, source: Path, content: str = "pkg-0000000000000001", number: int = 1) -> Published:
        """Publish durably, as the site's task does: objects first, then one transaction."""
        ledger = self.library.open_session(content)
        published = publish(
            source,
            content=content,
            number=number,
            shelf=self.shelf,
            ledger=ledger,
            keys=self.keys,
            sign=lambda payload: sign(payload, typ=SignedType.MANIFEST, key=self.key),
            options=PublishOptions(),
        )
        with self.database.transaction() as connection:
            adopt_set(connection, ledger.session, published.set_id, time.time())
        return published


def open_site(folder: Path) -> BenchmarkSite:
    """A fresh site below an empty folder."""
    folder.mkdir(parents=True)
    database = open_database(sqlite_url(folder / "site.sqlite"))
    with database.transaction() as connection:
        metadata.create_all(connection, tables=_TABLES)
    return BenchmarkSite(
        shelf=Shelf(FolderStore(folder / "library")),
        library=SqlLibrary(database, clock=time.time, new_id=lambda: secrets.token_hex(8), pause=time.sleep),
        database=database,
        keys=domain_keys(Secret(b"d" * 32), Generation(number=1, secret=Secret(b"c" * 32))),
        key=SigningKey.generate(),
    )
