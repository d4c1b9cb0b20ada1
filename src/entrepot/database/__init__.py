"""The site's database: tables, migrations, one repository for each feature.

Embedded (SQLite: one site process) or PostgreSQL (several processes, several sites of one hierarchy). There is no
object-relational mapping: repositories are functions that take a connection, and give frozen values. Whoever calls
decides what one transaction is (``engine.Database.write``, ``read``). SQL is synchronous and runs in worker threads.

Work is claimed with ``SELECT … FOR UPDATE SKIP LOCKED`` where the database knows it; leases bring back what a killed
process left. What belongs together is written together: a version with the object set that it needs, a transaction
segment with the hourly figures that it adds to.
"""
