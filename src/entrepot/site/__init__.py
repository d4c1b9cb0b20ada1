"""The primary site server: what administrators and clients talk to, and the background work (architecture 1, 4).

``server`` wires one process. It has three faces: the admin API (``api``) for command line and console, the management
point (``managementpoint``, ``locating``, ``enrolment``) for devices and points, and background loops: durable tasks
(``tasks``: publishing, deltas, the life cycle of cloud points), the distribution engine (``distribution``, ``sending``:
content on a point as a row with a state machine), control documents (``controls``), and what clouds need (``cloud``).

The database is the only memory: every loop finds its work there, so any process can be killed at any moment, and on
PostgreSQL several can share the work. No transaction is held while the network is waited for. Content keys leave this
room only towards entitled devices, in signed location replies. The site knows clouds by a port (``cloudport``) and
never imports them.
"""
