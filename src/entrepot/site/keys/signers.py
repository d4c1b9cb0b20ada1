"""Rollover of signing keys, and acceptance of the trust documents that the root key signs (docs/adr/0007-rotation.md).

1. *Prepare*: new keys are made and kept, in no trust document yet; the next document is drafted. It lists them, lets
   the keys that they succeed end in a week (manifest keys go on: what they signed is read for years), and leaves out
   what has ended or is withdrawn.
2. The root key signs the draft, wherever it is kept: it never comes to the site.
3. *Accept*: the site checks the document, keeps it, and brings it to every point with the next control document.
   ``sitekeys`` says which key signs from then on.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import BadInputError, ConflictError, FormatError, NotFoundError, ReplayError, TrustError
from entrepot.core.times import DAY, Clock
from entrepot.database import hierarchy, points, sealings
from entrepot.database.engine import Database
from entrepot.database.hierarchy import RoleKey
from entrepot.protocol.keysapi import ROLLED, RollRequest, TrustDraft
from entrepot.protocol.removalapi import Effect, Removal, counted, named, refused_or_not
from entrepot.protocol.trust import KeyChange, KeyEntry, Role, TrustDocument, key_changes
from entrepot.site.keys.keyset import ISSUER_WAIT
from entrepot.site.keys.loading import load_key_set, refresh
from entrepot.site.keys.sitekeys import SiteKeys, sealed_authority, sealed_signing_key
from entrepot.trust.authority import SERVER_DAYS, create_authority
from entrepot.trust.root import verify_trust
from entrepot.trust.signing import SigningKey

ROLE_KEY_DAYS: Final = 3650
OVERLAP: Final = 7 * DAY
"""How long a key is believed after its successor was listed. Tokens live for 8 hours, replies for less."""


class Signers:
    """Rolls one site's signing keys over.

    Args:
        changed: called when a trust document was accepted: points are to get it now.
    """

    def __init__(self, database: Database, *, keys: SiteKeys, clock: Clock, changed: Callable[[], None]) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._changed = changed

    async def prepare(self, request: RollRequest) -> TrustDraft:
        """Make the keys that are missing and draft the next trust document. Asking again gives the same keys.

        Raises:
            NotFoundError: a key to withdraw that the trust document does not list.
            ConflictError: a key to withdraw has signed versions that are in use, or has no successor.
        """
        made = await self._database.write(self._prepare, request)
        await self._database.read(refresh, self._keys, now=self._clock())
        return made

    async def foresee(self, request: RollRequest) -> Removal:
        """What :meth:`prepare`, and putting what it drafts into force, would do; no key is made.

        Raises:
            NotFoundError: a key to withdraw that the trust document does not list.
        """
        present, affected = await self._database.read(self._affected, request)
        return await self._database.rehearse(self._foresee, request, present, affected)

    def _affected(self, connection: Connection, request: RollRequest) -> tuple[TrustDocument, tuple[Effect, ...]]:
        """The present trust document, and what a roll makes work for: read beforehand, so that no writer waits."""
        record = hierarchy.get_hierarchy(connection)
        signed = sealings.outdated(connection, 0, site=self._keys.site.code, signed_by=request.withdraw)
        active = points.list_points(connection, state=points.ACTIVE)
        return verify_trust(record.trust_document, record.root_public), (
            counted("versions to be sealed anew", len(signed), sum(each.stored_size for each in signed)),
            named("points that are to confirm it", (each.name for each in active)),
        )

    def _foresee(
        self, connection: Connection, request: RollRequest, present: TrustDocument, affected: tuple[Effect, ...]
    ) -> Removal:
        drafted: list[TrustDocument] = []

        def order() -> None:
            made = self._prepare(connection, request)
            drafted.append(from_json(made.document, TrustDocument, "draft of a trust document"))

        removal = Removal(
            what=f"trust document {present.number}", id=str(present.number), name=present.hierarchy, effects=()
        )
        removal = refused_or_not(removal, order)
        changes = _changes(present, drafted[0]) if drafted else ()
        return msgspec.structs.replace(removal, effects=(*changes, *affected))

    def _prepare(self, connection: Connection, request: RollRequest) -> TrustDraft:
        now = int(self._clock())
        hierarchy.lock_keys(connection)
        record = hierarchy.get_hierarchy(connection)
        present = verify_trust(record.trust_document, record.root_public)
        pending = [self._pending(connection, role, record.name, now) for role in dict.fromkeys(request.roles)]
        self._check_withdrawal(connection, present, request)
        document = draft(
            present,
            site=self._keys.site.code,
            fresh=pending,
            withdrawn=request.withdraw,
            raise_epoch=request.raise_epoch,
            now=now,
        )
        self._check_complete(connection, document, now)
        return TrustDraft(document=to_json(document), present=record.trust_document)

    def _pending(self, connection: Connection, role: Role, hierarchy_name: str, now: int) -> KeyEntry:
        """The key of a role that waits to be listed; made when there is none."""
        for row in hierarchy.site_role_keys(connection, self._keys.site.code):
            if row.role is role and not row.listed_in:
                return _entry(row)
        if role is Role.CA:
            authority = create_authority(hierarchy_name, now=now)
            listed = authority.key_entry(self._keys.site.code)
            made = sealed_authority(authority, listed, self._keys.vault)
            hierarchy.add_role_key(connection, msgspec.structs.replace(made, listed_in=0))
            return listed
        key, begins = SigningKey.generate(), now - DAY  # clocks of points and clients may be behind
        entry = KeyEntry(
            kid=key.kid,
            role=role,
            site=self._keys.site.code,
            public=key.public,
            not_before=begins,
            not_after=begins + ROLE_KEY_DAYS * DAY,
        )
        row = msgspec.structs.replace(sealed_signing_key(key, entry, self._keys.vault), listed_in=0)
        hierarchy.add_role_key(connection, row)
        return entry

    def _check_withdrawal(self, connection: Connection, present: TrustDocument, request: RollRequest) -> None:
        _, signed = sealings.count_versions(connection)
        for kid in request.withdraw:
            if kid not in {entry.kid for entry in present.keys}:
                raise NotFoundError(f"The trust document lists no key {kid!r}.", next_step="See: entrepot key list")
            if signed.get(kid) and not request.force:
                raise ConflictError(
                    f"The manifest key {kid} has signed {signed[kid]} versions, which clients would believe no more.",
                    next_step="Add --force; then seal them anew at once: entrepot key reseal",
                )

    def _check_complete(self, connection: Connection, document: TrustDocument, now: int) -> None:
        """Every role of this site has a key in the document whose private half is here."""
        listed = {entry.kid: entry for entry in document.keys}
        rows = hierarchy.site_role_keys(connection, self._keys.site.code)
        for role in (*ROLLED, Role.CA):
            held = [listed[row.kid] for row in rows if row.role is role and row.kid in listed]
            if not any(entry.not_before <= now < entry.not_after for entry in held):
                raise ConflictError(
                    f"The trust document would leave the site without a key for {role.value}.",
                    next_step=f"Roll it over too: entrepot key roll {role.value}",
                )
        known = {row.kid for row in rows}
        foreign = [entry.kid for entry in document.keys if entry.site == self._keys.site.code]
        if any(kid not in known for kid in foreign):
            raise TrustError("The trust document lists a key of this site that this server does not have.")

    async def accept(self, document: str) -> None:
        """Take in a trust document that the root key signed; points, gateways and clients follow.

        Raises:
            TrustError: another root signed it, or it lists a key of this site that is not here.
            ReplayError: its number or epoch is not higher than of the present one.
            ConflictError: it would leave the site without a key.
            BadInputError: no trust document.
        """
        await self._database.write(self._accept, document.strip())
        await self._database.read(refresh, self._keys, now=self._clock())
        self._changed()

    def _accept(self, connection: Connection, signed: str) -> None:
        now = int(self._clock())
        hierarchy.lock_keys(connection)
        record = hierarchy.get_hierarchy(connection)
        offered = _read(signed, record.root_public)
        if signed == record.trust_document:
            return
        if offered.hierarchy != record.name:
            raise TrustError("The trust document is of another hierarchy.")
        if offered.number <= record.trust_number or offered.epoch < record.epoch:
            raise ReplayError(
                f"The trust document {offered.number} is not newer than {record.trust_number}, which is in force.",
                next_step="Draft it anew: somebody else signed one meanwhile.",
            )
        self._check_complete(connection, offered, now)
        hierarchy.store_trust(connection, number=offered.number, epoch=offered.epoch, document=signed)
        listed = {entry.kid: entry for entry in offered.keys}
        for site in hierarchy.list_sites(connection):
            for row in hierarchy.site_role_keys(connection, site.code):
                _follow(connection, row, listed.get(row.kid), offered.number, now)
        hierarchy.note_change(connection)
        load_key_set(connection, site=self._keys.site.code, vault=self._keys.vault, now=now)


def _read(signed: str, root_public: bytes) -> TrustDocument:
    try:
        return verify_trust(signed, root_public)
    except FormatError as error:  # by whoever gave it, not by this site
        raise BadInputError(error.message, next_step="Give what `entrepot key trust sign` wrote.") from error


def _follow(connection: Connection, row: RoleKey, entry: KeyEntry | None, number: int, now: int) -> None:
    if entry is None:
        if row.listed_in and not row.dropped_in:
            hierarchy.change_role_key(connection, row.kid, dropped_in=number)
        return
    values = {"not_before": entry.not_before, "not_after": entry.not_after, "dropped_in": 0}
    if not row.listed_in:
        values |= {"listed_in": number, "listed_at": now}
    hierarchy.change_role_key(connection, row.kid, **values)


def _entry(row: RoleKey) -> KeyEntry:
    return KeyEntry(
        kid=row.kid,
        role=row.role,
        site=row.site,
        public=row.public,
        not_before=row.not_before,
        not_after=row.not_after,
    )


def _changes(present: TrustDocument, drafted: TrustDocument) -> tuple[Effect, ...]:
    """Which keys come, end in a while, and are believed no more at once."""
    changed = key_changes(present, drafted)

    def named_keys(what: str, change: KeyChange) -> Effect:
        return named(what, (f"{each.role.value} {each.kid}" for kind, each in changed if kind is change))

    return (
        named("new keys of the roles", (each.role.value for kind, each in changed if kind is KeyChange.COMES)),
        named_keys("keys that end in a while", KeyChange.ENDS),
        named_keys("keys believed no more at once", KeyChange.GOES),
        counted("steps by which the epoch rises", drafted.epoch - present.epoch),
    )


def draft(
    present: TrustDocument,
    *,
    site: str,
    fresh: Sequence[KeyEntry],
    withdrawn: Sequence[str],
    raise_epoch: bool,
    now: int,
) -> TrustDocument:
    """The next trust document. Other sites' keys stay as they are.

    Args:
        fresh: keys to list from now on.
        withdrawn: ids of keys that are believed no more.
        raise_epoch: let nothing that was signed before be fresh.
    """
    rolled = {entry.role for entry in fresh}
    kept = []
    for entry in present.keys:
        if entry.kid in withdrawn or entry.not_after <= now:
            continue
        succeeded = entry.site == site and entry.role in rolled and entry.role is not Role.MANIFEST
        believed = ISSUER_WAIT + SERVER_DAYS * DAY if entry.role is Role.CA else OVERLAP
        ends = min(entry.not_after, now + believed) if succeeded else entry.not_after
        kept.append(msgspec.structs.replace(entry, not_after=ends))
    known = {entry.kid for entry in kept}
    return msgspec.structs.replace(
        present,
        number=present.number + 1,
        epoch=present.epoch + raise_epoch,
        issued=now,
        keys=(*kept, *(entry for entry in fresh if entry.kid not in known)),
    )
