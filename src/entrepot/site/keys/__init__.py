"""The site's keys and secrets: how they are kept, loaded, changed, and brought to another server.

- ``sitekeys``: what the server holds in memory while it serves, of which ``keyset`` is one moment; ``loading`` opens it
  from the database and follows what others change there;
- ``rotation`` of the content secret, and ``resealing``, which seals versions anew after a compromise; ``resealalert``:
  the alert about those that wait for it; ``signers``: new signing keys, with the trust document that lists them;
- ``exporting`` and import of all of it on the server itself, with ``vaulted``: what else the vault has sealed;
- ``info``: what administrators see.

At rest everything is sealed to the server's vault key. What it is not: cryptography (``trust``), or
the hierarchy's root key, which is opened at set-up only and lies offline.
"""
