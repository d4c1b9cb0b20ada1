"""The cloud distribution point: gateway instances in front of an object store, and who runs them.

- ``gateway``: one stateless instance. It holds no content key and cannot read what it serves; it checks tokens,
  hands over sealed objects and keeps a record of every transaction.
- ``host``: the embedded cloud. Subscriptions, their management certificates, and services: supervised gateway
  instances behind one address, a store endpoint that outlives *stop*, usage, quotas, an audit log.
- ``providers``: how a site drives a cloud: one adapter per kind of cloud, equal in shape.

The three are strangers: a provider and a host talk over ``protocol.cloudhost``, a host and its gateways over a
configuration file, two pipes and signals (``gateway.config``, ``gateway.pipes``). No connection is ever opened from
here towards a site (R7).
"""
