"""Content: from a folder of software to sealed objects and back, and the library that keeps them.

The way in (``publish``): ``gathering`` (of a large source ``apart``, in a process of its own, the ``gatherer``, which
hands over ``frames``) walks the source in path order (``snapshot``) and groups what is small (``grouping``), ``ahead``
reads and cuts what is big, ``sources`` notices change, ``chunking`` gives both in order, ``keeping`` seals each chunk
once (``compressing``, ``sealing``, bounds in ``references``) and puts it on a shelf, ``writing`` lists the files in
manifest parts, ``collecting`` ends with the object set (``objectset``). The way out (``reading``): the signed root,
then parts in order, each checked before it is believed. ``delta`` leads from one version to another. ``archives``
unpacks what is published from an archive, ``surprises`` warns, ``rehearsal`` tells without storing what a publish would
add.

``ledger`` is the port to the library's books: which plaintexts are sealed already, which objects a publisher holds or a
set needs. ``sweep`` deletes the rest and never races a publisher. ``memory`` keeps the books for tests; the site keeps
them in SQL (``database/library.py``).

Invariants:

- Nothing leaves this room unsealed except object sets, which hold ids only.
- Equal plaintexts of one dedupe domain are one object; the order of work, the machine and the package do not matter.
- Objects are stored and durable before anything that lasts names them; a killed publish loses and leaves nothing.
- Memory does not grow with the content: not with its size, not with the number of its files.
- The same tree published twice gives the same parts, and no new object.

What it is not: it decides nothing about who may have content, and moves nothing over a network.
"""
