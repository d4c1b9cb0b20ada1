"""Load drills: synthetic devices that download from a cloud point, as an administrator let them.

Each is what a client is to a gateway, no more: a token, one object after another over a connection that is kept, every
whole object held against its name. Nothing is kept on disk and no content key is needed. However many devices there
are, memory holds a fixed buffer for each, and the figures, which do not grow; sockets are one for each device.
"""
