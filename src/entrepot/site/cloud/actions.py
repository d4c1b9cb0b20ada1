"""The actions of a cloud point as tasks: who runs them, and what a failure leaves behind."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from entrepot.core.errors import CancelledError, EntrepotError, NotFoundError, QuotaError
from entrepot.core.times import MINUTE
from entrepot.database.tasks import Task
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.site.cloud.forgetting import way_out
from entrepot.site.cloud.lifecycle import LifeCycle
from entrepot.site.cloud.standing import knowing
from entrepot.site.cloud.states import BRINGS_ALL, GOING, CloudAction
from entrepot.site.reporting import Reporter
from entrepot.site.tasks import ALWAYS, TaskEngine

MAX_ATTEMPTS: Final = 8
STOP_DELAY: Final = MINUTE
"""What is to be stopped costs money: it is tried again each minute."""

_STILL: Final = "The service is to be stopped all the same: each look at its health tries that."

log = structlog.get_logger("site.cloud.actions")


def register_actions(engine: TaskEngine, cycle: LifeCycle, settled: Callable[[str], Awaitable[None]]) -> None:
    """Tell the task engine who does the tasks of cloud points. All may wait for a cloud for a long time; a stop is
    begun at once, however many others wait, and is tried again until the cloud has taken it."""
    for action in CloudAction:
        handler = ActionHandler(cycle, action, settled)
        if action is CloudAction.STOP:
            engine.register(action.value, handler, max_attempts=ALWAYS, longest_delay=STOP_DELAY, urgent=True)
        else:
            engine.register(action.value, handler, max_attempts=MAX_ATTEMPTS, waits=True)


class ActionHandler:
    """One action as the task engine wants it (``site.tasks.TaskHandler``).

    Args:
        settled: told about a point whose task ended well: its health is looked at, its thresholds are evaluated.
    """

    def __init__(self, cycle: LifeCycle, action: CloudAction, settled: Callable[[str], Awaitable[None]]) -> None:
        self._cycle = cycle
        self._action = action
        self._settled = settled
        self._max_attempts = ALWAYS if action is CloudAction.STOP else MAX_ATTEMPTS

    async def run(self, task: Task, report: Reporter) -> None:
        """Do it, or what is left of it."""
        try:
            await self._cycle.run(self._action, task, report)
        except NotFoundError as error:
            if await self._gone(task):
                if self._action in GOING:
                    return  # deleted before the last interruption
                if self._action is CloudAction.CREATE and task.error:
                    raise EntrepotError(task.error) from error  # cleaned up, and killed before it was told
            raise await self._failed(task, report, error) from error
        except EntrepotError as error:
            raise await self._failed(task, report, error) from error
        if self._action not in GOING:
            await self._settle(task)

    async def abandoned(self, task: Task, report: Reporter, error: EntrepotError) -> EntrepotError:
        """It ends without another run: cancelled while it waited, or given up. What to report (``TaskHandler``)."""
        return await self._failed(task, report, error)

    async def _settle(self, task: Task) -> None:
        try:
            await self._settled(task.subject)
        except EntrepotError as error:  # the action itself worked; the periodic check looks again
            log.warning("point_not_checked", point=task.subject, error=str(error))

    async def _gone(self, task: Task) -> bool:
        try:
            await self._cycle.in_charge(task)
        except NotFoundError:
            return True
        except CancelledError:
            return False
        return False

    async def _failed(self, task: Task, report: Reporter, error: EntrepotError) -> EntrepotError:
        """What to report; a final failure is written to the point, and a creation is undone."""
        interrupted = isinstance(error, CancelledError) and report.stop_reason in ("shutdown", "lost")
        again = error.retryable and task.attempts < self._max_attempts and not report.cancelled
        if again:
            await self._waits(task, error)
        if interrupted or again:
            return error
        if self._action is CloudAction.CREATE:
            return await self._cycle.clean_up(task, error, report)
        try:
            return await self._ended(task, error)
        except (CancelledError, NotFoundError):
            log.info("failure_of_superseded_task", task=task.id, error=str(error))
        return error

    async def _waits(self, task: Task, error: EntrepotError) -> None:
        """Show with the point why its task is not done yet; whatever it comes to says something else."""
        with contextlib.suppress(CancelledError, NotFoundError):  # a later task is in charge, or it is gone
            await self._cycle.note(task, message=f"It is tried again: {error}")

    async def _ended(self, task: Task, error: EntrepotError) -> EntrepotError:
        """Write a final failure to the point; how its service is then decides its state. What to report.

        Raises:
            CancelledError: a later task took over.
            NotFoundError: the point is gone.
        """
        point = await self._cycle.in_charge(task)
        if self._action in GOING:
            told = error if isinstance(error, CancelledError) else knowing(error, out=way_out(point))
            await self._cycle.note(task, message=str(told))
            return told
        # A start, too, may have been about to bring what the cloud lacks.
        brings = self._action in BRINGS_ALL or point.state is CloudPointState.UPGRADING
        # These take nothing from clients when they fail: they go on until somebody has looked at the service.
        serves = point.ready and (brings or self._action is CloudAction.SCALE)
        state = CloudPointState.DEGRADED if serves else CloudPointState.FAILED
        if self._action is CloudAction.STOP and isinstance(error, CancelledError):
            error = knowing(error, _STILL, out=f"To have it serve clients again: entrepot cloud start {point.name}.")
        values: dict[str, object] = {"message": str(error), "state": state}
        if brings:
            values["behind"] = str(error)
        if self._action is CloudAction.SCALE or isinstance(error, QuotaError):
            values |= await self._taken_back(task)
        await self._cycle.end(task, str(error), **values)
        await self._settle(task)
        return error

    async def _taken_back(self, task: Task) -> dict[str, object]:
        """As many instances are wanted as the cloud was told to run: a number that it refuses must not keep every later
        renewal from being done."""
        try:
            had = await self._cycle.instances_had(task)
        except CancelledError:
            raise
        except EntrepotError as problem:
            log.warning("instances_not_known", point=task.subject, error=str(problem))
            return {}
        return {"instances_wanted": had} if had else {}
