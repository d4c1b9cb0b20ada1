"""``entrepot alert``: what wants an administrator's attention, and what one can do about it (R25)."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson
from entrepot.cli.output import print_facts, print_json, print_rows, say, when
from entrepot.cli.session import seg, site_session
from entrepot.protocol.alertapi import (
    AlertCommentRequest,
    AlertEvent,
    AlertInfo,
    AlertPostponeRequest,
    AlertState,
    Severity,
)

app = typer.Typer(no_args_is_help=True, help="Alerts: thresholds reached, services down, certificates expiring.")

Id = Annotated[str, typer.Argument(help="Id of the alert.")]
Comment = Annotated[str, typer.Option(help="Why; kept with the alert.")]


@app.command("list")
def list_alerts(
    ctx: typer.Context,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that are closed, disabled or never triggered.")
    ] = False,
    about: Annotated[
        str | None, typer.Option(help="Only those about this: name or id of a cloud point, for example.")
    ] = None,
    of_type: Annotated[str | None, typer.Option("--type", help="Only this type, for example transfer_warning.")] = None,
    severity: Annotated[Severity | None, typer.Option(help="Only this severity.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the alerts that are open: active ones, then postponed ones, with when they come back.

    \b
    Examples:
      entrepot alert list
      entrepot alert list --about cloud-eu --severity critical
      entrepot alert list --all --json
    """
    named = {"subject": about, "of_type": of_type, "severity": None if severity is None else severity.value}
    with site_session(ctx) as session:
        alerts = session.get("/alerts", list[AlertInfo], open_only=None if every else "true", **named)
        if as_json:
            print_json(alerts)
            return
        disabled = [] if every else session.get("/alerts", list[AlertInfo], in_state=AlertState.DISABLED.value, **named)
    print_rows(
        ("Severity", "Alert", "About", "State", "Message", "Since", "Id"),
        [
            (
                a.severity.value,
                a.title,
                a.subject_name,
                _state(a),
                a.message,
                when(a.changed),
                a.id,
            )
            for a in alerts
        ],
        empty="No alert.",
    )
    if disabled:
        say(f"{len(disabled)} {'is' if len(disabled) == 1 else 'are'} disabled: entrepot alert list --all")


def _state(alert: AlertInfo) -> str:
    state = alert.state.value.replace("_", " ")
    return f"{state} until {when(alert.skip_until)}" if alert.skip_until else state


@app.command()
def show(ctx: typer.Context, alert: Id, as_json: AsJson = False) -> None:
    """Show an alert and what can be done about it.

    \b
    Example:
      entrepot alert show alert-0123456789abcdef
    """
    with site_session(ctx) as session:
        info = session.get(f"/alerts/{seg(alert)}", AlertInfo)
    _show(info, as_json)


def _show(info: AlertInfo, as_json: bool) -> None:
    if as_json:
        print_json(info)
        return
    print_facts(
        info.title,
        (
            ("id", info.id),
            ("about", info.subject_name),
            ("severity", info.severity.value),
            ("state", info.state.value.replace("_", " ")),
            ("message", info.message),
            ("what one can do", "\n".join(info.remedies)),
            ("occurrences", str(info.occurrences)),
            ("since", when(info.changed)),
            ("postponed until", when(info.skip_until)),
            ("closed by", info.closed_by),
            ("comment", info.comment),
        ),
    )


@app.command()
def history(ctx: typer.Context, alert: Id, as_json: AsJson = False) -> None:
    """Show what happened to an alert, oldest first: when it opened and closed, and who did what about it.

    \b
    Example:
      entrepot alert history alert-0123456789abcdef
    """
    with site_session(ctx) as session:
        events = session.get(f"/alerts/{seg(alert)}/history", list[AlertEvent])
    if as_json:
        print_json(events)
        return
    print_rows(
        ("At", "Event", "State after it", "By", "Message"),
        [(when(e.at), e.event.replace("_", " "), e.state.value.replace("_", " "), e.by, e.message) for e in events],
        empty="Nothing happened to it yet.",
    )


@app.command()
def comment(
    ctx: typer.Context,
    alert: Id,
    text: Annotated[str, typer.Argument(help="What to note; it replaces the comment before.")],
    as_json: AsJson = False,
) -> None:
    """Note something on an alert; its state stays as it is.

    \b
    Example:
      entrepot alert comment alert-0123456789abcdef 'asked finance for a larger quota'
    """
    _act(ctx, alert, "comment", text, as_json)


@app.command()
def postpone(
    ctx: typer.Context,
    alert: Id,
    hours: Annotated[int, typer.Option(help="Look again after so many hours.")] = 24,
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Postpone an active alert; it is evaluated again when the time is over.

    \b
    Example:
      entrepot alert postpone alert-0123456789abcdef --hours 72 --comment 'quota is being raised'
    """
    body = AlertPostponeRequest(hours=hours, comment=comment)
    with site_session(ctx) as session:
        _show(session.post(f"/alerts/{seg(alert)}/postpone", body, AlertInfo), as_json)


@app.command()
def cancel(ctx: typer.Context, alert: Id, comment: Comment = "", as_json: AsJson = False) -> None:
    """Close an alert by hand.

    \b
    Example:
      entrepot alert cancel alert-0123456789abcdef
    """
    _act(ctx, alert, "cancel", comment, as_json)


@app.command()
def disable(ctx: typer.Context, alert: Id, comment: Comment = "", as_json: AsJson = False) -> None:
    """Evaluate this alert no longer.

    \b
    Example:
      entrepot alert disable alert-0123456789abcdef
    """
    _act(ctx, alert, "disable", comment, as_json)


@app.command()
def enable(ctx: typer.Context, alert: Id, comment: Comment = "", as_json: AsJson = False) -> None:
    """Evaluate a disabled alert again.

    \b
    Example:
      entrepot alert enable alert-0123456789abcdef
    """
    _act(ctx, alert, "enable", comment, as_json)


def _act(ctx: typer.Context, alert: str, verb: str, comment: str, as_json: bool) -> None:
    with site_session(ctx) as session:
        _show(session.post(f"/alerts/{seg(alert)}/{verb}", AlertCommentRequest(comment=comment), AlertInfo), as_json)
