"""Object stores behind one port, and the shelf: objects by their id.

``store`` is the port: keys, bytes, pages, conditional creation, group commit, versions, signed addresses. Adapters are
``memory``, ``folder``, and ``remote`` for S3 and Azure Blob, which ``opening`` makes from ``settings``. Wrappers have
the same port and do one thing each: ``retrying``, ``throttling``, ``verifying``, ``metering``, ``remembering``. One
contract suite (``tests/objects/test_store_contract.py``) holds for every adapter and every wrapper. ``shelf`` puts
immutable objects below ``objects/<first two digits>/<id>`` of any store and hashes whatever comes in, so that a name
can never stand for other bytes.

Invariants:

- A reader sees a key whole or not at all, also after SIGKILL or power loss: bytes reach the disk before their name; a
  store far away gets a value in one request.
- Nothing here knows a content key. Objects are sealed elsewhere; a store only moves bytes.
- Keys are plain ASCII and cannot leave the store (``keys.check_key``), nor the prefix that a store was opened with.
- Credentials and signed addresses never become part of an error, a log line or the text form of a value.

How wrappers stack, from the store outwards: meter (every try costs), retry, remember, verify, pace. Our servers pace
elsewhere, where the reason is known (``docs/adr/0009-object-stores.md``).

What it is not: no cache policy, no knowledge of what an object holds.
"""
