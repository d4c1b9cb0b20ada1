"""What the administrator's orders to a host would do, told before they are given (``entrepot host … --dry-run``)."""

from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.subscriptions import DISABLED, SubscriptionRow, Subscriptions
from entrepot.core.times import Clock
from entrepot.protocol.removalapi import Effect, Removal, counted, named, refused_or_not


class Foresight:
    """Looks, and gives the order in a database where everything is undone.

    Args:
        database: a rehearsal.
    """

    def __init__(self, database: HostDatabase, *, clock: Clock) -> None:
        self._database = database
        self._subscriptions = Subscriptions(database)
        self._clock = clock

    def removal(self, id_or_name: str) -> Removal:
        """Of a subscription.

        Raises:
            NotFoundError: there is none.
        """
        row = self._subscriptions.find(id_or_name)
        names = (f"{one.name} ({one.thumbprint})" for one in self._subscriptions.certificates(row.id))
        found = self._of(row, named("certificates that are removed", names))
        return refused_or_not(found, lambda: self._subscriptions.remove(row.id))

    def disabling(self, id_or_name: str) -> Removal:
        """Of a subscription.

        Raises:
            NotFoundError: there is none.
        """
        row = self._subscriptions.find(id_or_name)
        return refused_or_not(self._of(row), lambda: self._subscriptions.set_state(row.id, DISABLED))

    def revocation(self, id_or_name: str, thumbprint: str) -> Removal:
        """Of a certificate.

        Raises:
            NotFoundError: no such subscription or certificate.
        """
        row = self._subscriptions.find(id_or_name)
        one = self._subscriptions.certificate(row.id, thumbprint)
        others = [each for each in self._subscriptions.certificates(row.id) if each.thumbprint != one.thumbprint]
        removal = Removal(
            what="management certificate, revoked already" if one.revoked else "management certificate",
            id=one.thumbprint,
            name=one.name,
            effects=(
                counted("access tokens that it opened, and that end", self._tokens(row.id, one.thumbprint)),
                named("other certificates that stay let in", (each.name for each in others if not each.revoked)),
            ),
        )
        return refused_or_not(
            removal,
            lambda: self._subscriptions.revoke_certificate(row.id, one.thumbprint, now=self._clock()),
        )

    def _of(self, row: SubscriptionRow, *more: Effect) -> Removal:
        services = self._database.read("SELECT name, instances FROM service WHERE subscription = ?", row.id)
        return Removal(
            what=f"subscription, {row.state}",
            id=row.id,
            name=row.name,
            effects=(
                named("services whose clients are cut off", (each["name"] for each in services)),
                counted("instances of them that end", sum(each["instances"] for each in services)),
                *more,
            ),
        )

    def _tokens(self, subscription: str, thumbprint: str) -> int:
        query = "SELECT count(*) AS many FROM access_token WHERE subscription = ? AND thumbprint = ? AND expires > ?"
        return int(self._database.read(query, subscription, thumbprint, int(self._clock()))[0]["many"])
