"""Trust: who may say what, and how that is proven (architecture 3).

One rule runs through the room: a document is believed for what it *is*, never for what it says it is. A verifier
states the type, the role, the site and the time that it expects, and everything else is refused. There is no
algorithm negotiation, no key fetched from a place that the document names, no certificate taken from a header.

- ``root``, ``pins``: the hierarchy root signs the trust document; everyone pins the root and keeps the highest
  document.
- ``signing``: the one signed envelope (compact JWS, Ed25519) and the ring of keys that a trust document lists.
- ``tokens``, ``assertions``, ``enrolment``: how devices, sites and cloud hosts recognise one another.
- ``certificates``, ``authority``: X.509, for management, for service certificates, and the hierarchy's own issuer.
- ``vault``: secrets at rest, sealed to one server.

Clocks and randomness for *decisions* are arguments; only the making of keys draws randomness itself. Nothing here
speaks to a network.
"""
