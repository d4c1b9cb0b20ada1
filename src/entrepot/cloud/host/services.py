"""What services are wanted: durable, and the only thing that the supervisor follows.

The private key of a service certificate is sealed by the host's vault under the service's id before it is stored.
``revision`` grows when something changes that running instances cannot learn: they are replaced one after the other.
"""

import secrets
import sqlite3
from enum import StrEnum
from typing import Final

import msgspec

from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.subscriptions import ACTIVE
from entrepot.core.encoding import to_json
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, QuotaError
from entrepot.core.ids import prefixed_id
from entrepot.core.secret import Secret
from entrepot.objects.settings import StoreKind, StoreSettings
from entrepot.protocol.cloudhost import ServiceSpec
from entrepot.trust.vault import ServerVault

MAX_INSTANCES: Final = 64


class Wanted(StrEnum):
    """What the subscription's owner wants of a service."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETING = "deleting"


class ServiceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One service. ``private_key`` is sealed; ``serving`` is false for services of disabled subscriptions.

    ``store`` says where its content lies: :class:`StoreSettings` as JSON with its own prefix; empty: in its folder.
    """

    id: str
    subscription: str
    name: str
    point: str
    fqdn: str
    root: bytes
    certificate: str
    private_key: bytes
    certificate_expires: int
    instances: int
    state: Wanted
    port: int
    revision: int
    created: int
    store: str = ""
    serving: bool = True

    def __repr__(self) -> str:
        return f"ServiceRow({self.id}, {self.name}, {self.state}, {self.instances} instances)"

    @property
    def wanted_instances(self) -> int:
        """How many instances shall run now."""
        return self.instances if self.state is Wanted.RUNNING and self.serving else 0


_FROM: Final = "FROM service v JOIN subscription s ON s.id = v.subscription"
_COLUMNS: Final = tuple(name for name in ServiceRow.__struct_fields__ if name != "serving")


def all_services(database: HostDatabase) -> list[ServiceRow]:
    """All services, by name. Nothing is opened that is sealed: whoever only looks needs no vault."""
    return _read(database, "ORDER BY v.name, v.id")


def _read(database: HostDatabase, which: str, *values: str) -> list[ServiceRow]:
    query = f"SELECT v.*, s.state = ? AS serving {_FROM} {which}"
    return [_service(row) for row in database.read(query, ACTIVE, *values)]


