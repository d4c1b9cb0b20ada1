"""The one place that turns errors into exit codes and text."""

import errno
import os
import sys
import traceback

import typer
from rich.console import Console
from rich.text import Text
from typer import Abort
from typer.exceptions import TyperException

from entrepot.core.errors import EntrepotError, Family, UnavailableError
from entrepot.core.terminal import harmless

DEBUG_VARIABLE = "ENTREPOT_DEBUG"
INTERRUPTED = 130
EXTRA_PACKAGES = {
    "ahocorasick_rs": "server",
    "alembic": "server",
    "argon2": "server",
    "defusedxml": "server",
    "dns": "server",
    "granian": "server",
    "jinja2": "server",
    "litestar": "server",
    "obstore": "server",
    "prometheus_client": "server",
    "psycopg": "server",
    "sqlalchemy": "server",
    "swagger_ui_bundle": "server",
    "uvloop": "server",
}
"""Packages that a client-only installation does without, and the extra that brings them."""


def run(arguments: list[str]) -> int:
    """Run the command line and give its exit code.

    Every expected failure prints one message and one next step on standard error.
    """
    from entrepot.cli.tree import branch_of, build, listing_of

    branch = branch_of(arguments)
    try:
        result = build(branch)(arguments, prog_name="entrepot", standalone_mode=False)
    except EntrepotError as error:
        listing = listing_of(arguments)
        return _report(error.message, error.next_step or advice(error.family, listing), error.family.exit_code)
    except TyperException as error:
        return _usage(error)
    except Abort:
        return _report("Stopped: nothing was changed.", "", Family.CANCELLED.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        return _missing(error)
    except OSError as error:
        return _os_error(error)
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is reported as one, not as a page of code
        return _bug(error)
    return result if isinstance(result, int) else 0


def stderr() -> Console:
    """Where messages and progress go; results go to standard output."""
    return Console(stderr=True, highlight=False)


def advice(family: Family, listing: str = "") -> str:
    """The next step after an error that names none.

    Args:
        listing: the command that lists what the failed one is about; empty when there is none.
    """
    if family is Family.NOT_FOUND:
        return f"See what there is: {listing}" if listing else "Check the name."
    if family is Family.CONFLICT and listing:
        return f"See the present state: {listing}"
    return _ADVICE.get(family, "")


_ADVICE = {
    Family.INTERNAL: "Look into the log of the server that was asked.",
    Family.USAGE: "Correct what is named; --help after the command explains it.",
    Family.CONFLICT: "See what is under way: entrepot task list",
    Family.UNAUTHENTICATED: "Log in again: entrepot login",
    Family.FORBIDDEN: "Ask an administrator of the site, or of the cloud host.",
    Family.INTEGRITY: "Try again; if it persists, look at the disk of what is named, or update the older program.",
    Family.TRUST: "Check both clocks, and whether keys or certificates were changed on purpose.",
    Family.UNAVAILABLE: "Check that what is named runs and can be reached, then try again.",
    Family.STORAGE: "Free space or correct permissions, then try again.",
    Family.LIMITED: "Wait a little, then try again.",
    Family.CANCELLED: "Start it again if that was a mistake.",
}


def _report(message: str, next_step: str, code: int) -> int:
    _trace()
    console = stderr()
    console.print(Text.assemble(("Error:", "bold red"), " ", harmless(message, lines=True)), soft_wrap=True)
    if next_step:
        console.print(Text.assemble(("Next:", "bold"), "  ", harmless(next_step, lines=True)), soft_wrap=True)
    return code


def _usage(error: TyperException) -> int:
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        if message:
            typer.echo(message, err=True)  # the help: ours, with nothing from elsewhere in it
        return Family.USAGE.exit_code
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "entrepot"
    return _report(message, f"See {path} --help.", getattr(error, "exit_code", Family.USAGE.exit_code))


def _missing(error: ModuleNotFoundError) -> int:
    package = (error.name or "").partition(".")[0]
    extra = EXTRA_PACKAGES.get(package)
    if extra is None:
        return _bug(error)
    return _report(
        f"This installation has no {package}: it was made for clients only.",
        f"Install the servers too; in the checkout: pip install '.[{extra}]'",
        Family.USAGE.exit_code,
    )


def _os_error(error: OSError) -> int:
    if error.errno == errno.EPIPE:  # the reader of our output left: as usual in a pipeline
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - must outlive this function, for the final flush
        return 0
    if error.errno == errno.EADDRINUSE:
        return _report(
            f"The address is in use: {error.strerror}.",
            "Stop the other process or choose another --listen.",
            UnavailableError.family.exit_code,
        )
    if error.filename is None:
        return _bug(error)
    family = Family.NOT_FOUND if isinstance(error, FileNotFoundError) else Family.STORAGE
    return _report(f"{error.filename}: {error.strerror}.", "Check the path and its permissions.", family.exit_code)


def _bug(error: Exception) -> int:
    return _report(
        f"Unexpected {type(error).__name__}: {error}",
        f"This is a defect of Entrepôt. Set {DEBUG_VARIABLE}=1, run it again and report what is printed.",
        Family.INTERNAL.exit_code,
    )


def _trace() -> None:
    if os.environ.get(DEBUG_VARIABLE) == "1":
        sys.stderr.write(harmless(traceback.format_exc(), lines=True))
