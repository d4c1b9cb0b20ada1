"""Where the command line remembers its sites: one private file, and the pinned trust of each hierarchy.

``credentials.json`` (0600) holds each site's address, root fingerprint and session token, never a password. It lies
in the user's configuration folder, or in ``ENTREPOT_CONFIG_DIR``.
"""

import os
from pathlib import Path

import msgspec
from platformdirs import user_config_path

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import NotFoundError, UnauthenticatedError
from entrepot.durable.files import make_folder, write_private

CONFIG_VARIABLE = "ENTREPOT_CONFIG_DIR"


class SiteLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A site that this user has logged in to. ``fingerprint``: SHA-256 of the hierarchy root's key, hexadecimal."""

    url: str
    fingerprint: str
    name: str
    token: str
    expires: int

    def __repr__(self) -> str:
        return f"SiteLogin({self.url!r}, {self.name!r}, token=***)"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The file's content. ``current`` is the URL of the site that commands go to unless ``--site`` says otherwise."""

    version: int = 1
    current: str = ""
    sites: tuple[SiteLogin, ...] = ()


def config_folder() -> Path:
    """The folder for this user's settings."""
    chosen = os.environ.get(CONFIG_VARIABLE)
    return Path(chosen) if chosen else user_config_path("entrepot", appauthor=False)


def trust_file(fingerprint: str) -> Path:
    """Where the pinned trust of one hierarchy is kept."""
    return config_folder() / f"trust-{fingerprint}.json"


def load_credentials() -> Credentials:
    """Read the file; a missing one means that nobody has logged in yet.

    Raises:
        FormatError: the file is damaged.
    """
    path = config_folder() / "credentials.json"
    if not path.exists():
        return Credentials()
    return from_json(path.read_bytes(), Credentials, f"credentials file {path}")


def save_login(login: SiteLogin) -> None:
    """Remember a session and make its site the current one.

    Raises:
        StorageError: the folder cannot be written.
    """
    known = load_credentials()
    others = tuple(site for site in known.sites if site.url != login.url)
    _write(Credentials(current=login.url, sites=(*others, login)))


def forget_login(url: str) -> None:
    """Forget a session; the hierarchy's pinned trust stays, so that the next login is protected by it.

    Raises:
        StorageError: the folder cannot be written.
    """
    known = load_credentials()
    others = tuple(site for site in known.sites if site.url != url)
    current = known.current if known.current != url else (others[-1].url if others else "")
    _write(Credentials(current=current, sites=others))


def find_login(url: str | None, now: float) -> SiteLogin:
    """The session to use.

    Args:
        url: of a certain site; ``None`` for the current one.
        now: seconds since 1970.

    Raises:
        UnauthenticatedError: nobody has logged in, or the session has ended.
        NotFoundError: this user never logged in to that site.
    """
    known = load_credentials()
    wanted = (url or known.current).rstrip("/")
    if not wanted:
        raise UnauthenticatedError(
            "Nobody has logged in to a site yet.", next_step="Run: entrepot login https://SITE --fingerprint HEX"
        )
    for site in known.sites:
        if site.url == wanted:
            if site.expires <= now:
                raise UnauthenticatedError(
                    f"The session at {wanted} has ended.", next_step=f"Run: entrepot login {wanted}"
                )
            return site
    raise NotFoundError(f"You have not logged in to {wanted}.", next_step=f"Run: entrepot login {wanted}")


def _write(credentials: Credentials) -> None:
    folder = config_folder()
    make_folder(folder, mode=0o700)
    write_private(folder / "credentials.json", to_json(credentials))
