"""Orders to cloud points: one task is in charge of a point, and a new order takes over from what was under way."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from entrepot.core.errors import ConflictError
from entrepot.core.times import DAY, Clock
from entrepot.database import budgets, cloud, clouddetails, tasks
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.control import ServiceState
from entrepot.site.acting import acting_alone, behalf
from entrepot.site.cloud import crowding
from entrepot.site.cloud.options import image_remarks
from entrepot.site.cloud.proofs import pause_before
from entrepot.site.cloud.states import BRINGS_ALL, GOING, UNFINISHED, WORKING, CloudAction, check_allowed
from entrepot.site.tasks import TaskEngine

MANY: Final = 16
"""So many updates are looked at when it is decided whether another may bind a name."""
Keep = Callable[[Connection, CloudPoint], None]
"""Writes down what an order is to bring to the cloud."""


def keep_nothing(_connection: Connection, _point: CloudPoint) -> None:
    """The order brings what is kept already."""


class Orders:
    """Gives orders; the task engine has them carried out.

    Args:
        site: code of the site whose tasks they are.
    """

    def __init__(self, database: Database, engine: TaskEngine, *, site: str, clock: Clock) -> None:
        self._database = database
        self._engine = engine
        self._site = site
        self._clock = clock

    async def act(
        self,
        action: CloudAction,
        name_or_id: str,
        *,
        instances: int = 0,
        forced: bool = False,
        keep: Keep = keep_nothing,
    ) -> Task:
        """Stop, start, scale, update, renew or delete a cloud point. What was under way before gives way.

        Args:
            forced: also to more instances than can serve one client under a budget.
            keep: called in the same transaction, after the point's state has been checked.

        Raises:
            NotFoundError: there is no such cloud point.
            ConflictError: not in its present state.
            RefusedError: too many instances under a budget.
            EntrepotError: as ``keep`` raises; then nothing is ordered.
        """
        task, replaced = await self._database.write(
            self.give, action, name_or_id, instances=instances, forced=forced, keep=keep
        )
        for other in replaced:
            self._engine.cancel(other)
        self._engine.wake()
        return task

    async def bind(self, point: CloudPoint, *, seen: bool) -> None:
        """Order an update of a service whose name leads to it, but which is not served by that name yet (R6).

        Args:
            point: as it was looked at; nothing is ordered while a task of it is under way, or was begun meanwhile.
            seen: whether all records are there that the cloud wants to see.
        """
        if await self._database.write(self._bind, point, seen):
            self._engine.wake()

    def _bind(self, connection: Connection, before: CloudPoint, seen: bool) -> bool:
        point = cloud.get_cloud_point(connection, before.point, locked=True)
        updates = tasks.listed(connection, limit=MANY, kind=CloudAction.UPDATE.value, subject=point.point)
        ages = [self._clock() - task.created for task in updates]
        if ages and min(ages) < pause_before(sum(age < DAY for age in ages), seen=seen):
            return False
        if point.task != before.task or point.state is not CloudPointState.DEGRADED:
            return False
        if any(tasks.active(connection, kind.value, point.point) for kind in CloudAction):
            return False
        with acting_alone():
            self.give(connection, CloudAction.UPDATE, point.point)
        return True

    def give(
        self,
        connection: Connection,
        action: CloudAction,
        name_or_id: str,
        *,
        instances: int = 0,
        forced: bool = False,
        keep: Keep = keep_nothing,
    ) -> tuple[Task, list[str]]:
        """Write an order down: its task, and those that give way to it. See :meth:`act`."""
        point = cloud.get_cloud_point(connection, name_or_id, locked=True)
        check_allowed(action, point.state, point.name)
        if not forced:
            crowding.check_instances(connection, point.point, instances, before=point.instances_wanted)
        if action is CloudAction.STOP:  # a budget that gives the order notes its own after that
            told = f"{point.name} was stopped by hand"
            budgets.waive_stop(connection, point.point, at=self._clock(), by=behalf(), what=told)
        keep(connection, point)
        replaced = [
            task for kind in CloudAction if (task := self._supersede(connection, kind, point, action)) is not None
        ]
        wanted = {
            CloudAction.STOP: ServiceState.STOPPED,
            CloudAction.DELETE: ServiceState.STOPPED,
            CloudAction.FORGET: ServiceState.STOPPED,
            CloudAction.START: ServiceState.RUNNING,
        }.get(action, point.wanted)
        changes: dict[str, object] = {"instances_wanted": instances} if action is CloudAction.SCALE else {}
        if action in BRINGS_ALL:
            changes["behind"] = UNFINISHED
        cloud.update_cloud_point(connection, point.point, state=WORKING[action], wanted=wanted, message="", **changes)
        return self.order(connection, action, point), replaced

    def _supersede(
        self, connection: Connection, kind: CloudAction, point: CloudPoint, action: CloudAction
    ) -> str | None:
        task = tasks.active(connection, kind.value, point.point)
        if task is None:
            return None
        if kind in GOING:
            raise ConflictError(
                "The cloud point is being deleted already.", next_step=f"Wait for it: entrepot task show {task.id}."
            )
        if kind is action:  # there is one active task of a kind; this one need not have noticed that it lost the point
            tasks.supersede(connection, task.id, now=self._clock(), by=behalf())
        else:
            tasks.request_cancel(connection, task.id, now=self._clock(), by=behalf())
        return task.id

    def order(self, connection: Connection, action: CloudAction, point: CloudPoint) -> Task:
        """Make the task, and put it in charge of the point."""
        task = tasks.create(
            connection,
            site=self._site,
            kind=action.value,
            subject=point.point,
            title=f"{action.verb.capitalize()} the cloud point {point.name}",
            now=self._clock(),
            message=_remark(connection, action, point),
            by=behalf(),
        )
        cloud.update_cloud_point(connection, point.point, task=task.id)
        return task


def _remark(connection: Connection, action: CloudAction, point: CloudPoint) -> str:
    if action not in (CloudAction.CREATE, CloudAction.UPDATE):
        return ""
    return " ".join(image_remarks(clouddetails.detail(connection, point.point).azure))
