"""The migration that brought rollover and sealings: what was published before it is signed by the site's one key."""

from alembic import command
from sqlalchemy import text

from entrepot.database import contents, hierarchy
from entrepot.database.engine import Database
from entrepot.database.schema import all_tables, configuration, upgrade

ROWS = (
    "INSERT INTO site (code, name, url, vault_public, created) VALUES ('PS1', 'One', 'https://one', :raw, 1)",
    "INSERT INTO role_key (kid, role, site, public, sealed, not_before, not_after)"
    " VALUES ('m1', 'manifest', 'PS1', :raw, :raw, 1, 9), ('t1', 'token', 'PS1', :raw, :raw, 1, 9)",
    "INSERT INTO content (id, name, name_key, type, source, excludes, for_windows, isolated, current, pointer_counter,"
    " deleting, site, created)"
    " VALUES ('pkg-1', 'App', 'app', 'package', '/s', '[]', :no, :no, 1, 1, :no, 'PS1', 1)",
    "INSERT INTO content_version (content, number, set_id, set_size, root, files, folders, links, plain_size, chunks,"
    " stored_size, new_objects, new_bytes, objects, warnings, created)"
    " VALUES ('pkg-1', 1, :raw, 1, :raw, 1, 0, 0, 1, 1, 1, 1, 1, 1, '[]', 1)",
)


def test_existing_rows_are_brought_along(database: Database) -> None:
    with database.transaction() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        all_tables().drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        command.upgrade(config, "0002")
        for statement in ROWS:
            wanted = {"raw": b"r" * 32, "no": False}
            connection.execute(text(statement), {name: wanted[name] for name in wanted if f":{name}" in statement})
    upgrade(database)
    with database.reading() as connection:
        [version] = contents.list_versions(connection)
        keys = {key.kid: key for key in hierarchy.site_role_keys(connection, "PS1")}
    assert (version.generation, version.sealing, version.signed_by) == (1, 1, "m1")
    assert (version.former_set_id, version.former_root) == (None, None)
    assert {(key.listed_in, key.dropped_in, key.listed_at) for key in keys.values()} == {(1, 0, 0)}
