"""A durable task as the API shows it."""

from entrepot.database.tasks import Task
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.rules.pace import seconds_left

_WORKED_OUT = ("rate", "seconds_left")


def task_info(task: Task) -> TaskInfo:
    """What administrators see of a task. Its pace counts while it is worked on only."""
    same = {name: getattr(task, name) for name in TaskInfo.__struct_fields__ if name not in _WORKED_OUT}
    rate = task.rate if task.state is TaskState.IN_PROGRESS else 0
    return TaskInfo(**same, rate=rate, seconds_left=seconds_left(task.done, task.total, rate))
