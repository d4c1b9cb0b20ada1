"""The migration from finished sentences to ids and figures: what alerts said before stays readable, as it was."""

from alembic import command
from sqlalchemy import text

from entrepot.database import alerts, notifications
from entrepot.database.engine import Database
from entrepot.database.schema import all_tables, configuration, upgrade

WORDS = 'Nur noch 5 % frei: "{used}" ü 1 % > 0'
BODY = (
    '{"id":"msg-1","alert":"alert-1","type":"storage_warning","severity":"warning","event":"opened","subject":"pt-1",'
    '"subject_name":"cloud1","message":"95 % used.","at":2,"occurrences":1}'
)
ROWS = (
    "INSERT INTO alert (id, type, subject, subject_name, state, condition, message, occurrences, created, changed,"
    " skip_until, closed_by, comment)"
    " VALUES ('alert-1', 'storage_warning', 'pt-1', 'cloud1', 'active', 'bad', :words, 1, 1, 2, 0, '', ''),"
    " ('alert-2', 'storage_critical', 'pt-1', 'cloud1', 'never_triggered', 'good', '', 0, 1, 1, 0, '', '')",
    'INSERT INTO alert_history (alert, at, event, state, "by", message)'
    " VALUES ('alert-1', 2, 'opened', 'active', 'SYSTEM', :words), ('alert-1', 3, 'commented', 'active', 'anna', '')",
    "INSERT INTO alert_subscription (id, name, name_key, channel, target, language, types, severities, digest_minutes,"
    " private_networks, authority, sealed, site, created, delivered, error)"
    " VALUES ('sub-1', 'ops', 'ops', 'mail', 'ops@contoso.com', 'de', '[]', '[]', 0, :no, '', :raw, 'PS1', 1, 0, '')",
    "INSERT INTO alert_message (id, subscription, body, state, at, due, attempts, error, settled)"
    " VALUES ('msg-1', 'sub-1', :body, 'waiting', 2, 2, 0, '', 0)",
)


def test_what_alerts_said_before_stays_as_it_was(database: Database) -> None:
    with database.transaction() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        all_tables().drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        command.upgrade(config, "0026")
        for statement in ROWS:
            wanted = {"raw": b"", "no": False, "words": WORDS, "body": BODY}
            connection.execute(text(statement), {name: wanted[name] for name in wanted if f":{name}" in statement})
    upgrade(database)
    with database.transaction() as connection:
        assert alerts.get(connection, "alert-1").alert.message == WORDS
        assert alerts.get(connection, "alert-2").alert.message == ""
        assert [row.message for row in alerts.history(connection, "alert-1")] == [WORDS, ""]
        [subscription] = notifications.subscriptions(connection)
        [waiting] = notifications.take(connection, subscription, now=9, until=10, limit=9)
    assert (waiting.body.message, waiting.said) == ("95 % used.", ())
