"""What the durable tasks of a cloud point do: create, stop, start, scale, update, renew, delete, forget.

Rules:

- Every step looks at what is there and can be run again; so a task may be killed anywhere and is then run from its
  beginning.
- The last task asked for is in charge (``cloud_point.task``). An older one notices at its next step and gives up
  without touching anything more: a stop never waits for a slow start.
- Calls that change the cloud are made under a lock, one at a time for each point, after looking who is in charge.
- A creation that fails removes what it made. When that fails too, the row stays, and says what remains.
"""

import contextlib
from typing import Final

import structlog

from entrepot.core.errors import CancelledError, EntrepotError, NotFoundError, UnavailableError
from entrepot.core.times import iso
from entrepot.database import clouddetails
from entrepot.database.cloud import CloudPoint
from entrepot.database.tasks import Task
from entrepot.protocol.cloudhost import RunState, ServiceSpec
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.control import Delivery, ServiceState
from entrepot.site.cloud import delivery, standing
from entrepot.site.cloud.charge import Charge
from entrepot.site.cloud.checks import (
    Owner,
    check_certificate,
    check_free,
    check_point,
    check_quota,
    owner_of,
    port_remarks,
)
from entrepot.site.cloud.forgetting import last_try, search_later
from entrepot.site.cloud.options import image_remarks
from entrepot.site.cloud.planning import still_charged
from entrepot.site.cloud.proofs import records_left
from entrepot.site.cloud.states import HALF_MADE, CloudAction
from entrepot.site.cloudport import CloudProvider, Progress
from entrepot.site.reporting import Reporter
from entrepot.trust.certificaterules import chain_remarks
from entrepot.trust.pem import load_chain

COLLECT_ATTEMPTS: Final = 4
"""A deletion tries so often to stop the service, and to bring in the last transactions, before it goes on without."""

log = structlog.get_logger("site.cloud.lifecycle")


