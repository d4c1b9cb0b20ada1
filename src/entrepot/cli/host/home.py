"""The home of a cloud host, and what its commands do there: as its owner (``owner``), whoever gives the order."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from entrepot.cloud.host.administration import HostAdministration
    from entrepot.cloud.host.keyadministration import KeyAdministration

HOME: Final = Path("/var/lib/entrepot/host")
Which = Annotated[str, typer.Argument(help="Id or name of the subscription.")]


def administration(home: Path) -> "HostAdministration":
    """What the host's administrator does, as the home's owner.

    Raises:
        EntrepotError: as :func:`act_as_owner`; the home was not set up.
    """
    act_as_owner(home)
    from entrepot.cloud.host.administration import HostAdministration

    return HostAdministration(home)


def key_administration(home: Path) -> "KeyAdministration":
    """What the host's administrator does about its key, as the home's owner.

    Raises:
        EntrepotError: as :func:`act_as_owner`; the home was not set up.
    """
    act_as_owner(home)
    from entrepot.cloud.host.keyadministration import KeyAdministration

    return KeyAdministration(home)


def act_as_owner(home: Path) -> None:
    """Become the owner of a home, where root was asked to work in another's. There is no way back.

    Raises:
        StorageError: the home and the settings in it belong to different accounts.
        ForbiddenError: the owner's identity cannot be taken on, or the owner cannot read this program.
    """
    if sys.platform == "win32":
        return
    from entrepot.cli.host.owner import become_owner  # POSIX only, and the help of all commands loads this module

    become_owner(home)
