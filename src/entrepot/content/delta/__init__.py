"""Deltas: how a client on version m gets version n with few bytes (architecture 2.6, ``docs/formats/delta.md``).

A delta belongs to a pair of versions. For chunks of n that m lacks it holds a binary patch against plaintext of m.
*The plaintext of a version* is the concatenation of its files' bytes in path order; a reference is a range of it
(position, length). So a reference may run over many small files at once, and whoever has the installed files or the
sealed objects of m can read it.

Patches lie in packs, packs are sealed like chunks; parts list the patches in the order in which the chunks first
appear in n's manifest, so that reader and manifest advance together
(:class:`~entrepot.content.delta.reading.DeltaCursor`) and nobody holds more than one part and one pack.

A patch is never trusted: its header is bounded before it is applied and the result must have the chunk's digest. Any
failure falls back to the full object, so a delta can only save.
"""
