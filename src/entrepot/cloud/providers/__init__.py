"""How a site drives a cloud: one adapter per kind of cloud, all of the shape that the site's port asks for.

``host``: our own cloud host. Every method is safe to repeat after a crash in the middle; every connection goes outwards
from the site (R7).
"""
