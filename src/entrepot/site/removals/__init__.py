"""What an order that destroys would do, told before it is given (``protocol.removalapi``).

Who looks gets two things: what is affected, read from the database (:mod:`.estate`, :mod:`.services`), and whether the
order would be refused. The second is found out by giving the very order in a transaction that is rolled back: what
refuses it is said nowhere twice. :mod:`.routes` are the addresses.
"""
