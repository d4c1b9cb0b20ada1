"""What every HTTP process shares.

*Serving*: ``server`` (Granian in our own loop, on our own listener), ``asgi`` (requests and responses without a
framework), ``problems`` (errors become RFC 9457 documents, and errors again at the other end), ``health``, ``logs``,
``process`` (what a server process asks of its system), ``ports`` (free ports to keep).

*The data plane* (architecture 5): ``objects`` serves sealed objects to clients and takes them from the site, the same
code on a point, on a gateway and behind the cloud host's store endpoint, ``express`` what takes no waiting;
``authorise`` decides from tokens and the
control document who may read what; ``sets`` loads the object sets that tokens name; ``dataplane`` is the site's side.

*Asking*: ``http`` is the client side (aiohttp), with three ways to trust a server. It and all that it imports stay
free of server libraries and SQL, because the agent on managed devices uses it.

Invariants: nothing is buffered without a bound; no piece of a response is handed over after a download was cut; a
response that was not completed breaks visibly (its announced length is missing bytes, the connection ends).
"""
