"""Export and import of a site's secrets, on the server itself (R39): what a restore onto another computer needs.

Exported are the content secrets of every generation, the other secrets, the signing keys with the internal CA's, and
the passwords that the vault keeps; keys of certificates only when asked for (R39: they are best kept apart, as the
``.pfx`` files that they came from). The vault key stays where it is. What is still closed after an import is named with
what to do.

Import makes a home usable whose database and library are there, but whose vault key is another one or missing. The
references that open versions are found again: the index knows what each manifest root is, given the content secret.
Deltas are in no index; they are dropped and made anew. What opens already is never replaced by something else.
"""

import contextlib
import hmac
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from entrepot.content.recovering import recover_ref
from entrepot.content.sealing import Generation, Purpose
from entrepot.core.encoding import pack
from entrepot.core.errors import BadInputError, ConflictError, EntrepotError, NotFoundError, TrustError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.database import contents, hierarchy, sealings
from entrepot.database.contents import Version
from entrepot.database.engine import Database, open_database
from entrepot.database.hierarchy import RoleKey
from entrepot.database.recovery import indexed_in_set
from entrepot.database.schema import upgrade
from entrepot.durable.files import write_private
from entrepot.durable.locks import HomeLock
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef
from entrepot.protocol.trust import Role
from entrepot.site.keys.loading import load_key_set, open_secrets
from entrepot.site.keys.rotation import keep_wrapped
from entrepot.site.keys.sitekeys import WRAPPING_PREFIX, derive_isolated, role_name, root_name
from entrepot.site.keys.vaulted import Closed, bring_back, open_for_export, opens
from entrepot.site.publishing import ask_for_delta
from entrepot.site.settings import Home, load_settings
from entrepot.site.setup import issue_tls
from entrepot.trust.authority import Authority
from entrepot.trust.escrow import MAX_FILE, Exported, ExportedKey, check_passphrase, protect, read_header, unprotect
from entrepot.trust.vault import ServerVault
from entrepot.trust.wrapping import WrappingKey


class ImportedInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did. ``others``: passwords and keys of certificates that open again. ``lost``: versions that could
    not be opened again; publish them anew. ``closed``: what else does not open here, and what to do."""

    site: str
    secrets: int
    keys: int
    versions: int
    lost: tuple[str, ...]
    others: int = 0
    closed: tuple[Closed, ...] = ()


class ExportedInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote. ``others``: passwords, and keys of certificates where asked for. ``closed``: what does not
    open on this server, so that it is not in the file."""

    file: str
    secrets: int
    keys: int
    others: int
    closed: tuple[Closed, ...]


def export_secrets(
    folder: Path, target: Path, passphrase: Secret, *, now: float, certificates: bool = False
) -> ExportedInfo:
    """Write a site's secrets to a file (0600), protected by a passphrase. The site may be serving meanwhile.

    Args:
        certificates: also the keys of management and service certificates.

    Raises:
        ConflictError: there is such a file already.
        BadInputError: the passphrase is too short, or it would be more than a file may hold.
        NotFoundError: no site in this home.
        IntegrityError: the secrets do not open on this server.
    """
    check_passphrase(passphrase)
    if target.exists():
        raise ConflictError(f"{target} exists already.", next_step="Choose another file.")
    home = Home(folder)
    settings = load_settings(home)
    vault = ServerVault.load(home.vault_key)
    with contextlib.closing(open_database(home.database_url(settings))) as database, database.reading() as connection:
        record = hierarchy.get_hierarchy(connection)
        secrets, _ = open_secrets(connection, site=settings.site, vault=vault)
        keys = tuple(_exported(row, vault) for row in hierarchy.site_role_keys(connection, settings.site))
        others, closed = open_for_export(connection, settings.site, vault, certificates=certificates, now=now)
    exported = Exported({name: secret.reveal() for name, secret in secrets.items()}, keys, others)
    data = protect(exported, passphrase, hierarchy=record.name, root=record.root_public, site=settings.site, now=now)
    write_private(target, data)
    return ExportedInfo(file=str(target), secrets=len(secrets), keys=len(keys), others=len(others), closed=closed)


