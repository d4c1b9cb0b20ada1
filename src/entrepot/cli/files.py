"""Files that an administrator names: bounded before they are parsed."""

from pathlib import Path
from typing import Final

from entrepot.core.errors import BadInputError, NotFoundError
from entrepot.core.sizes import MIB

MAX_FILE: Final = 4 * MIB


def read_bounded(path: Path) -> bytes:
    """A file's bytes, at most ``MAX_FILE``.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {path}.", next_step="Check its path, as this machine has it.") from None
    if len(data) > MAX_FILE:
        raise BadInputError(f"{path} is larger than any such file.")
    return data
