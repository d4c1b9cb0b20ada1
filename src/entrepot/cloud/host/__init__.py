"""The cloud host: the embedded cloud, on any virtual machine or on the site's own computer (architecture 1).

It gives sites what a public cloud gives them: *subscriptions*, whose owners upload management certificates; a
management API that such a certificate opens (``protocol.cloudhost``); *services*: a number of gateway instances behind
one address, kept running; a *store endpoint* per service, which outlives *stop* (R27); quotas, usage, an audit log.

Invariants:

- What is wanted is durable before a request is answered; the supervisor brings it about, again after any crash. The
  host process can be killed at any moment: its instances die with it and come back with it.
- The host owns each service's listening sockets and its instances inherit them. So an instance that crashes, drains or
  is replaced refuses nobody: new connections are steered to the others, those in its queue wait for the next.
- A deleted service leaves nothing, and that is checked (``removal``); a deletion that was interrupted goes on.
- Private keys lie sealed in the database, and in clear only where instances read them: in files of mode 0600 on a
  memory file system where there is one (``keys``).

What it is not: a place where content can be read. It stores sealed objects and has no content key.

- ``settings``, ``setup``: the home. ``database``, ``subscriptions``, ``services``: durable state. ``administration``:
  what ``entrepot host subscription …`` does, safely while the host runs.
- ``tokens``: the token endpoint. ``api``: the management API. ``stores``: the store endpoint. ``audit``: who did what.
- ``plan``: which instances to start or stop, pure. ``instance``: one process. ``supervisor``: makes it so.
  ``leftovers``: brings home what dead instances recorded. ``removal``: deletes a service. ``server``: wires it all.
"""
