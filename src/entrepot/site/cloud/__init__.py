"""Cloud distribution points, as their managing site sees them.

What is here: certificates (management and service), the life cycle of cloud points as durable tasks, the control
documents that gateways obey, the hourly collection of transactions, and the alerts that follow from it.

Invariants:

- The site opens every connection (R7). Nothing here imports ``entrepot.cloud``: a provider is reached through the port
  ``site.cloudport``, which the command line wires.
- A transaction is counted once and logged once, wherever the process is killed: a segment's name is unique in the
  database, its figures enter the hourly buckets in that same database transaction, and what the log still owes is a
  column beside the figure (``logged_…``), not a memory.
- Monitoring never interrupts transfers by itself (R23).
- A private key is at rest only as sealed by the server's vault; a password is used once and forgotten.

What is not here: what the gateways do (``entrepot.cloud.gateway``), how content reaches a cloud point (the site's
distribution engine, which treats a cloud point like any other point), and every decision that needs no I/O
(``entrepot.rules``).
"""
