"""Options that mean the same in every command."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from entrepot.core.errors import BadInputError

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the task has ended, with progress; or only start it.")
]
Home = Annotated[
    Path,
    typer.Option("--home", envvar="ENTREPOT_HOME", help="Folder that holds everything of this role on this machine."),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", help="Read the password from the first line of this file instead of asking."),
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]
Listen = Annotated[str, typer.Option("--listen", help="Address and port to listen on; port 0 chooses a free one.")]
CodeStdin = Annotated[
    bool, typer.Option("--code-stdin", help="Read the code from standard input, where no process list shows it.")
]


def application_id(text: str) -> str:
    """The client id of an application registration in Azure, however it is written.

    Raises:
        BadInputError: it is none.
    """
    try:
        return str(UUID(text))
    except ValueError:
        raise BadInputError(
            f"{text!r} is not the client id of an application registration.",
            next_step="Give --azure-application what Azure's portal shows as its Application (client) ID: "
            "8-4-4-4-12 hexadecimal digits.",
        ) from None


def pin_digits(text: str) -> str:
    """The digits of a cloud host's pin, however they are grouped; empty for none.

    Raises:
        BadInputError: they are not those of a SHA-256.
    """
    digits = text.replace(":", "").replace("-", "").lower()
    if digits and (len(digits) != 64 or set(digits) - set("0123456789abcdef")):
        raise BadInputError(
            "A pin has 64 hexadecimal digits.", next_step="On the cloud host, `entrepot host status` prints it."
        )
    return digits
