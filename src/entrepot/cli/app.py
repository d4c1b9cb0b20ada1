"""The whole command tree, for whoever walks through all of it: the reference page and the tests."""

from entrepot.cli.tree import build

app = build()
