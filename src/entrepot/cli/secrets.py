"""Passwords come from a prompt, a file or standard input; never from the arguments, which every user can list."""

import getpass
import stat
import sys
from pathlib import Path

from entrepot.core.errors import BadInputError
from entrepot.core.secret import Secret

SERVICE_PASSWORD = "--service-password-file FILE"
"""How the password of a service certificate is given where nobody can be asked."""
REGISTRY_PASSWORD = "--registry-password-file FILE"
"""How the password of an image registry's user is given where nobody can be asked."""

_MAX_PASSWORD = 1024
_MAX_CODE = 4096
_MAX_PEM = 1024 * 1024


def read_secret(
    what: str,
    *,
    file: Path | None = None,
    stdin: bool = False,
    confirm: bool = False,
    options: str = "--password-file FILE or --password-stdin",
) -> Secret:
    """Ask for a secret, or read it where the options say.

    Args:
        what: how to call it, for example ``"Password of admin"``.
        file: its first line is the secret.
        stdin: the first line of standard input is the secret.
        confirm: ask twice (for a new one).
        options: that give it where nobody can be asked.

    Raises:
        BadInputError: both sources given, nothing given and nobody to ask, empty, or the two entries differ.
    """
    if file is not None and stdin:
        raise BadInputError("Give the password in a file or on standard input, not both.")
    if file is not None:
        return _checked(_first_line(file), what)
    if stdin:
        return _checked(sys.stdin.readline(_MAX_PASSWORD + 2).rstrip("\r\n"), what)
    if not sys.stdin.isatty():
        raise BadInputError(
            f"{what}: nobody is there to ask.",
            next_step=f"Use {options}; passwords are never taken from the arguments.",
        )
    value = getpass.getpass(f"{what}: ")
    if confirm and getpass.getpass(f"{what}, again: ") != value:
        raise BadInputError("The two entries differ.")
    return _checked(value, what)


def read_code(given: str | None, *, stdin: bool) -> str | None:
    """An enrolment code: from standard input, or as given among the arguments (it is good for one enrolment)."""
    if stdin:
        if given is not None:
            raise BadInputError("Give the code once: with --code or on standard input.")
        return sys.stdin.readline(_MAX_CODE).strip()
    return given


def read_pem(file: Path) -> str:
    """A file of certificates in PEM text.

    Raises:
        BadInputError: something else.
    """
    with file.open("rb") as opened:
        data = opened.read(_MAX_PEM + 1)
    if len(data) > _MAX_PEM:
        raise BadInputError(f"{file} is larger than any such file.")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise BadInputError(f"{file} is not PEM text.", next_step="Convert it: openssl x509 -inform DER") from None


def _first_line(file: Path) -> str:
    if sys.platform != "win32" and file.exists() and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInputError(
            f"Others may read {file}, so it is no place for a password.", next_step=f"Run: chmod 600 {file}"
        )
    try:
        with file.open(encoding="utf-8") as lines:
            return lines.readline(_MAX_PASSWORD + 2).rstrip("\r\n")
    except UnicodeDecodeError:  # whose text shows a byte of the secret
        raise BadInputError(f"{file} is not text in UTF-8.") from None


def _checked(value: str, what: str) -> Secret:
    if not value or len(value) > _MAX_PASSWORD:
        raise BadInputError(f"{what}: it is empty or too long.")
    return Secret(value)
