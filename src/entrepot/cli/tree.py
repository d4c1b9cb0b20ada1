"""The command tree, whole or only the branch that a command line asks for.

Most of the time of a short command is the loading of modules, so a command loads its own group and no other. Whatever
needs all of them (the help of ``entrepot`` itself, a group that does not exist) gets all of them.
"""

import functools
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from entrepot import __version__
from entrepot.cli.helping import with_help

ADMINISTRATION: Final = "Administration, through the site's API from any machine"
ROLES: Final = "Roles on this machine"

_GROUPS: Final = {
    "content": ("content", ADMINISTRATION),
    "library": ("library", ADMINISTRATION),
    "cloud": ("cloud.commands", ADMINISTRATION),
    "point": ("point", ADMINISTRATION),
    "boundary": ("boundary", ADMINISTRATION),
    "device": ("device", ADMINISTRATION),
    "collection": ("collection", ADMINISTRATION),
    "deploy": ("deploy", ADMINISTRATION),
    "settings": ("settings", ADMINISTRATION),
    "certificate": ("certificate", ADMINISTRATION),
    "key": ("key", ADMINISTRATION),
    "alert": ("alert", ADMINISTRATION),
    "cost": ("cost", ADMINISTRATION),
    "budget": ("budget", ADMINISTRATION),
    "task": ("task", ADMINISTRATION),
    "site": ("site", ROLES),
    "host": ("host.commands", ROLES),
    "gateway": ("gateway", ROLES),
    "client": ("client", ROLES),
}
"""Group: the module that has it as ``app``, and the heading it is listed below."""

_COMMANDS: Final = {
    "login": ("login", ADMINISTRATION),
    "logout": ("login", ADMINISTRATION),
    "plan": ("plan", ADMINISTRATION),
    "demo": ("demo.command", ROLES),
}
"""Command without a group: the module that has it as a function of its name."""

_VALUED: Final = ("--site",)
"""Options before the group that are followed by a value."""


def branch_of(arguments: Sequence[str]) -> str:
    """The group or command that a command line asks for; empty when everything is needed."""
    waiting = iter(arguments)
    for argument in waiting:
        if argument in _VALUED:
            next(waiting, None)
        elif not argument.startswith("-"):
            return argument if argument in _GROUPS or argument in _COMMANDS else ""
    return ""


def build(branch: str = "") -> typer.Typer:
    """The tree.

    Args:
        branch: the only group or command that is loaded; empty for all.
    """
    app = typer.Typer(
        name="entrepot",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        help="Distributes software content to managed devices, on premises and through the cloud.",
        epilog="First steps: `entrepot demo` shows everything on this machine; README.md explains it.",
    )
    app.callback()(_root)
    for name, (module, panel) in _COMMANDS.items():
        if branch in ("", name):
            command: Callable[..., Any] = getattr(_module(module), name)
            app.command(name, rich_help_panel=panel)(command)
    for name, (_, panel) in _GROUPS.items():
        if branch in ("", name):
            app.add_typer(_group(name), name=name, rich_help_panel=panel)
    with_help(app)
    return app


def listing_of(arguments: Sequence[str]) -> str:
    """The command that lists what a command line is about, of the innermost of its groups that has one; or empty."""
    branch = branch_of(arguments)
    if branch not in _GROUPS:
        return ""
    found, path, group = "", f"entrepot {branch}", _group(branch)
    words = iter(arguments[list(arguments).index(branch) + 1 :])
    while True:
        if any(command.name == "list" for command in group.registered_commands):
            found = f"{path} list"
        word = next(words, "")
        inner = next((each.typer_instance for each in group.registered_groups if each.name == word), None)
        if inner is None:
            return found
        path, group = f"{path} {word}", inner


@functools.cache
def _group(name: str) -> typer.Typer:
    """A group with what other modules add to it."""
    group: typer.Typer = _module(_GROUPS[name][0]).app
    if name == "alert":
        delivery = _module("alert_delivery")
        group.add_typer(_module("alert_subscriptions").subscriptions, name="subscription")
        group.add_typer(delivery.mail, name="mail")
        group.add_typer(delivery.windows, name="window")
    elif name == "point":
        local = _module("point_local")
        group.command("init")(local.init)
        group.command("check-config")(local.check_config)
        group.command("serve")(local.serve)
        group.command("validate")(_module("versions").validate_point)
    elif name == "content":
        versions = _module("versions")
        for command in (
            versions.compare,
            versions.rollback,
            versions.history,
            _module("uses").uses,
            versions.delete_version,
            versions.redistribute,
            versions.cancel_distribution,
        ):
            group.command()(command)
    return group


def _module(name: str) -> Any:
    return import_module(f"entrepot.cli.{name}")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"entrepot {__version__}")
        raise typer.Exit


def _root(
    site: Annotated[
        str | None,
        typer.Option(envvar="ENTREPOT_SITE", help="Address of the site to talk to; default: of the last login."),
    ] = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distributes software content to managed devices, on premises and through the cloud."""
