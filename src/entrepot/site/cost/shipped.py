"""The example price sheets that are shipped. Needs no database: ``entrepot plan`` reads them where no server is
installed."""

import tomllib
from importlib.resources import files

import msgspec

from entrepot.core.names import name_key
from entrepot.rules.prices import PriceSheet


def shipped() -> dict[str, PriceSheet]:
    """The examples, by name key: data files beside this module."""
    found = {}
    for file in (files(__package__) / "examples").iterdir():
        if file.name.endswith(".toml"):
            sheet = msgspec.convert(tomllib.loads(file.read_text("utf-8")), PriceSheet)
            found[name_key(sheet.name)] = sheet
    return found
