"""As whom the commands of a cloud host act in its home. POSIX only.

Root may give orders for a host that another account runs. Everything is then done as that account: what is made belongs
to whoever runs the host, and who runs the host cannot choose, by a link in the home, which of root's files an order
reads, writes or gives away. The identity is taken on for good, before anything in the home is opened; so there is no
moment between a look and a deed in which the home could become another. Files that root names itself (a certificate to
let in) are read before.
"""

import os
import pwd
from pathlib import Path
from typing import Final

import entrepot
from entrepot.core.errors import ForbiddenError, StorageError

_MARK: Final = "host.toml"


def become_owner(home: Path) -> None:
    """Become the owner of a home, where root was asked to work in another's. There is no way back.

    Raises:
        StorageError: the home and the settings in it belong to different accounts.
        ForbiddenError: the owner's identity cannot be taken on, or the owner cannot read this program.
    """
    try:
        found, mark = home.stat(), _settings_of(home)
    except FileNotFoundError:
        return  # there is none yet: who makes it owns it
    if os.geteuid() != 0:
        return
    owner = owner_of(home, found, mark)
    if owner == 0:
        return
    _become(owner, found.st_gid)


def owner_of(home: Path, found: os.stat_result, mark: os.stat_result | None) -> int:
    """Whose a home is: its folder's owner, who must have its settings, too.

    Args:
        mark: of ``host.toml`` itself, no link followed; None: there is none yet.

    Raises:
        StorageError: they belong to different accounts; no order can be right for both.
    """
    if mark is not None and mark.st_uid != found.st_uid:
        one, other = _name(found.st_uid), _name(mark.st_uid)
        raise StorageError(
            f"{home} belongs to {one}, its {_MARK} to {other}: it is not clear who runs this host.",
            next_step=f"Give everything to whoever runs it: chown -R {one} {home}, or chown -R {other} {home}",
        )
    return found.st_uid


def _settings_of(home: Path) -> os.stat_result | None:
    try:
        return (home / _MARK).lstat()
    except FileNotFoundError:
        return None


def _become(uid: int, home_group: int) -> None:
    who = _name(uid)
    group, groups = home_group, [home_group]
    try:
        entry = pwd.getpwuid(uid)
        group, groups = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:  # an account that only a container's outside knows
        pass
    try:
        os.setgroups(groups)
        os.setresgid(group, group, group)
        _check_readable(uid, who)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise ForbiddenError(
            f"The home belongs to {who}, as whom this process may not work: {error.strerror}.",
            next_step=f"Run the command as {who}.",
        ) from None


def _check_readable(uid: int, who: str) -> None:
    """Look, as somebody else for a moment, whether what is still to be loaded can be read."""
    os.seteuid(uid)
    try:
        missing = [
            path for path in (entrepot.__file__, os.__file__) if not os.access(path, os.R_OK, effective_ids=True)
        ]
    finally:
        os.seteuid(0)
    if missing:
        raise ForbiddenError(
            f"The home belongs to {who}, who cannot read this program ({missing[0]}).",
            next_step="Install it where that account can read it, or give the home to root.",
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
