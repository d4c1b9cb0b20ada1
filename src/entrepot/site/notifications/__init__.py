"""Tells people and programs of alerts: by mail, and by webhook.

Messages wait in a durable outbox that is filled in the transaction that changed the alert; :mod:`.outbox` delivers
them, at least once, each under an id that stays the same. :mod:`.mail` and :mod:`.webhook` are the two ways,
:mod:`.texts` the words, in the subscriber's language. Credentials are sealed by the server's vault and never shown.
"""
