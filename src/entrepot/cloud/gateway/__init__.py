"""The gateway: one instance of a cloud service, one operating system process (architecture 1, 5).

What it trusts: the hierarchy root's public key from its configuration, nothing else. The trust document and the
control document come out of the object store, which anyone who runs the cloud could write to, so both are verified
and never go back in time. What it refuses: to serve without a valid control document, to serve a device or token
that was revoked, to serve when it cannot record (a disk that is full means 503, never an unrecorded download).

What it keeps: only its transaction journal, and that only until the object store has it. Everything else can be
lost with the process. What it never has: a content key, a connection to the site.

- ``config``: the file that starts an instance; ``pipes``: what it and its host say to each other while it runs.
- ``watcher``: reads the documents that ``web.control`` judges, cuts downloads off.
- ``app``: wires it to ``web``, which checks tokens and hands objects over.
- ``journal``, ``recorder``, ``shipping``: transaction records, from memory to disk to store.
"""
