"""Migrations that brought archives, notes, results and givers of tasks, origins of versions: older rows have none."""

from alembic import command
from sqlalchemy import text

from entrepot.database import contents, tasks
from entrepot.database.engine import Database
from entrepot.database.schema import all_tables, configuration, upgrade

ROWS = (
    "INSERT INTO content (id, name, name_key, type, source, excludes, for_windows, isolated, current, pointer_counter,"
    " deleting, site, created)"
    " VALUES ('pkg-1', 'App', 'app', 'package', '/s', '[]', :no, :no, 1, 1, :no, 'PS1', 1)",
    "INSERT INTO content_version (content, number, set_id, set_size, root, files, folders, links, plain_size, chunks,"
    " stored_size, new_objects, new_bytes, objects, warnings, created)"
    " VALUES ('pkg-1', 1, :raw, 1, :raw, 1, 0, 0, 1, 1, 1, 1, 1, 1, '[]', 1)",
    "INSERT INTO task (id, site, kind, subject, title, state, step, done, total, unit, message, error, error_code,"
    " payload, attempts, run_after, created, started, finished, holder, lease_until, cancel_requested)"
    " VALUES ('task-1', 'PS1', 'publish', 'pkg-1', 'Publish', 'created', '', 0, 0, '', '', '', '', '{}', 0, 0, 1, 0, 0,"
    " '', 0, :no)",
)


def test_existing_rows_are_brought_along(database: Database) -> None:
    with database.transaction() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        all_tables().drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        command.upgrade(config, "0010")
        for statement in ROWS:
            wanted = {"raw": b"r" * 32, "no": False}
            connection.execute(text(statement), {name: wanted[name] for name in wanted if f":{name}" in statement})
    upgrade(database)
    with database.reading() as connection:
        assert contents.get_content(connection, "App").unpack is False
        version = contents.get_version(connection, "pkg-1", 1)
        assert (version.note, version.origin) == ("", None)
        task = tasks.get(connection, "task-1")
        assert (task.result, task.by, task.cancelled_by) == ("", "", ""), "who ordered it was not kept"
