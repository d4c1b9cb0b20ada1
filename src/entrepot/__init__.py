"""Entrepôt distributes software content to managed devices: on premises, through the cloud, at a watched cost.

The rooms, from the top: ``cli`` wires; ``site``, ``cloud``, ``point`` and ``client`` are the roles, and strangers to
each other; ``web``, ``database``, ``content``, ``objects`` and ``trust`` are what they are built of; ``rules`` decide
without doing; ``protocol`` is what roles say to each other; ``durable`` and ``core`` are below everything.
"""

__version__ = "0.1.0"
