"""Object stores behind one port, and the shelf: objects by their id.

``store`` is the port: keys, bytes, pages, conditional creation, group commit. ``memory`` and ``folder`` implement
it; one contract suite (``tests/objects/test_store_contract.py``) holds for every adapter. ``shelf`` puts immutable
objects below ``objects/<first two digits>/<id>`` of any store and hashes whatever comes in, so that a name can never
stand for other bytes.

Invariants:

- A reader sees a key whole or not at all, also after SIGKILL or power loss: bytes reach the disk before their name.
- Nothing here knows a content key. Objects are sealed elsewhere; a store only moves bytes.
- Keys are plain ASCII and cannot leave the store (``keys.check_key``).

What it is not: no cache policy, no retry, no metering (those wrap the port), no knowledge of what an object holds.
"""
