"""Shared words of every room: identifiers, sizes, time, errors, secrets, names.

Nothing here does I/O, reads a clock or draws randomness: callers pass those in.
"""
