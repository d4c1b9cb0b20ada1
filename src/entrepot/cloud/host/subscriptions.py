"""Subscriptions, their management certificates, and what those certificates opened: assertions seen, tokens given.

Only hashes of access tokens are kept. A token works as long as its certificate is neither revoked nor expired and its
subscription is active: each look-up asks the database, so that a revocation by another process bites at once.
"""

import hashlib
import secrets
import sqlite3
from typing import Final

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from entrepot.cloud.host.database import HostDatabase
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, UnauthenticatedError
from entrepot.core.ids import prefixed_id
from entrepot.core.times import iso
from entrepot.trust import inspection

ACTIVE: Final = "active"
DISABLED: Final = "disabled"
MOST: Final = 2**63 - 1
"""What the database can hold."""


class SubscriptionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant. ``state`` is active or disabled."""

    id: str
    name: str
    state: str
    storage_quota: int
    instance_quota: int
    created: int


class CertificateRow(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded management certificate. ``thumbprint``: SHA-256 in hexadecimal digits; ``revoked``: when, or None."""

    subscription: str
    thumbprint: str
    name: str
    not_after: int
    added: int
    revoked: int | None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who is behind an access token."""

    subscription: SubscriptionRow
    thumbprint: str
    certificate_expires: int


class Subscriptions:
    """Repository of subscriptions, certificates, assertions and access tokens."""

    def __init__(self, database: HostDatabase) -> None:
        self._database = database

    def add(self, name: str, *, storage_quota: int, instance_quota: int, now: float) -> SubscriptionRow:
        """Create a subscription.

        Raises:
            BadInputError: no proper name or quota.
            ConflictError: the name is taken.
        """
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise BadInputError("A subscription's name has 1 to 64 printable characters.")
        _check_quotas(storage_quota, instance_quota)
        row = SubscriptionRow(
            id=prefixed_id("sub", secrets.token_bytes(8)),
            name=name,
            state=ACTIVE,
            storage_quota=storage_quota,
            instance_quota=instance_quota,
            created=int(now),
        )
        try:
            with self._database.write() as connection:
                connection.execute("INSERT INTO subscription VALUES (?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(row))
        except sqlite3.IntegrityError:
            raise ConflictError(f"There is a subscription {name!r} already.") from None
        return row

    def all(self) -> list[SubscriptionRow]:
        """All subscriptions, by name."""
        return [_subscription(row) for row in self._database.read("SELECT * FROM subscription ORDER BY name")]

    def find(self, id_or_name: str) -> SubscriptionRow:
        """One subscription.

        Raises:
            NotFoundError: there is none.
        """
        rows = self._database.read("SELECT * FROM subscription WHERE id = ?1 OR name = ?1", id_or_name)
        if not rows:
            raise NotFoundError(f"There is no subscription {id_or_name!r}.")
        return _subscription(rows[0])

    def set_state(self, subscription: str, state: str) -> None:
        """Make it active or disabled; a disabled one serves nobody and keeps its content."""
        with self._database.write() as connection:
            connection.execute("UPDATE subscription SET state = ? WHERE id = ?", (state, subscription))

    def set_quotas(self, subscription: str, *, storage_quota: int | None, instance_quota: int | None) -> None:
        """Change a subscription's quotas; None leaves one as it is. Who asks next is judged by the new ones.

        A storage quota may be set below what is stored: then nothing more is let in. Instances that run cannot be
        refused afterwards, and would keep their service from being changed.

        Raises:
            NotFoundError: there is no such subscription.
            BadInputError: no proper quota.
            ConflictError: its services have more instances than that.
        """
        with self._database.write() as connection:
            held = connection.execute("SELECT * FROM subscription WHERE id = ?", (subscription,)).fetchone()
            if held is None:
                raise NotFoundError(f"There is no subscription {subscription!r}.")
            storage = held["storage_quota"] if storage_quota is None else storage_quota
            instances = held["instance_quota"] if instance_quota is None else instance_quota
            _check_quotas(storage, instances)
            (used,) = connection.execute(
                "SELECT coalesce(sum(instances), 0) FROM service WHERE subscription = ?", (subscription,)
            ).fetchone()
            if instance_quota is not None and used > instances:
                raise ConflictError(
                    f"The subscription's services have {used} instances already.",
                    next_step="Let its sites scale or delete cloud points first.",
                )
            connection.execute(
                "UPDATE subscription SET storage_quota = ?, instance_quota = ? WHERE id = ?",
                (storage, instances, subscription),
            )

    def instances(self) -> dict[str, int]:
        """How many instances the services of each subscription have, by its id; of one without services: nothing."""
        query = "SELECT subscription, sum(instances) AS used FROM service GROUP BY subscription"
        return {row["subscription"]: row["used"] for row in self._database.read(query)}

    def remove(self, subscription: str) -> None:
        """Remove a subscription with its certificates and tokens.

        Raises:
            ConflictError: it still has services.
        """
        try:
            with self._database.write() as connection:
                connection.execute("DELETE FROM assertion WHERE subscription = ?", (subscription,))
                connection.execute("DELETE FROM subscription WHERE id = ?", (subscription,))
        except sqlite3.IntegrityError:
            raise ConflictError(
                "The subscription still has services.", next_step="Delete its services first, at their sites."
            ) from None

    def upload_certificate(self, subscription: str, cer: bytes, *, now: float) -> CertificateRow:
        """Let a management certificate in. The same one again changes nothing, unless it was revoked.

        Raises:
            BadInputError: not a certificate, or expired.
            ConflictError: it was revoked.
        """
        certificate = inspection.load_cer(cer)
        inspection.check_validity(certificate, now)
        row = CertificateRow(
            subscription=subscription,
            thumbprint=inspection.thumbprint(certificate).hex(),
            name=inspection.certificate_name(certificate),
            not_after=inspection.expires(certificate),
            added=int(now),
            revoked=None,
        )
        der = certificate.public_bytes(Encoding.DER)
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING",
                (row.subscription, row.thumbprint, der, row.name, row.not_after, row.added),
            )
        held = next(one for one in self.certificates(subscription) if one.thumbprint == row.thumbprint)
        if held.revoked is not None:
            raise ConflictError("This certificate was revoked.", next_step="Make a new management certificate.")
        return held

    def certificates(self, subscription: str) -> list[CertificateRow]:
        """A subscription's certificates, the oldest first."""
        rows = self._database.read(
            "SELECT subscription, thumbprint, name, not_after, added, revoked FROM certificate WHERE subscription = ?"
            " ORDER BY added, thumbprint",
            subscription,
        )
        return [CertificateRow(**dict(row)) for row in rows]

    def certificate(self, subscription: str, thumbprint: str) -> CertificateRow:
        """One certificate; ``thumbprint`` may be shortened to 8 digits or more.

        Raises:
            NotFoundError: no certificate of the subscription begins so, or several do.
        """
        wanted = thumbprint.replace(":", "").lower()
        found = [one for one in self.certificates(subscription) if one.thumbprint.startswith(wanted)]
        if len(found) != 1 or len(wanted) < 8:
            raise NotFoundError(
                f"No single certificate of this subscription has the thumbprint {thumbprint[:64]!r}.",
                next_step="List the certificates and give at least 8 digits.",
            )
        return found[0]

    def revoke_certificate(self, subscription: str, thumbprint: str, *, now: float) -> CertificateRow:
        """Refuse a certificate from now on, and what it opened. ``thumbprint`` may be shortened to 8 digits or more.

        Raises:
            NotFoundError: no certificate of the subscription begins so, or several do.
        """
        found = self.certificate(subscription, thumbprint)
        key = (subscription, found.thumbprint)
        with self._database.write() as connection:
            connection.execute(
                "UPDATE certificate SET revoked = coalesce(revoked, ?) WHERE subscription = ? AND thumbprint = ?",
                (int(now), *key),
            )
            connection.execute("DELETE FROM access_token WHERE subscription = ? AND thumbprint = ?", key)
        return msgspec.structs.replace(found, revoked=found.revoked or int(now))

    def uploaded(self, subscription: str) -> list[bytes]:
        """DER of all certificates ever uploaded, revoked ones too: :meth:`check_not_revoked` names those."""
        rows = self._database.read("SELECT der FROM certificate WHERE subscription = ?", subscription)
        return [row["der"] for row in rows]

    def check_not_revoked(self, subscription: str, certificate: bytes) -> None:
        """Refuse a certificate whose holder has proven to be its holder, but that was revoked.

        Raises:
            UnauthenticatedError: it was.
        """
        wanted = hashlib.sha256(certificate).hexdigest()
        for row in self.certificates(subscription):
            if row.thumbprint == wanted and row.revoked is not None:
                raise UnauthenticatedError(
                    f"The management certificate {row.name} was revoked at {iso(row.revoked)}.",
                    next_step="Upload a new certificate to the subscription and import its .pfx at the site.",
                )

    def note_pin(self, caller: Caller, pin: str, *, now: float) -> None:
        """Note that the holder of a certificate has kept the host's next pin; since when, stays as it is."""
        with self._database.write() as connection:  # it may have been removed meanwhile
            connection.execute(
                "INSERT INTO knows_pin SELECT id, ?, ?, ? FROM subscription WHERE id = ? ON CONFLICT DO UPDATE"
                " SET pin = excluded.pin, since = excluded.since WHERE pin <> excluded.pin",
                (caller.thumbprint, pin, int(now), caller.subscription.id),
            )

    def knowing(self, pin: str) -> dict[tuple[str, str], int]:
        """Since when the holder of which certificate (subscription, thumbprint) is known to have kept a pin."""
        rows = self._database.read("SELECT * FROM knows_pin WHERE pin = ?", pin)
        return {(row["subscription"], row["thumbprint"]): row["since"] for row in rows}

    def use_assertion(self, subscription: str, jti: str, *, expires: int, now: float) -> None:
        """Remember an assertion's id until it has expired.

        Raises:
            UnauthenticatedError: it was used before.
        """
        try:
            with self._database.write() as connection:
                connection.execute("DELETE FROM assertion WHERE expires < ?", (int(now),))
                connection.execute(
                    "INSERT INTO assertion VALUES (?, ?, ?)",
                    (subscription, hashlib.sha256(jti.encode()).digest(), expires),
                )
        except sqlite3.IntegrityError:
            raise UnauthenticatedError(
                "The assertion is refused: it was used before.", next_step="Make a new assertion for each request."
            ) from None

    def give_token(self, subscription: str, certificate: bytes, *, expires: int, now: float) -> str:
        """Make an access token."""
        token = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            connection.execute("DELETE FROM access_token WHERE expires < ?", (int(now),))
            connection.execute(
                "INSERT INTO access_token VALUES (?, ?, ?, ?)",
                (_hash(token), subscription, hashlib.sha256(certificate).hexdigest(), expires),
            )
        return token

    def caller(self, token: str, *, now: float) -> Caller:
        """Who is behind a token.

        Raises:
            UnauthenticatedError: nobody, or not any more.
        """
        rows = self._database.read(
            "SELECT s.*, t.expires, c.thumbprint, c.not_after, c.revoked FROM access_token t"
            " JOIN certificate c USING (subscription, thumbprint) JOIN subscription s ON s.id = t.subscription"
            " WHERE t.hash = ?",
            _hash(token),
        )
        if not rows or rows[0]["expires"] <= now or rows[0]["revoked"] is not None:
            raise UnauthenticatedError("The access token is not valid.", next_step="Get a new one with an assertion.")
        if rows[0]["not_after"] <= now:
            raise UnauthenticatedError(
                f"The management certificate expired at {iso(rows[0]['not_after'])}.",
                next_step="Upload a new certificate to the subscription and import its .pfx at the site.",
            )
        return Caller(
            subscription=_subscription(rows[0]),
            thumbprint=rows[0]["thumbprint"],
            certificate_expires=rows[0]["not_after"],
        )


def _check_quotas(storage: int, instances: int) -> None:
    if not (1 <= storage <= MOST and 1 <= instances <= MOST):
        raise BadInputError("A subscription's quotas are at least 1, and less than 2^63.")


def _subscription(row: sqlite3.Row) -> SubscriptionRow:
    return SubscriptionRow(**{name: row[name] for name in SubscriptionRow.__struct_fields__})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
