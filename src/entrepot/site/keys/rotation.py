"""Rotation of the content secret (docs/adr/0007-rotation.md).

*Routine*: a new wrapping key, every secret wrapped by it, the old one forgotten, in one transaction. Nothing that is
sealed changes, and everything is found and reused as before.

*Compromised*: the same, and a new generation of the content secret. From the same transaction on nothing older is
reused, and every version that is sealed under an older generation has a task that seals it anew.
"""

import secrets
from collections.abc import Callable

from sqlalchemy import Connection

from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database import contents, hierarchy, sealings, tasks
from entrepot.database.contents import Version
from entrepot.database.engine import Database
from entrepot.protocol.keysapi import MAX_LISTED, ResealInfo, RotationInfo, RotationRequest
from entrepot.protocol.siteapi import TaskState
from entrepot.protocol.trust import Role
from entrepot.site.keys.loading import open_secrets, refresh
from entrepot.site.keys.sitekeys import CONTENT_SECRET, SECRET_BYTES, WRAPPING_PREFIX, SiteKeys, secret_name
from entrepot.site.publishing import RESEAL, ask_to_reseal
from entrepot.trust.vault import ServerVault, wrap
from entrepot.trust.wrapping import WrappingKey


class Rotation:
    """Rotates one site's secrets, and asks for what is to be sealed anew.

    Args:
        work: called when tasks were added.
    """

    def __init__(self, database: Database, *, keys: SiteKeys, clock: Clock, work: Callable[[], None]) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._work = work

    async def rotate(self, request: RotationRequest) -> RotationInfo:
        """Rotate, or say what that would do.

        Raises:
            IntegrityError: a secret does not open; nothing is changed.
        """
        if request.dry_run:
            return await self._database.read(self._foreseen, request.compromised)
        info = await self._database.write(self._rotate, request.compromised)
        await self._database.read(refresh, self._keys, now=self._clock())
        self._work()
        return info

    async def reseal(self) -> RotationInfo:
        """Ask again for every version that is still to be sealed anew, for instance after a cancellation."""
        info = await self._database.write(self._ask_for_all)
        self._work()
        return info

    def _foreseen(self, connection: Connection, compromised: bool) -> RotationInfo:
        site = self._keys.site.code
        _, wrapping = open_secrets(connection, site=site, vault=self._keys.vault)
        generation = hierarchy.newest_generation(connection, site) + compromised
        return self._info(connection, self._outdated(connection, generation), wrapping + 1, generation, 0)

    def _rotate(self, connection: Connection, compromised: bool) -> RotationInfo:
        now, site = self._clock(), self._keys.site.code
        hierarchy.lock_keys(connection)
        wrapping = rewrap(connection, site=site, vault=self._keys.vault, now=now)
        generation = hierarchy.newest_generation(connection, site)
        if compromised:
            generation += 1
            _new_generation(connection, generation, site, wrapping, now)
        outdated = self._outdated(connection, generation)
        started = self._ask(connection, outdated, now)
        return self._info(connection, outdated, wrapping.number, generation, started)

    def _ask_for_all(self, connection: Connection) -> RotationInfo:
        generation = hierarchy.newest_generation(connection, self._keys.site.code)
        outdated = self._outdated(connection, generation)
        started = self._ask(connection, outdated, self._clock())
        return self._info(connection, outdated, self._keys.now.wrapping, generation, started)

    def _outdated(self, connection: Connection, generation: int) -> list[Version]:
        withdrawn = self._keys.withdrawn(Role.MANIFEST)
        return sealings.outdated(connection, generation, site=self._keys.site.code, signed_by=withdrawn)

    def _ask(self, connection: Connection, outdated: list[Version], now: float) -> int:
        known = {content.id: content for content in contents.list_contents(connection)}
        return sum(ask_to_reseal(connection, known[each.content], each, now=now) for each in outdated)

    def _info(
        self, connection: Connection, outdated: list[Version], wrapping: int, generation: int, started: int
    ) -> RotationInfo:
        names = {content.id: content.name for content in contents.list_contents(connection)}
        return RotationInfo(
            wrapping=wrapping,
            generation=generation,
            to_reseal=len(outdated),
            bytes=sum(each.stored_size for each in outdated),
            versions=tuple(
                ResealInfo(
                    content=each.content, name=names[each.content], number=each.number, stored_size=each.stored_size
                )
                for each in outdated[:MAX_LISTED]
            ),
            tasks=started,
        )


def rewrap(connection: Connection, *, site: str, vault: ServerVault, now: float) -> WrappingKey:
    """Make a new wrapping key, wrap every secret of a site by it, and forget the old one, in the caller's transaction.

    Raises:
        IntegrityError: a secret does not open.
    """
    opened, number = open_secrets(connection, site=site, vault=vault)
    wrapping = WrappingKey.generate(number + 1)
    keep_wrapped(connection, opened, wrapping, site=site, vault=vault, now=now)
    return wrapping


def keep_wrapped(
    connection: Connection,
    opened: dict[str, Secret],
    wrapping: WrappingKey,
    *,
    site: str,
    vault: ServerVault,
    now: float,
) -> None:
    """Keep these secrets wrapped by this key, and it alone sealed to the vault."""
    name = f"{WRAPPING_PREFIX}{wrapping.number}"
    for other in hierarchy.sealed_secrets(connection, site):
        if other.startswith(WRAPPING_PREFIX):
            hierarchy.forget_secret(connection, site=site, name=other)
    sealed = vault.seal(secret_name(name), wrapping.secret)
    hierarchy.replace_secret(connection, site=site, name=name, sealed=sealed, now=now)
    for each, secret in opened.items():
        wrapped = wrapping.wrap(secret_name(each), secret)
        hierarchy.replace_secret(connection, site=site, name=each, sealed=wrapped, now=now)


def _new_generation(connection: Connection, number: int, own: str, wrapping: WrappingKey, now: float) -> None:
    """A new content secret, for every site of the hierarchy: ours wrapped, the others' to their servers' vaults."""
    name, secret = CONTENT_SECRET.format(number), Secret(secrets.token_bytes(SECRET_BYTES))
    for site in hierarchy.list_sites(connection):
        if site.code == own:
            sealed = wrapping.wrap(secret_name(name), secret)
        else:
            sealed = wrap(site.vault_public, secret_name(name), secret)
        hierarchy.put_secret(connection, site=site.code, name=name, sealed=sealed, now=now)


def count_resealing(connection: Connection) -> int:
    """How many reseal tasks are not finished."""
    return tasks.count(connection, RESEAL, (TaskState.CREATED, TaskState.IN_PROGRESS))
