"""What a grant costs under budgets, on a PostgreSQL server that waits for its disk (R23).

A device asks; the management point decides by three budgets that apply (of the cloud point, the content, and all
devices), writes the grant down, and signs a token with its allowance. Thirty days of hourly figures are there, a
thousand open grants, and a thousand that are not accounted for yet; with ``ROWS`` so many figures by hour, device and
content as well. Grants are decided one after the other, as those of
one budget are. ``grant_ms`` is the median by the clock, ``grant_p99_ms`` what 1 of 100 exceeds, ``cpu_ms`` processor
time of the site's process; the server's comes on top, and is in the time by the clock.
"""

import json
import os
import secrets
import statistics
import time

from sqlalchemy import insert

from benchmarks.measuring import report
from entrepot.core.sizes import GB, MIB
from entrepot.core.times import DAY, HOUR, hour_of
from entrepot.database import budgets, usage
from entrepot.database.budgets import Budget, Scope
from entrepot.database.device_collections import ALL_DEVICES_ID
from entrepot.database.engine import Database, open_database
from entrepot.database.grants import LAG, Grant
from entrepot.database.tables.cost import budget_grant, budget_hour
from entrepot.site.cost.budgets import BudgetBook
from entrepot.trust.signing import SigningKey
from entrepot.trust.tokens import mint_content_token
from tests.databases import PostgresServer, migrate

OPEN = 1_000
UNACCOUNTED = 1_000
MEASURED = 1_000
NOW = 1_774_267_200.0
POINT, CONTENT = "pt-0000000000000001", "pkg-0000000000000001"
SCOPES = ((Scope.POINT, POINT), (Scope.CONTENT, CONTENT), (Scope.COLLECTION, ALL_DEVICES_ID))


def prepare(database: Database, *, summed: bool) -> None:
    """Budgets that never end, figures of thirty days, and grants that nobody has accounted for."""
    created = int(NOW) - 40 * DAY
    hours = [hour_of(NOW) - back * HOUR for back in range(720)]
    with database.transaction() as connection:
        for scope, subject in SCOPES:
            one = Budget(scope=scope, subject=subject, bytes=10**15, throttle_percent=90, rate=10**6, created=created)
            budgets.put_budget(connection, one)
        usage.set_collected(connection, POINT, now=created + LAG)
        usage.add_to_hours(connection, POINT, {hour: {"requests": 9, "sent": GB} for hour in hours})
        kept = [{"scope": s.value, "subject": name, "bytes": GB} for s, name in SCOPES[1:]]
        if not summed:  # else they were summed when the budgets were set
            connection.execute(insert(budget_hour), [one | {"hour": hour} for one in kept for hour in hours])
        ended = {"point": POINT, "content": CONTENT, "version": 1, "bytes": GB, "rate": 0, "charged": MIB}
        ended |= {"expires": int(NOW) - HOUR, "held": json.dumps({"gw-1": MIB})}
        rows = [ended | {"jti": secrets.token_hex(16), "device": f"gone-{number}"} for number in range(UNACCOUNTED)]
        connection.execute(insert(budget_grant), rows)


def fill(database: Database, rows: int) -> None:
    """Figures by hour, device and content of thirty days, made by the server itself."""
    statement = (
        "INSERT INTO transfer_bucket (point, hour, device, content, status, requests, bytes, logged_requests,"
        f" logged_bytes, unlogged) SELECT '{POINT}', {hour_of(NOW)} - mod(n, 720) * {HOUR}, 'dev-' || n / 720,"
        f" CASE WHEN mod(n, 2) = 0 THEN '{CONTENT}' ELSE 'pkg-other' END, '2xx', 1, 1000, 1, 1000, false"
        f" FROM generate_series(0, {rows - 1}) AS n"
    )
    with database.transaction() as connection:
        connection.exec_driver_sql(statement)


def grants(database: Database, count: int, first: int) -> list[tuple[float, float]]:
    """Grant so much to devices of which each asks once; seconds by the clock, and of processor time, of each."""
    book, key = BudgetBook(database, clock=lambda: NOW), SigningKey.generate()
    found = []
    for number in range(first, first + count):
        begun, worked = time.perf_counter(), time.process_time()
        granted = book.grant(POINT, device=f"dev-{number:016x}", content=CONTENT, version=1, size=100 * MIB)
        assert isinstance(granted, Grant), granted
        mint_content_token(
            key,
            site="PS1",
            device=granted.device,
            audience=POINT,
            sets=[bytes(32)],
            now=int(NOW),
            jti=granted.jti,
            lifetime=granted.expires - int(NOW),
            allow=granted.bytes,
            rate=granted.rate,
        )
        found.append((time.perf_counter() - begun, time.process_time() - worked))
    return found


def main() -> None:
    """Measure and print."""
    count = int(os.environ.get("GRANTS", MEASURED))
    server = PostgresServer(durable=True)
    try:
        address = server.new_database()
        migrate(address)
        database = open_database(address)
        rows = int(os.environ.get("ROWS", "0"))
        if rows:
            fill(database, rows)
        prepare(database, summed=bool(rows))
        grants(database, OPEN, 0)
        times = grants(database, count, OPEN)
        database.close()
    finally:
        server.stop()
    walls = sorted(1000 * wall for wall, _ in times)
    figures = {
        "grant_ms": round(statistics.median(walls), 2),
        "grant_p99_ms": round(walls[len(walls) * 99 // 100], 2),
        "cpu_ms": round(1000 * statistics.fmean(cpu for _, cpu in times), 2),
        "grants": count,
    }
    report(
        figures, f"{rows:,} figures, {OPEN + count} open grants, {UNACCOUNTED} not accounted for, {len(SCOPES)} budgets"
    )


if __name__ == "__main__":
    main()
