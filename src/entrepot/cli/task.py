"""``entrepot task``: the site's durable work."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Wait, Yes
from entrepot.cli.output import confirm, print_facts, print_json, print_rows, when
from entrepot.cli.removing import DryRun, foresee
from entrepot.cli.session import seg, site_session
from entrepot.cli.waiting import amount, follow
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.rules.alerts import SYSTEM

app = typer.Typer(no_args_is_help=True, help="Tasks: durable work of the site, such as publishing or creating.")

Id = Annotated[str, typer.Argument(help="Id of the task.")]


def ordered_by(task: TaskInfo) -> str:
    """Who ordered a task, in words; nothing where it was not kept."""
    return _who(task.by)


def _who(name: str) -> str:
    return "the site itself" if name == SYSTEM else name


def _state(task: TaskInfo) -> str:
    """The state in words, with who cancelled it; a task may be cancelled, or fail, before it notices."""
    state = task.state.value.replace("_", " ")
    return f"{state} by {_who(task.cancelled_by)}" if state == "cancelled" and task.cancelled_by else state


@app.command("list")
def list_tasks(
    ctx: typer.Context,
    active: Annotated[bool, typer.Option("--active", help="Only those that have not ended.")] = False,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as publish; --json shows kinds.")] = None,
    subject: Annotated[
        str | None, typer.Option(help="Only about this: the id of a content, a point and so on; --json shows ids.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=10_000, help="Show so many at most; default: 100.")] = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, the newest first.

    \b
    Examples:
      entrepot task list
      entrepot task list --active
      entrepot task list --kind publish --limit 10
    """
    only = "true" if active else None
    with site_session(ctx) as session:
        tasks = session.get("/tasks", list[TaskInfo], active=only, kind=kind, subject=subject, limit=limit)
    if as_json:
        print_json(tasks)
        return
    print_rows(
        ("Task", "Ordered by", "State", "Step", "Progress", "Started", "Error", "Id"),
        [(t.title, ordered_by(t), _state(t), _step(t), amount(t), when(t.started), t.error, t.id) for t in tasks],
        empty="No such task." if active or kind or subject else "The site has no tasks.",
    )


@app.command()
def show(ctx: typer.Context, task: Id, wait: Wait = False, as_json: AsJson = False) -> None:
    """Show a task, or follow it until it ends.

    \b
    Example:
      entrepot task show task-0123456789abcdef --wait
    """
    with site_session(ctx) as session:
        info = session.get(f"/tasks/{seg(task)}", TaskInfo)
        if wait:
            info = follow(session, info)
    if as_json:
        print_json(info)
    else:
        _print(info)


def _step(task: TaskInfo) -> str:
    """Where a task is, or where it ended; one that is completed is at no step any more."""
    return "" if task.state is TaskState.COMPLETED else task.step


def _print(info: TaskInfo) -> None:
    print_facts(
        info.title,
        (
            ("id", info.id),
            ("state", info.state.value.replace("_", " ")),
            ("step", _step(info)),
            ("progress", amount(info)),
            ("message", info.message),
            ("error", info.error),
            ("ordered by", ordered_by(info)),
            ("cancelled by", _who(info.cancelled_by)),
            ("attempts", str(info.attempts)),
            ("created", when(info.created)),
            ("started", when(info.started)),
            ("finished", when(info.finished)),
            ("next try", when(info.run_after) if not info.state.final else ""),
        ),
    )


@app.command()
def cancel(ctx: typer.Context, task: Id, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False) -> None:
    """Cancel a task; what it already did stays or is cleaned up by the site.

    \b
    Examples:
      entrepot task cancel task-0123456789abcdef --dry-run
      entrepot task cancel task-0123456789abcdef --yes
    """
    if dry_run:
        foresee(ctx, f"/tasks/{seg(task)}/cancel", as_json=as_json)
        return
    confirm(f"Cancel the task {task}?", yes=yes)
    with site_session(ctx) as session:
        info = session.post(f"/tasks/{seg(task)}/cancel", None, TaskInfo)
    if as_json:
        print_json(info)
    else:
        _print(info)
