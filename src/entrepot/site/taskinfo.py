"""A durable task as the API shows it."""

from entrepot.database.tasks import Task
from entrepot.protocol.siteapi import TaskInfo


def task_info(task: Task) -> TaskInfo:
    """What administrators see of a task."""
    return TaskInfo(**{name: getattr(task, name) for name in TaskInfo.__struct_fields__})
