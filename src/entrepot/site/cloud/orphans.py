"""Services in a cloud that carry this hierarchy's mark and that its database does not know (R40).

They are what a lost database, a restored backup or a deletion by hand leaves behind, and go on costing. A service of
another hierarchy, in a subscription that is shared, is never listed and never touched.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import ConflictError, EntrepotError, NotFoundError, UnavailableError
from entrepot.database import clouddetails, tasks
from entrepot.database.cloud import certificate, get_cloud_point
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.cloudapi import CloudAccount, Orphan, OrphanRequest
from entrepot.protocol.cloudhost import ServiceStatus
from entrepot.site.acting import behalf
from entrepot.site.cloud.providers import Providers
from entrepot.site.reporting import Reporter

REMOVE: Final = "cloud-remove-orphan"


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a removal: no secret is in it, so an Azure registry's password is left out."""

    service: str
    point: str
    account: CloudAccount


class Orphans:
    """Lists and removes orphans; also the task handler of removals."""

    def __init__(self, database: Database, providers: Providers, *, site: str, mark: bytes) -> None:
        self._database = database
        self._providers = providers
        self._site = site
        self._mark = mark

    async def search(self, account: CloudAccount | None) -> list[Orphan]:
        """Orphans in a subscription; without one, in all that this site's cloud points use.

        Raises:
            ConflictError: no cloud point uses any: nothing would be looked at, as after a restore of an old backup.
            EntrepotError: a cloud does not answer: an incomplete list would be misleading.
        """
        if account is not None:
            return await self._in(account)
        found: list[Orphan] = []
        accounts = await self._database.read(clouddetails.accounts, site=self._site)
        if not accounts:
            raise ConflictError(
                "No cloud point of this site uses a subscription: there is none to look for orphans in.",
                next_step="Name one: --host, --host-pin, --subscription and --certificate; in Azure --azure-tenant, "
                "--azure-application, --subscription and --certificate.",
            )
        for point_id in accounts:
            point = await self._database.read(get_cloud_point, point_id)
            found += await self._in(await self._providers.account_of(point))
        return found

    async def _in(self, account: CloudAccount) -> list[Orphan]:
        provider = await self._providers.of_account(account)
        statuses = await provider.services()
        known = await self._database.read(clouddetails.known_points)  # after the cloud was asked: none slips between
        return [
            Orphan(
                service=status.name,
                point=status.point,
                fqdn=status.fqdn,
                state=status.state.value,
                stored_bytes=status.stored_bytes,
                account=_account_at(account, status.place),
                parts=status.parts,
            )
            for status in statuses
            if status.root == self._mark and status.point not in known
        ]

    async def one(self, account: CloudAccount, service: str, point: str = "") -> Orphan:
        """An orphan by its service's name.

        Raises:
            NotFoundError: there is none, or it is no orphan.
        """
        for orphan in await self._in(account):
            if orphan.service == service and point in ("", orphan.point):
                return orphan
        raise NotFoundError(
            f"There is no orphan {service!r} in the subscription {account.subscription}.",
            next_step="List them: entrepot cloud orphans",
        )

    async def order(self, request: OrphanRequest, now: float) -> Task:
        """Start the removal of an orphan.

        Raises:
            NotFoundError: it is not there, or is no orphan.
            ConflictError: it is being removed already.
        """
        orphan = await self.one(request.account, request.service, request.point)
        removal = Removal(service=orphan.service, point=orphan.point, account=orphan.account)
        return await self._database.write(self._add, removal, now)

    def _add(self, connection: Connection, removal: Removal, now: float) -> Task:
        kept = certificate(connection, removal.account.management_certificate)
        account = msgspec.structs.replace(removal.account, management_certificate=kept.id)
        return tasks.create(
            connection,
            site=self._site,
            kind=REMOVE,
            subject=removal.point,
            title=f"Remove the orphaned service {removal.service}",
            now=now,
            payload=msgspec.structs.replace(removal, account=account),
            by=behalf(),
        )

    async def run(self, task: Task, report: Reporter) -> None:
        """Remove it and all that it stores, and check that nothing is left (``site.tasks.TaskHandler``)."""
        removal = task.payload_as(Removal)
        report.step("Looking whether it still is an orphan")
        provider = await self._providers.of_account(removal.account)
        try:
            status = await provider.status(removal.service)
        except NotFoundError:
            status = None
        await self._check_still(removal, status)
        report.step("Deleting content, records and deployment")
        left = (await provider.delete(removal.service, report.step)).left
        if left:
            raise UnavailableError(f"This remains in the cloud: {', '.join(left)}.", next_step="It is tried again.")
        report.message(f"The service {removal.service} is deleted; nothing is left in the cloud.")

    async def _check_still(self, removal: Removal, status: ServiceStatus | None) -> None:
        """Nobody has taken the service over, nor its name: a new service may be half made, and not be seen yet."""
        known = await self._database.read(clouddetails.known_points)
        named = await self._database.read(clouddetails.points_of_service, removal.account.subscription, removal.service)
        there = status is None or (status.point == removal.point and status.root == self._mark)
        if not there or removal.point in known or named:
            raise EntrepotError(
                f"The service {removal.service} is no orphan any more: it was adopted or created anew.",
                next_step="Nothing was removed.",
            )


def _account_at(account: CloudAccount, place: str) -> CloudAccount:
    """The account as it reaches that very service, without a secret: Azure's services lie in resource groups."""
    if account.azure is None:
        return account
    azure = msgspec.structs.replace(account.azure, registry_password="", resource_group=place)
    return msgspec.structs.replace(account, azure=azure)
