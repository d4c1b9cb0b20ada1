"""Names are unique without regard to case; a path or a field may give an id or a name."""

import unicodedata
from typing import Any, NoReturn

from sqlalchemy import Connection, Row, Table, or_, select

from entrepot.core.errors import BadInputError, ConflictError, NotFoundError
from entrepot.core.ids import is_prefixed_id


def name_key(name: str) -> str:
    """Two names with equal keys are the same name."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


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
        raise NotFoundError(f"There is no {what} {name_or_id!r}.")
    return row


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
