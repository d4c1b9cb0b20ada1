"""The database: everything that a site must not forget, on embedded SQLite or on PostgreSQL.

``engine`` opens it, ``schema`` migrates it, ``tables`` describe it, and each further module is the repository of one
feature: functions that take a connection and frozen values and give frozen values back. So a use case composes as many
of them as it needs in one transaction. There is no object-relational mapping.

Invariants:

- All SQL runs in worker threads (``Database.read`` and ``write`` see to it), and no transaction is held across network
  input or output.
- A state machine's transition is one transaction. Work is claimed under a lease, by exactly one process; whoever lost
  its lease finds its further writes without effect.
- Whatever may change an answer to a client raises the change counter in the same transaction (``note_change``).
- Private keys, secrets and the references that open content are here only as sealed to a server's vault: the database
  alone, or a copy of it, opens nothing.

What it is not: the place of decisions (``entrepot.rules``), and the place of objects (``entrepot.objects``): of those
it has ids and sizes.
"""
