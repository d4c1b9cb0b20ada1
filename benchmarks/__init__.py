"""Benchmarks: each prints one JSON line with its ratios against a peer or a physical limit measured in the same run.

Run one with ``python -m benchmarks.publish`` (``--json`` for the line alone). They are never part of the tests.
"""