def _exported(row: RoleKey, vault: ServerVault) -> ExportedKey:
    private = vault.open(role_name(row.role, row.kid), row.sealed).reveal()
    return ExportedKey(
        kid=row.kid,
        role=row.role,
        public=row.public,
        private=private,
        not_before=row.not_before,
        not_after=row.not_after,
        listed_in=row.listed_in,
        dropped_in=row.dropped_in,
        listed_at=row.listed_at,
    )


def read_export(path: Path) -> bytes:
    """The bytes of an exported file, bounded.

    Raises:
        NotFoundError: there is none.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {path}.", next_step="Check its path, as this machine has it.") from None


def import_secrets(folder: Path, data: bytes, passphrase: Secret, *, now: float) -> ImportedInfo:
    """Bring exported secrets into a home whose site is not being served.

    Everything is one transaction; a vault key and a TLS certificate that are missing are made before and after it.

    Raises:
        FormatError: no file of exported secrets, or parameters out of bounds.
        TrustError: it is of another hierarchy or site.
        BadInputError: the passphrase does not open it.
        ConflictError: the site is served, or has secrets of its own that differ.
    """
    header = read_header(data)
    home = Home(folder)
    settings = load_settings(home)
    with HomeLock(home.folder, "a site server"):
        with contextlib.closing(open_database(home.database_url(settings))) as database:
            upgrade(database)
            with database.reading() as connection:
                record = hierarchy.get_hierarchy(connection)
            if not hmac.compare_digest(header.root, record.root_public) or header.site != settings.site:
                raise TrustError(
                    f"These are the secrets of site {header.site} in the hierarchy {header.hierarchy!r}: not ours.",
                    next_step="Take the file that this site has exported.",
                )
            _, exported = unprotect(data, passphrase)
            vault = ServerVault.load(home.vault_key) if home.vault_key.exists() else ServerVault.create(home.vault_key)
            info, authority = _bring_in(database, home, settings.site, exported, vault, now)
        if not (home.tls_key.exists() and home.tls_certificate.exists()):
            issue_tls(home, settings.url, authority, now=now)
    return info


def _bring_in(
    database: Database, home: Home, site: str, exported: Exported, vault: ServerVault, now: float
) -> tuple[ImportedInfo, Authority]:
    with database.transaction() as connection:
        hierarchy.lock_keys(connection)
        secrets = _merge_secrets(connection, site, exported, vault)
        numbers = [
            int(name.removeprefix(WRAPPING_PREFIX))
            for name in hierarchy.sealed_secrets(connection, site)
            if name.startswith(WRAPPING_PREFIX)
        ]
        wrapping = WrappingKey.generate(max(numbers, default=0) + 1)
        keep_wrapped(connection, secrets, wrapping, site=site, vault=vault, now=now)
        _bring_keys(connection, site, exported.keys, vault)
        hierarchy.set_vault(connection, site, vault.public)
        others, closed = bring_back(connection, site, exported.others, vault, now=now)
        versions, lost = _reopen(connection, Shelf(FolderStore(home.library)), site, secrets, vault, now)
        keys = load_key_set(connection, site=site, vault=vault, now=now)
        hierarchy.note_change(connection)
    info = ImportedInfo(
        site=site,
        secrets=len(exported.secrets),
        keys=len(exported.keys),
        versions=versions,
        lost=tuple(lost),
        others=others,
        closed=closed,
    )
    return info, keys.authority


def _merge_secrets(connection: Connection, site: str, exported: Exported, vault: ServerVault) -> dict[str, Secret]:
    try:
        own, _ = open_secrets(connection, site=site, vault=vault)
    except EntrepotError:  # sealed to another server: what is brought takes its place
        own = {}
        kept = {name for name in hierarchy.sealed_secrets(connection, site) if not name.startswith(WRAPPING_PREFIX)}
        missing = kept - set(exported.secrets)
        if missing:
            raise ConflictError(
                f"The file is older than this site: it lacks {', '.join(sorted(missing))}.",
                next_step="Take the newest export.",
            ) from None
    for name, value in exported.secrets.items():
        if name in own and not hmac.compare_digest(own[name].reveal(), value):
            raise ConflictError(
                f"This site has another secret {name!r} that works.", next_step="Import into a home that lost its keys."
            )
    return own | {name: Secret(value) for name, value in exported.secrets.items()}


def _bring_keys(connection: Connection, site: str, keys: tuple[ExportedKey, ...], vault: ServerVault) -> None:
    for key in keys:
        _bring_key(connection, site, key, vault)
    rows = hierarchy.site_role_keys(connection, site)
    closed = [
        f"{row.role.value} {row.kid}" for row in rows if not opens(vault, role_name(row.role, row.kid), row.sealed)
    ]
    if closed:
        raise ConflictError(
            f"The file is older than this site: it lacks the signing keys {', '.join(sorted(closed))}.",
            next_step="Take the newest export.",
        )


def _bring_key(connection: Connection, site: str, key: ExportedKey, vault: ServerVault) -> None:
    sealed = vault.seal(role_name(key.role, key.kid), Secret(key.private))
    known = {row.kid for row in hierarchy.site_role_keys(connection, site)}
    if key.kid in known:
        hierarchy.change_role_key(connection, key.kid, sealed=sealed)
        return
    row = RoleKey(
        kid=key.kid,
        role=Role(key.role),
        site=site,
        public=key.public,
        sealed=sealed,
        not_before=key.not_before,
        not_after=key.not_after,
        listed_in=key.listed_in,
        dropped_in=key.dropped_in,
        listed_at=key.listed_at,
    )
    hierarchy.add_role_key(connection, row)


def _reopen(
    connection: Connection, shelf: Shelf, site: str, secrets: dict[str, Secret], vault: ServerVault, now: float
) -> tuple[int, list[str]]:
    """Find the references of all versions again that do not open on this server; how many, and which are lost."""
    known = {content.id: content for content in contents.list_contents(connection) if content.site == site}
    found, lost = 0, []
    for version in contents.list_versions(connection):
        content = known.get(version.content)
        if content is None or opens(vault, root_name(version.content, version.number), version.root):
            continue
        try:
            ref = _recover(connection, shelf, version, content.isolated, secrets)
        except EntrepotError:
            lost.append(f"{content.name}, version {version.number}")
            continue
        name = root_name(version.content, version.number)
        sealings.reopen(connection, version, root=vault.seal(name, Secret(pack(ref))))
        found += 1
    for delta in contents.list_deltas(connection):
        content = known.get(delta.content)
        name = root_name(delta.content, delta.to_version, delta.from_version)
        if content is not None and not opens(vault, name, delta.root):
            contents.drop_delta(connection, delta)
            if delta.to_version == content.current:
                ask_for_delta(
                    connection, content, from_version=delta.from_version, to_version=delta.to_version, now=now
                )
    return found, lost


def _recover(
    connection: Connection, shelf: Shelf, version: Version, isolated: bool, secrets: dict[str, Secret]
) -> SealedRef:
    indexed = indexed_in_set(connection, ObjectId(version.set_id), Purpose.MANIFEST_ROOT)
    if len(indexed) != 1 or f"content/{indexed[0].generation}" not in secrets:
        raise BadInputError("The index does not know the manifest of this version.")
    secret = secrets[f"content/{indexed[0].generation}"]
    generation = Generation(indexed[0].generation, derive_isolated(secret, version.content) if isolated else secret)
    return recover_ref(
        shelf.read_whole(indexed[0].object_id),
        purpose=Purpose.MANIFEST_ROOT,
        generation=generation,
        payload_hash=indexed[0].payload_hash,
    )
