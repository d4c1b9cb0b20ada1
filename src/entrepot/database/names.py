"""Names are unique without regard to case; a path or a field may give an id or a name."""

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from sqlalchemy import Connection, Row, Table, or_, select

from entrepot.core.errors import BadInputError, ConflictError, NotFoundError
from entrepot.core.ids import is_prefixed_id
from entrepot.core.names import name_key

MAX_COMPARED: Final = 5000
"""Names that a wrong one is compared with, at most."""

_LISTED: Final = {
    "boundary group": "entrepot boundary list",
    "cloud point": "entrepot cloud list",
    "collection": "entrepot collection list",
    "content": "entrepot content list",
    "device": "entrepot device list",
    "distribution point": "entrepot point list, entrepot cloud list",
    "management certificate": "entrepot certificate list",
    "set of client settings": "entrepot settings list",
}
"""What is named: the commands that list all of its kind."""


def check_name(name: str, what: str) -> str:
    """Check and tidy a name that an administrator chose.

    Raises:
        BadInputError: empty, too long, with control characters, or in the form of an id.
    """
    tidy = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(tidy) <= 128 or any(unicodedata.category(character).startswith("C") for character in tidy):
        raise BadInputError(f"The name of a {what} is 1 to 128 printable characters.")
    if "/" in tidy or tidy in (".", ".."):
        raise BadInputError(f"The name of a {what} has no slash.")
    for prefix in ("pkg", "pt", "dev", "col", "dep", "bg", "set", "cert"):
        if is_prefixed_id(tidy.lower(), prefix):
            raise BadInputError(f"{tidy!r} looks like an id; choose another name.")
    return tidy


def find(connection: Connection, table: Table, name_or_id: str, what: str) -> Row[Any]:
    """The row with this id or name.

    Raises:
        NotFoundError: there is none.
    """
    condition = or_(table.c.id == name_or_id, table.c.name_key == name_key(name_or_id))
    row = connection.execute(select(table).where(condition)).first()
    if row is None:
        names = select(table.c.name).order_by(table.c.name_key).limit(MAX_COMPARED)
        raise unknown(name_or_id, what, connection.scalars(names))
    return row


def unknown(name: str, what: str, names: Iterable[str]) -> NotFoundError:
    """The error for a name that nothing has; it tells the one that was probably meant.

    Args:
        names: what there is.
    """
    known = {name_key(each): each for each in names}
    close = difflib.get_close_matches(name_key(name), known, n=1, cutoff=0.7)
    steps = [f"Did you mean {known[key]!r}?" for key in close]
    steps += [f"See what there is: {_LISTED[what]}"] if what in _LISTED else []
    return NotFoundError(f"There is no {what} {name!r}.", next_step=" ".join(steps))


def refuse_taken(connection: Connection, table: Table, name: str, what: str, *, own_id: str = "") -> None:
    """Check that a name is free, or is the row's own.

    Raises:
        ConflictError: another row has it.
    """
    taken = select(table.c.id).where(table.c.name_key == name_key(name), table.c.id != own_id)
    if connection.execute(taken).first() is not None:
        taken_name(name, what)


def taken_name(name: str, what: str) -> NoReturn:
    """Raise the error for a name that is not free."""
    raise ConflictError(f"There is a {what} named {name!r} already.", next_step="Choose another name.")
