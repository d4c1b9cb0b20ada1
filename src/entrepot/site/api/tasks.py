"""Durable tasks."""

from collections.abc import Callable

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from entrepot.core.times import Clock
from entrepot.database import tasks
from entrepot.database.engine import Database
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.acting import behalf
from entrepot.site.api.limits import Limit
from entrepot.site.taskinfo import task_info


def task_routes(database: Database, cancel: Callable[[str], None], clock: Clock) -> list[HTTPRouteHandler]:
    """Everything below ``/tasks``. ``cancel``: passes a cancellation on to whoever runs the task here."""

    @get("/tasks", tags=["Tasks"])
    async def list_tasks(
        active: FromQuery[bool] = False, kind: FromQuery[str] = "", subject: FromQuery[str] = "", limit: Limit = 100
    ) -> list[TaskInfo]:
        """Tasks, the newest first."""
        found = await database.read(tasks.listed, limit=limit, only_active=active, kind=kind, subject=subject)
        return [task_info(task) for task in found]

    @get("/tasks/{task:str}", tags=["Tasks"])
    async def get_task(task: FromPath[str]) -> TaskInfo:
        """One task and its progress."""
        return task_info(await database.read(tasks.get, task))

    @post("/tasks/{task:str}/cancel", status_code=200, tags=["Tasks"])
    async def cancel_task(task: FromPath[str]) -> TaskInfo:
        """Stop a task at its next step."""
        stopped = await database.write(tasks.request_cancel, task, now=clock(), tidy=True, by=behalf())
        cancel(task)
        return task_info(stopped)

    return [list_tasks, get_task, cancel_task]
