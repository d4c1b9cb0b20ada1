"""Shows the settings of a role that have passed all checks: ``check-config`` of every role."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from entrepot.cli.output import print_facts, print_json
from entrepot.core.errors import BadInputError

_PASSWORDS: Final = (re.compile(r"(://[^:/@\s]*:).*(?=@)"), re.compile(r"([?&]password=)[^&]*"))
"""In an address: after the user's name, or as a parameter."""


def show_settings(file: Path, settings: msgspec.Struct, *, as_json: bool) -> None:
    """Print every setting with the value that counts. No settings file should hold a secret; an address with a
    password in it is shown without."""
    if as_json:
        print_json({"file": str(file), "settings": _masked(msgspec.to_builtins(settings, enc_hook=str))})
        return
    print_facts(f"{file} can be used" if file.exists() else f"There is no {file}: all defaults", tuple(_rows(settings)))


def readable(path: str, setting: str) -> None:
    """Check that a file that a setting names can be read; empty for none.

    Raises:
        BadInputError: it cannot, and why.
    """
    if not path:
        return
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise BadInputError(
            f"The setting {setting} names {path}, which cannot be read: {error.strerror}.",
            next_step="Correct the path, or the file's permissions.",
        ) from None


def _rows(settings: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _rows(value, f"{prefix}{field.name}.")
        else:
            default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
            yield f"{prefix}{field.name}", _text(value) + ("  (default)" if value == default else "")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    shown = _masked(value)
    text: str = msgspec.json.encode(shown).decode() if not isinstance(shown, str) else shown
    return text or "(none)"


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(entry) for key, entry in value.items()}
    if not isinstance(value, str):
        return value
    for password in _PASSWORDS:
        value = password.sub(r"\1***", value)
    return value