class LifeCycle(Charge):
    """Does the tasks of all cloud points of a site."""

    async def run(self, action: CloudAction, task: Task, report: Reporter) -> None:
        """Do an action, or what is left of it.

        Raises:
            CancelledError: stopped, or a later task took over.
            EntrepotError: it did not work; see :meth:`clean_up` for creations.
        """
        steps = {
            CloudAction.CREATE: self._create,
            CloudAction.STOP: self._stop,
            CloudAction.START: self._start,
            CloudAction.SCALE: self._scale,
            CloudAction.DELETE: self._delete,
            CloudAction.UPDATE: self._update,
            CloudAction.RENEW: self._update,
            CloudAction.FORGET: self._forget,
        }
        await steps[action](task, report)

    # -- create ------------------------------------------------------------------------------------------------------

    async def _create(self, task: Task, report: Reporter) -> None:
        report.step("Checking the subscription and the certificates")
        point = await self.in_charge(task)
        provider = await self._providers.of(point)
        subscription = await provider.check()
        check_point(subscription, point, self._clock())
        delivery.check_store(point.delivery, redirects=subscription.redirects)
        report.step("Reserving the name")
        await check_free(provider, point, self._root)
        report.step("Creating the cloud service")
        async with self._lock(point.point):
            await self.note(task, begun=True)
            status = await provider.create(point.service, self._spec(point), report.step)
        await self._saw(task, report, status)
        report.step("Writing the trust and control documents")
        counter = await self._publish(task)
        await self._wait(task, report, provider, counter)
        state = CloudPointState.DEGRADED if status.notes else CloudPointState.READY
        notes = " ".join(status.notes)
        point = await self.note(task, state=state, message=notes)
        told = " ".join((notes, await self._remarks(point))).strip()
        report.message(f"The cloud point {point.name} is ready at {point.url}. {told}".strip())

    async def _remarks(self, point: CloudPoint) -> str:
        azure = (await self._database.read(clouddetails.detail, point.point)).azure
        chain = load_chain(point.certificate)
        return " ".join((*port_remarks(point), *image_remarks(azure), *chain_remarks(chain, self._clock())))

    def _spec(self, point: CloudPoint) -> ServiceSpec:
        return ServiceSpec(
            point=point.point,
            fqdn=point.fqdn,
            root=self._root,
            certificate=point.certificate,
            private_key=self._providers.open_service_key(point).reveal_text(),
            instances=point.instances_wanted,
            port=point.port,
        )

    async def clean_up(self, task: Task, error: EntrepotError, report: Reporter) -> EntrepotError:
        """Remove what a failed or cancelled creation made; the error to report.

        Raises:
            CancelledError: this process ends, or lost the task: the next one goes on.
        """

        def progress(text: str) -> None:
            # The work was cancelled; the cleaning up was not.
            with contextlib.suppress(CancelledError):
                report.step(f"Cleaning up: {text}")
            if report.stop_reason in ("shutdown", "lost"):
                raise CancelledError("The work was stopped.")

        try:
            point = await self.in_charge(task)
        except (CancelledError, NotFoundError):
            return error
        try:
            left = await self._remove(task, point, progress)
        except EntrepotError as problem:
            if report.stop_reason in ("shutdown", "lost"):
                raise CancelledError("The work was stopped.") from problem
            left = (f"perhaps the service {point.service}, which could not be checked ({problem.message.rstrip('.')})",)
        if left:
            remains = f"This remains in the cloud: {', '.join(left)}."
            message = f"{error.message} {remains}"
            await self.note(task, state=CloudPointState.FAILED, message=message, behind=HALF_MADE)
            return standing.knowing(error, f"{remains} Delete the cloud point to remove it.")
        told = standing.knowing(error, "Nothing was left in the cloud, and the name is free again.")
        await self._database.write(standing.forget_failed, task, int(self._clock()), str(told))
        return told

    async def _remove(self, task: Task, point: CloudPoint, progress: Progress) -> tuple[str, ...]:
        """Delete the service unless it is another's, also when it is half gone; what is left of it."""
        if not point.begun:
            return ()
        provider = await self._providers.of(point)
        async with self._lock(point.point):
            await self.in_charge(task)
            if await owner_of(provider, point) is Owner.ANOTHER:
                return ()
            left = (await provider.delete(point.service, progress)).left
            remains = await owner_of(provider, point) is Owner.OURS
            return left or ((f"service {point.service}",) if remains else ())

    # -- stop, start, scale ------------------------------------------------------------------------------------------

    async def _stop(self, task: Task, report: Reporter) -> None:
        report.step("Cutting clients off")
        point = await self.in_charge(task)
        provider = await self._providers.of(point)
        refused: EntrepotError | None = None
        try:
            await self._publish(task)
        except CancelledError:
            raise
        except EntrepotError as error:
            refused = error  # whatever keeps the store from taking it, the cloud itself may still take the order
        report.step("Stopping the instances")
        async with self._lock(point.point):
            await self.in_charge(task)
            status = await provider.stop(point.service, report.step)
        if refused is not None:
            raise refused
        await self.note(task, state=CloudPointState.STOPPED, instances=status.instances, message="")
        late = f" {delivery.LAG}" if point.delivery is Delivery.REDIRECT else ""
        report.message(f"{point.name} is stopped.{late} {await still_charged(provider, point)}")

    async def _start(self, task: Task, report: Reporter) -> None:
        report.step("Writing the control document")
        counter = await self._publish(task)
        point = await self.in_charge(task)
        provider = await self._providers.of(point)
        report.step("Starting the instances")
        async with self._lock(point.point):
            await self.in_charge(task)
            status = await provider.start(point.service, report.step)
            if status.wanted != point.instances_wanted:  # a scaling gave way to a stop
                await provider.scale(point.service, point.instances_wanted, report.step)
        await self._wait(task, report, provider, counter)
        # an update or a renewal gave way to a stop, or a creation was never finished
        if point.behind or not point.ready:
            await self.note(task, state=CloudPointState.UPGRADING)  # the service runs: clients are sent to it meanwhile
            return await self._update(task, report)
        await self.note(task, state=CloudPointState.READY, message="")
        report.message(f"{point.name} serves clients again.")
        return None

    async def _scale(self, task: Task, report: Reporter) -> None:
        point = await self.in_charge(task)
        if point.state is not CloudPointState.SCALING and task.error:
            raise EntrepotError(task.error)  # taken back, and killed before it was told
        provider = await self._providers.of(point)
        report.step("Checking the quota")
        check_quota(await provider.check(), point.instances_wanted)
        report.step("Scaling", total=point.instances_wanted, unit="instances")
        async with self._lock(point.point):
            await self.in_charge(task)
            status = await provider.scale(point.service, point.instances_wanted, report.step)
        if point.wanted is ServiceState.STOPPED:
            await self.end(task, state=CloudPointState.STOPPED, instances=status.instances, message="")
            report.message(f"{point.name} will start with {point.instances_wanted} instances.")
            return
        await self._wait(task, report, provider, 0)
        await self.end(task, state=CloudPointState.READY, message="")
        report.message(f"{point.name} runs {point.instances_wanted} instances.")

    async def instances_had(self, task: Task) -> int:
        """So many instances the cloud has been told to run.

        Raises:
            CancelledError: a later task took over.
            EntrepotError: the cloud does not answer.
        """
        point = await self.in_charge(task)
        return (await (await self._providers.of(point)).status(point.service)).wanted

    # -- update, renew ---------------------------------------------------------------------------------------------

    async def _update(self, task: Task, report: Reporter) -> None:
        """Bring the service to what the database says, its certificate first of all. Running downloads go on."""
        report.step("Checking the subscription and the certificates")
        point = await self.in_charge(task)
        provider = await self._providers.of(point)
        check_point(await provider.check(), point, self._clock())
        if await owner_of(provider, point) is not Owner.OURS:
            raise NotFoundError(
                f"The cloud has no service {point.service} of {point.name}.", next_step="Delete the cloud point."
            )
        report.step("Bringing the service to what is wanted")
        async with self._lock(point.point):
            await self.in_charge(task)
            status = await provider.create(point.service, self._spec(point), report.step)
            if point.wanted is ServiceState.RUNNING and status.state is RunState.STOPPED:
                await self.in_charge(task)  # a stop that was ordered meanwhile stays a stop
                report.step("Starting the instances")
                await provider.start(point.service, report.step)
        await self._saw(task, report, status)
        delivery.check_store(point.delivery, redirects=status.redirects)
        check_certificate(status, point)
        counter = await self._publish(task)
        if point.wanted is ServiceState.STOPPED:
            await self.note(task, state=CloudPointState.STOPPED, instances=status.instances, message="", behind="")
        else:
            await self._wait(task, report, provider, counter)
            state = CloudPointState.DEGRADED if status.notes else CloudPointState.READY
            await self.note(task, state=state, message=" ".join(status.notes), behind="")
        until = iso(point.certificate_expires)
        told = " ".join((*status.notes, await self._remarks(point)))
        report.message(f"{point.name} is as wanted; its service certificate is valid until {until}. {told}".strip())

    # -- delete ------------------------------------------------------------------------------------------------------

    async def _delete(self, task: Task, report: Reporter) -> None:
        point, lost = await self.in_charge(task), ""
        report.step("Cutting clients off")
        if point.begun:
            provider = await self._providers.of(point)
            if await owner_of(provider, point) is Owner.OURS:
                await self._quiesce(task, report, provider, point)
                report.step("Bringing in the last transactions")
                lost = await self._collect_last(task, point)
        report.step("Deleting content, records and deployment")
        left = await self._remove(task, point, report.step)
        if left:
            remains = f"This remains in the cloud: {', '.join(left)}."
            await self.note(task, message=remains)
            raise UnavailableError(remains, next_step="It is tried again; then remove what remains at the cloud.")
        report.step("Forgetting the cloud point")
        await self._database.write(standing.forget, task, int(self._clock()))
        records = records_left(point.fqdn, point.provider)
        report.message(f"{point.name} is deleted; nothing is left in the cloud. {records} {lost}".strip())

    async def _forget(self, task: Task, report: Reporter) -> None:
        """Forget a point whose deletion failed: what may be left is told, its figures are kept."""
        point = await self.in_charge(task)
        report.step("Trying the deletion once more")
        later = await self._database.read(search_later, point)
        told = await last_try(self._remove(task, point, report.step), point, later)
        report.step("Forgetting the cloud point")
        await self._database.write(standing.forget, task, int(self._clock()))
        report.message(
            f"{point.name} is forgotten; its figures are kept. {told} {records_left(point.fqdn, point.provider)} "
            "Transactions that were not collected are missing from its figures."
        )

    async def _quiesce(self, task: Task, report: Reporter, provider: CloudProvider, point: CloudPoint) -> None:
        """No new transactions from here on. What is half gone, or cannot be stopped any more, is no obstacle."""
        try:
            await self._publish(task)
        except CancelledError:
            raise
        except EntrepotError as error:
            log.info("control_not_taken_before_deletion", point=point.point, error=str(error))
        async with self._lock(point.point):
            await self.in_charge(task)
            try:
                await provider.stop(point.service, report.step)
            except CancelledError:
                raise
            except EntrepotError as error:
                if error.retryable and task.attempts < COLLECT_ATTEMPTS:
                    raise
                log.info("not_stopped_before_deletion", point=point.point, error=str(error))

    async def _collect_last(self, task: Task, point: CloudPoint) -> str:
        """Count what was not counted yet; what to tell if that cannot be done."""
        try:
            await self._collector.run_once(point, await self._providers.store_of(point))
        except NotFoundError:
            return ""
        except EntrepotError as error:
            if task.attempts < COLLECT_ATTEMPTS:
                raise UnavailableError(
                    f"The last transactions of {point.name} could not be brought in: {error.message}"
                ) from error
            log.warning("last_transactions_lost", point=point.point, error=str(error))
            return "Its last transactions could not be brought in: they are missing from its figures."
        return ""
