"""Pure decisions: from frozen values to a verdict, with clock and randomness as arguments, and no I/O.

Every rule of the product that an administrator could ask "why?" about lives here and answers with its reason: where a
client is sent (``location``, ``boundaries``), what a cloud point refuses (``restrictions``), when a limit is reached
(``thresholds``), what becomes of an alert (``alerts``) and what it says (``sentences``), which client setting wins
(``settings``), when work is tried again (``retry``).

The words here are the room's own; the site maps its rows and the models of ``protocol`` onto them. Their text values
are the same on purpose.
"""
