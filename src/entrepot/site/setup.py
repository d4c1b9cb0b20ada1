"""Sets up a hierarchy with its first primary site.

``site.toml`` is written last: a home without it is unfinished, and set-up begins anew there. The root key file is
left in the home for the administrator to move offline; nothing that serves ever opens it.
"""

import contextlib
import ipaddress
import secrets
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from argon2 import PasswordHasher
from sqlalchemy import Connection

from entrepot.core.addresses import server_url
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError
from entrepot.core.ids import site_code
from entrepot.core.secret import Secret
from entrepot.core.times import DAY
from entrepot.database import administrators, client_settings, device_collections, hierarchy
from entrepot.database.administrators import Administrator
from entrepot.database.engine import Database, open_database
from entrepot.database.hierarchy import Hierarchy, Site
from entrepot.database.schema import upgrade
from entrepot.durable.files import make_folder, write_file, write_private
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.site.keys.sitekeys import (
    CONTENT_SECRET,
    DEDUPE_SECRET,
    NONCE_SECRET,
    SECRET_BYTES,
    SIGNING_ROLES,
    WRAPPING_PREFIX,
    new_id,
    sealed_authority,
    sealed_signing_key,
    secret_name,
)
from entrepot.site.settings import Home, Settings, check_settings, load_settings, save_settings
from entrepot.trust.authority import SERVER_DAYS, Authority, create_authority, new_tls_key
from entrepot.trust.inspection import key_pem, to_pem
from entrepot.trust.root import RootKey, fingerprint, readable
from entrepot.trust.signing import SigningKey
from entrepot.trust.vault import ServerVault
from entrepot.trust.wrapping import WrappingKey

ROLE_KEY_DAYS: Final = 3650
MIN_PASSWORD: Final = 10
MAX_SITE_NAME: Final = 64


class NewSite(msgspec.Struct, frozen=True, kw_only=True):
    """What set-up needs to know.

    Attributes:
        code: site code, such as PS1.
        name: what people call the site.
        url: ``https://host:port``; how everyone reaches it.
        listen: ``host:port``; empty: the url's.
        hierarchy: name of the hierarchy; empty: the site's name.
        administrator: name of the first administrator.
        password: of the first administrator.
        passphrase: protects the root key file.
        database: address of the database; empty: embedded.
        resolve: see :class:`~entrepot.site.settings.Settings`.
    """

    code: str
    name: str
    url: str
    administrator: str
    password: Secret
    passphrase: Secret
    listen: str = ""
    hierarchy: str = ""
    database: str = ""
    resolve: dict[str, str] = {}


class SiteMade(msgspec.Struct, frozen=True, kw_only=True):
    """What set-up made. ``fingerprint`` is the root's, for people to compare."""

    site: str
    url: str
    home: Path
    root_key: Path
    fingerprint: str


def init_site(folder: Path, new: NewSite, *, now: float) -> SiteMade:
    """Set up a hierarchy and its first site in ``folder``.

    Raises:
        ConflictError: there is a site in the folder, or a hierarchy in the database.
        BadInputError: a value that cannot be used.
        StorageError: the disk refuses.
    """
    home = Home(folder)
    settings = _settings(new)
    if len(new.password) < MIN_PASSWORD:
        raise BadInputError(f"The administrator's password has at least {MIN_PASSWORD} characters.")
    if home.settings_file.exists():
        raise ConflictError(f"There is a site in {home.folder} already.", next_step="Choose another --home.")
    make_folder(home.folder, mode=0o700)
    finished = _finish_interrupted(home, settings, new)
    if finished is not None:
        return finished
    _sweep_unfinished(home)
    root = RootKey.generate()
    write_private(home.root_key, root.to_pem(new.passphrase))
    vault = ServerVault.create(home.vault_key)
    authority = create_authority(new.hierarchy or new.name, now=now)
    issue_tls(home, settings.url, authority, now=now)
    make_folder(home.library, mode=0o700)
    make_folder(home.logs, mode=0o700)
    database = open_database(home.database_url(settings))
    try:
        upgrade(database)
        _fill(database, new, settings, root=root, vault=vault, authority=authority, now=now)
    finally:
        database.close()
    save_settings(home, settings)
    return _made(home, settings, root.public)


def site_made(folder: Path) -> SiteMade:
    """What set-up made in ``folder``, read again: needs no login, and the site may be serving or not.

    Raises:
        NotFoundError: no site in this home.
    """
    home = Home(folder)
    settings = load_settings(home)
    with contextlib.closing(open_database(home.database_url(settings))) as database, database.reading() as connection:
        record = hierarchy.get_hierarchy(connection)
    return _made(home, settings, record.root_public)


def _made(home: Home, settings: Settings, root_public: bytes) -> SiteMade:
    return SiteMade(
        site=settings.site,
        url=settings.url,
        home=home.folder,
        root_key=home.root_key,
        fingerprint=readable(fingerprint(root_public)),
    )