class Services:
    """Repository of services.

    Args:
        store: where new services keep their content.
    """

    def __init__(self, database: HostDatabase, vault: ServerVault, store: StoreSettings | None = None) -> None:
        self._database = database
        self._vault = vault
        self._store = store or StoreSettings()

    def all(self, subscription: str | None = None) -> list[ServiceRow]:
        """All services, or those of one subscription, by name."""
        if subscription is None:
            return all_services(self._database)
        return self._read("WHERE v.subscription = ? ORDER BY v.name, v.id", subscription)

    def _read(self, which: str, *values: str) -> list[ServiceRow]:
        return _read(self._database, which, *values)

    def find(self, subscription: str, name: str) -> ServiceRow:
        """One service.

        Raises:
            NotFoundError: there is none.
        """
        found = self._read("WHERE v.subscription = ? AND v.name = ?", subscription, name)
        if not found:
            raise NotFoundError(f"There is no service {name!r} in this subscription.")
        return found[0]

    def get(self, service: str) -> ServiceRow | None:
        """One service by its id, or None."""
        return next(iter(self._read("WHERE v.id = ?", service)), None)

    def takes_port(self, subscription: str, name: str, port: int) -> bool:
        """Whether this port would be taken for this service: a new one may ask for one, others keep theirs.

        Raises:
            ConflictError: another service has it.
        """
        rows = self.all() if port else []
        if not port or any((row.subscription, row.name) == (subscription, name) for row in rows):
            return False
        if any(row.port == port for row in rows):
            raise _port_taken(port)
        return True

    def put(self, subscription: str, name: str, spec: ServiceSpec, *, expires: int, now: float) -> ServiceRow:
        """Create a service, stopped or running as it was, or change it. The same specification changes nothing.

        Args:
            expires: of the service certificate.

        Raises:
            ConflictError: it is being deleted, or belongs to another point; or it is new, and its port is another's.
            QuotaError: the quota does not allow so many instances.
        """
        with self._database.write() as connection:
            self._check_quota(connection, subscription, name, spec.instances)
            held = self._held(connection, subscription, name)
            if held is None:
                held = self._insert(connection, subscription, name, spec, expires=expires, now=now)
            elif held.state is Wanted.DELETING:
                raise ConflictError(f"The service {name!r} is being deleted.", next_step="Try again when it is gone.")
            elif held.point != spec.point or held.root != spec.root:
                raise ConflictError(
                    f"The service {name!r} belongs to another distribution point.", next_step="Choose another name."
                )
            elif self._differs(held, spec):
                connection.execute(
                    "UPDATE service SET fqdn = ?, certificate = ?, private_key = ?, certificate_expires = ?,"
                    " revision = revision + 1 WHERE id = ?",
                    (spec.fqdn, spec.certificate, self._seal(held.id, spec), expires, held.id),
                )
            connection.execute("UPDATE service SET instances = ? WHERE id = ?", (spec.instances, held.id))
        return self.find(subscription, name)

    def scale(self, subscription: str, name: str, instances: int) -> ServiceRow:
        """Change the number of instances.

        Raises:
            NotFoundError: there is no such service.
            ConflictError: it is being deleted.
            QuotaError: the quota does not allow so many instances.
        """
        self._changeable(subscription, name)
        with self._database.write() as connection:
            self._check_quota(connection, subscription, name, instances)
            connection.execute(
                "UPDATE service SET instances = ? WHERE subscription = ? AND name = ?", (instances, subscription, name)
            )
        return self.find(subscription, name)

    def set_state(self, subscription: str, name: str, state: Wanted) -> ServiceRow:
        """Run it, stop it, or delete it (which is never taken back).

        Raises:
            NotFoundError: there is no such service.
            ConflictError: it is being deleted.
        """
        if state is not Wanted.DELETING:
            self._changeable(subscription, name)
        with self._database.write() as connection:
            connection.execute(
                "UPDATE service SET state = ? WHERE subscription = ? AND name = ? AND state != ?",
                (state, subscription, name, Wanted.DELETING),
            )
        return self.find(subscription, name)

    def ports(self) -> frozenset[int]:
        """Ports that services have or asked for, also those at which nobody listens now."""
        return frozenset(row.port for row in self.all() if row.port)

    def set_port(self, service: str, port: int) -> None:
        """Remember the port that a service listens on: it keeps it for ever, since DNS and firewalls know it.

        Raises:
            ConflictError: another service got it meanwhile.
        """
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM service WHERE port = ? AND id != ?", (port, service)).fetchone():
                raise _port_taken(port)
            connection.execute("UPDATE service SET port = ? WHERE id = ?", (port, service))

    def remove(self, service: str) -> None:
        """Forget a service whose parts are all gone, its sealed key too."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM service WHERE id = ? AND state = ?", (service, Wanted.DELETING))
        self._database.forget()

    def private_key(self, row: ServiceRow) -> Secret:
        """PEM of a service certificate's private key.

        Raises:
            IntegrityError: it was sealed on another host.
        """
        return self._vault.open(row.id, row.private_key)

    def _insert(
        self,
        connection: sqlite3.Connection,
        subscription: str,
        name: str,
        spec: ServiceSpec,
        *,
        expires: int,
        now: float,
    ) -> ServiceRow:
        if spec.port and connection.execute("SELECT 1 FROM service WHERE port = ?", (spec.port,)).fetchone():
            raise _port_taken(spec.port)  # also that of a stopped one, at whose port nobody listens
        service = prefixed_id("svc", secrets.token_bytes(8))
        row = ServiceRow(
            id=service,
            subscription=subscription,
            name=name,
            point=spec.point,
            fqdn=spec.fqdn,
            root=spec.root,
            certificate=spec.certificate,
            private_key=self._seal(service, spec),
            certificate_expires=expires,
            instances=spec.instances,
            state=Wanted.RUNNING,
            port=spec.port,
            revision=1,
            created=int(now),
            store=self._place(service),
        )
        values = tuple(getattr(row, name) for name in _COLUMNS)
        marks = ", ".join("?" for _ in _COLUMNS)
        connection.execute(f"INSERT INTO service ({', '.join(_COLUMNS)}) VALUES ({marks})", values)  # noqa: S608  # names of ours
        return row

    def _place(self, service: str) -> str:
        if self._store.kind is StoreKind.FOLDER:
            return ""
        prefix = "/".join(filter(None, (self._store.prefix, service)))
        return to_json(msgspec.structs.replace(self._store, prefix=prefix)).decode()

    def _held(self, connection: sqlite3.Connection, subscription: str, name: str) -> ServiceRow | None:
        found = connection.execute(
            "SELECT *, 1 AS serving FROM service WHERE subscription = ? AND name = ?", (subscription, name)
        ).fetchone()
        return _service(found) if found else None

    def _differs(self, held: ServiceRow, spec: ServiceSpec) -> bool:
        same_key = self.private_key(held).reveal() == spec.private_key.encode()
        return not same_key or (held.fqdn, held.certificate) != (spec.fqdn, spec.certificate)

    def _seal(self, service: str, spec: ServiceSpec) -> bytes:
        return self._vault.seal(service, Secret(spec.private_key))

    def _changeable(self, subscription: str, name: str) -> None:
        if self.find(subscription, name).state is Wanted.DELETING:
            raise ConflictError(f"The service {name!r} is being deleted.")

    @staticmethod
    def _check_quota(connection: sqlite3.Connection, subscription: str, name: str, instances: int) -> None:
        """The quota as it is in this transaction: it may have been lowered since the request was let in."""
        if not 1 <= instances <= MAX_INSTANCES:
            raise BadInputError(f"A service has 1 to {MAX_INSTANCES} instances.")
        held = connection.execute("SELECT instance_quota FROM subscription WHERE id = ?", (subscription,)).fetchone()
        if held is None:
            raise NotFoundError("There is no such subscription.")
        (others,) = connection.execute(
            "SELECT coalesce(sum(instances), 0) FROM service WHERE subscription = ? AND name != ?",
            (subscription, name),
        ).fetchone()
        quota = held["instance_quota"]
        if others + instances > quota:
            raise QuotaError(
                f"The subscription may run {quota} instances; its other services have {others}.",
                next_step="Ask for fewer instances, or let the cloud host's administrator raise the quota:"
                " entrepot host subscription set NAME --instances N.",
            )


def _port_taken(port: int) -> ConflictError:
    return ConflictError(
        f"The port {port} is that of another service of this cloud host.",
        next_step="Choose another one, or leave the choice to the host (port 0).",
    )


def _service(row: sqlite3.Row) -> ServiceRow:
    values = {name: row[name] for name in _COLUMNS}
    return ServiceRow(**values | {"state": Wanted(row["state"]), "serving": bool(row["serving"])})
