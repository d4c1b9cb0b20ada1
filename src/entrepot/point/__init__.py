"""The on-premises distribution point: sealed objects on a local disk, served to clients that the site's tokens name.

The site pushes objects, and two documents: ``trust`` (which keys count, signed by the pinned root) and ``control``
(running or stopped, revocations, token keys). A point obeys the newest of each that it has ever seen, and serves
nobody without a control document that is still valid. By itself it asks its site for two things only: the trust
document, and its next TLS certificate. It holds no content key, and shares nothing with other roles: whoever copies its
disk has sealed objects and object ids.

- ``home``: the files of a point and its settings. ``enrolment``: how it becomes known to a site.
- ``standing``: the documents that it obeys, and what a change of them cuts off.
- ``renewal``: what it asks its site for. ``inventory``: how much it holds. ``server``: wires it all to ``web``.
"""
