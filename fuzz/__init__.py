"""Fuzzers: one target for each parser of bytes that come from elsewhere (``targets``), driven by atheris.

``make fuzz`` runs each for a while, guided by coverage; ``tests/fuzz`` runs each briefly with Hypothesis. A target
passes when every input is either read or refused with an error of the house, and what was promised of the result holds.
"""
