"""The client: the agent on a managed device, which fetches content and believes nobody.

A device enrols once (``enrol``), asks its management point where content is (``managementpoint``), and then takes
each chunk from wherever it costs least (``fetch``): its own cache of sealed objects, the plain tree of an earlier
version, a delta against that version, or the full object from a distribution point, in the order of tiers that the
site decided (``sources``).

Invariants of this room:

- Every byte is checked twice before it is used: the sealed object against its id, the opened chunk against the
  digest in the signed manifest. A whole file is checked once more on disk. No source is trusted for content.
- Nothing is written outside the target, whatever a manifest says or whoever plants links there (``safetree``).
- A tree appears under its final name only when it is whole. Work interrupted by SIGKILL is taken up from what is
  on disk: nothing says "done" there but the bytes themselves, which are hashed again.
- Memory is bounded by the number of parallel downloads, not by files or sizes.
- The fleet is mostly Windows: every POSIX-only call has a ``win32`` branch; names that Windows cannot store are
  refused there by name.

What it is not: no SQL, no cloud SDK, no server. It never shares a folder with another role.
"""