def issue_tls(home: Home, url: str, authority: Authority, *, now: float) -> None:
    """Make the site's TLS key and certificate, for the host that its url names.

    Raises:
        BadInputError: the url names no proper host.
    """
    host = urlsplit(url).hostname or ""
    try:
        ips, names = [str(ipaddress.ip_address(host))], []
    except ValueError:
        ips, names = [], [host]
    key = new_tls_key()
    certificate = authority.issue_server(key.public_key(), names=names, ips=ips, days=SERVER_DAYS, now=now)
    write_private(home.tls_key, key_pem(key).reveal())
    write_file(home.tls_certificate, (to_pem(certificate) + authority.pem()).encode())


def hash_password(password: Secret) -> str:
    """The argon2id hash of a password, in argon2's text form."""
    return PasswordHasher().hash(password.reveal())


def _settings(new: NewSite) -> Settings:
    if not 1 <= len(new.name) <= MAX_SITE_NAME or not new.name.isprintable():
        raise BadInputError(f"A site's name has 1 to {MAX_SITE_NAME} printable characters.")
    url = server_url(new.url.rstrip("/"), "a site")
    parts = urlsplit(url)
    listen = new.listen or (parts.netloc if parts.port else f"{parts.netloc}:443")
    settings = Settings(
        site=site_code(new.code), url=url, listen=listen, database=new.database, resolve=dict(new.resolve)
    )
    check_settings(settings)
    return settings


def _finish_interrupted(home: Home, settings: Settings, new: NewSite) -> SiteMade | None:
    """Finish a set-up that was interrupted after the database had been filled, with the new password and passphrase."""
    if not (home.vault_key.exists() and home.root_key.exists() and home.tls_key.exists()):
        return None
    vault = ServerVault.load(home.vault_key)
    database = open_database(home.database_url(settings))
    try:
        upgrade(database)
        with database.transaction() as connection:
            try:
                record = hierarchy.get_hierarchy(connection)
                site = hierarchy.get_site(connection, settings.site)
            except NotFoundError:
                return None
            if site.vault_public != vault.public:
                return None
            RootKey.load(home.root_key.read_bytes(), new.passphrase)
            administrators.set_password(connection, new.administrator, hash_password(new.password))
    finally:
        database.close()
    save_settings(home, settings)
    return _made(home, settings, record.root_public)


def _sweep_unfinished(home: Home) -> None:
    """Remove what an interrupted set-up left: nobody can have used it, since nothing serves without settings."""
    leftovers = [home.root_key, home.vault_key, home.tls_key, home.tls_certificate]
    leftovers += [home.database.with_name(home.database.name + suffix) for suffix in ("", "-wal", "-shm")]
    for path in leftovers:
        path.unlink(missing_ok=True)


def _fill(
    database: Database,
    new: NewSite,
    settings: Settings,
    *,
    root: RootKey,
    vault: ServerVault,
    authority: Authority,
    now: float,
) -> None:
    keys = {role: SigningKey.generate() for role in SIGNING_ROLES}
    entries = {role: _entry(key, role, settings.site, now) for role, key in keys.items()}
    ca_entry = authority.key_entry(settings.site)
    trust = root.sign_trust(
        TrustDocument(
            hierarchy=new.hierarchy or new.name,
            number=1,
            epoch=1,
            issued=int(now),
            keys=(*entries.values(), ca_entry),
        )
    )
    password_hash = hash_password(new.password)

    def write(connection: Connection) -> None:
        hierarchy.create_hierarchy(
            connection,
            Hierarchy(
                name=new.hierarchy or new.name,
                epoch=1,
                trust_number=1,
                trust_document=trust,
                root_public=root.public,
            ),
            now=now,
        )
        hierarchy.add_site(
            connection,
            Site(code=settings.site, name=new.name, url=settings.url, vault_public=vault.public, created=int(now)),
        )
        for role, key in keys.items():
            hierarchy.add_role_key(connection, sealed_signing_key(key, entries[role], vault))
        hierarchy.add_role_key(connection, sealed_authority(authority, ca_entry, vault))
        wrapping = WrappingKey.generate(1)
        name = f"{WRAPPING_PREFIX}1"
        sealed = vault.seal(secret_name(name), wrapping.secret)
        hierarchy.put_secret(connection, site=settings.site, name=name, sealed=sealed, now=now)
        for name in (CONTENT_SECRET.format(1), DEDUPE_SECRET, NONCE_SECRET):
            wrapped = wrapping.wrap(secret_name(name), Secret(secrets.token_bytes(SECRET_BYTES)))
            hierarchy.put_secret(connection, site=settings.site, name=name, sealed=wrapped, now=now)
        administrators.add(
            connection,
            Administrator(id=new_id("adm"), name=new.administrator, password_hash=password_hash),
            now=now,
        )
        device_collections.add_built_in(connection)
        client_settings.add_default(connection)

    with database.transaction() as connection:
        write(connection)


def _entry(key: SigningKey, role: Role, site: str, now: float) -> KeyEntry:
    begins = int(now) - DAY  # clocks of points and clients may be behind
    return KeyEntry(
        kid=key.kid,
        role=role,
        site=site,
        public=key.public,
        not_before=begins,
        not_after=begins + ROLE_KEY_DAYS * DAY,
    )
