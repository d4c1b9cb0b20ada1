"""``entrepot device``: managed devices and the codes with which they enrol."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import (
    confirm,
    print_facts,
    print_json,
    print_line,
    print_rows,
    say,
    size,
    when,
    yes_no,
)
from entrepot.cli.removing import DryRun, foresee, remove_or_tell
from entrepot.cli.session import seg, site_session
from entrepot.protocol.deviceapi import (
    DeviceInfo,
    DeviceState,
    EffectiveSettings,
    EnrolmentCodeInfo,
    EnrolmentCodeReply,
    EnrolmentCodeRequest,
)

app = typer.Typer(no_args_is_help=True, help="Devices: enrolment codes, approval, blocking, removal, settings.")

Device = Annotated[str, typer.Argument(help="Name or id of the device.")]


@app.command("list")
def list_devices(
    ctx: typer.Context,
    state: Annotated[DeviceState | None, typer.Option(help="Only devices in this state.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices.

    \b
    Examples:
      entrepot device list
      entrepot device list --state pending             # those that wait for approval
    """
    with site_session(ctx) as session:
        devices = session.get("/devices", list[DeviceInfo], device_state=None if state is None else state.value)
    if as_json:
        print_json(devices)
        return
    print_rows(
        ("Name", "State", "Address", "Last seen", "Collections", "Id"),
        [(d.name, d.state.value, d.address, when(d.seen), ", ".join(d.collections), d.id) for d in devices],
        empty="No device yet. Next: entrepot device code" if state is None else f"No device is {state.value}.",
    )


@app.command()
def show(ctx: typer.Context, device: Device, as_json: AsJson = False) -> None:
    """Show one device.

    \b
    Example:
      entrepot device show PC-0815
    """
    with site_session(ctx) as session:
        info = session.get(f"/devices/{seg(device)}", DeviceInfo)
    if as_json:
        print_json(info)
        return
    print_facts(
        info.name,
        (
            ("id", info.id),
            ("state", info.state.value),
            ("key fingerprint", info.fingerprint),
            ("enrolled", when(info.enrolled)),
            ("last seen", when(info.seen)),
            ("address", info.address),
            ("collections", ", ".join(info.collections)),
        ),
    )


@app.command()
def code(
    ctx: typer.Context,
    uses: Annotated[int, typer.Option(min=1, help="How many devices may enrol with it.")] = 1,
    hours: Annotated[int, typer.Option(help="How long it is valid.")] = 24,
    name: Annotated[str, typer.Option(help="A note for yourself.")] = "",
    collection: Annotated[str | None, typer.Option(help="Devices that enrol with it become members.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an enrolment code for devices and print it. The code is shown once.

    \b
    Example:
      entrepot device code --uses 50 --hours 72 --collection Laptops
      entrepot client enrol --code entrepot1.…                              # on a device
    """
    body = EnrolmentCodeRequest(uses=uses, hours=hours, name=name, collection=collection)
    with site_session(ctx) as session:
        reply = session.post("/enrolment-codes", body, EnrolmentCodeReply)
    if as_json:
        print_json(reply)
        return
    say(f"Valid until {when(reply.expires)} for {uses} device{'s' if uses != 1 else ''}:")
    print_line(reply.code)


@app.command()
def codes(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the enrolment codes that are still valid, without their secrets.

    \b
    Example:
      entrepot device codes
    """
    with site_session(ctx) as session:
        rows = session.get("/enrolment-codes", list[EnrolmentCodeInfo])
    if as_json:
        print_json(rows)
        return
    print_rows(
        ("Id", "Kind", "Note", ">Uses left", "Expires"),
        [(c.id, c.kind, c.name, str(c.uses_left), when(c.expires)) for c in rows],
        empty="No enrolment code is valid. Next: entrepot device code",
    )


@app.command()
def withdraw(
    ctx: typer.Context,
    code: Annotated[str, typer.Argument(help="Id of the enrolment code, as `entrepot device codes` lists it.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw an enrolment code: nobody enrols with it any more. Devices that did stay enrolled.

    \b
    Examples:
      entrepot device withdraw code-0123456789abcdef --dry-run
      entrepot device withdraw code-0123456789abcdef --yes
    """
    remove_or_tell(
        ctx,
        f"/enrolment-codes/{seg(code)}",
        f"Withdraw the enrolment code {code}?",
        done={"withdrawn": code},
        told=f"The enrolment code {code} is withdrawn.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@app.command()
def approve(ctx: typer.Context, device: Device, as_json: AsJson = False) -> None:
    """Approve a device that enrolled without a code. Compare its fingerprint first (`entrepot client status`).

    \b
    Example:
      entrepot device approve PC-0815
    """
    with site_session(ctx) as session:
        info = session.post(f"/devices/{seg(device)}/approve", None, DeviceInfo)
    if as_json:
        print_json(info)
    else:
        say(f"{info.name} is approved ({info.fingerprint}).")


@app.command()
def block(
    ctx: typer.Context, device: Device, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Block a device: its tokens are revoked, its running downloads are cut off.

    \b
    Examples:
      entrepot device block PC-0815 --dry-run
      entrepot device block PC-0815 --yes
    """
    if dry_run:
        foresee(ctx, f"/devices/{seg(device)}/block", as_json=as_json)
        return
    confirm(f"Block {device}?", yes=yes)
    with site_session(ctx) as session:
        info = session.post(f"/devices/{seg(device)}/block", None, DeviceInfo)
    if as_json:
        print_json(info)
    else:
        say(f"{info.name} is blocked.")


@app.command()
def remove(
    ctx: typer.Context, device: Device, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Forget a device that waits for approval, or that was blocked so long ago that all its tokens have ended (8 h).

    \b
    Example:
      entrepot device block PC-0815 --yes
      entrepot device remove PC-0815 --dry-run
      entrepot device remove PC-0815 --yes             # eight hours later
    """
    remove_or_tell(
        ctx,
        f"/devices/{seg(device)}",
        f"Forget the device {device}?",
        done={"removed": device},
        told=f"{device} is forgotten.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@app.command()
def settings(ctx: typer.Context, device: Device, as_json: AsJson = False) -> None:
    """Show the client settings that a device gets, and which set decided each value.

    \b
    Example:
      entrepot device settings PC-0815
    """
    with site_session(ctx) as session:
        effective = session.get(f"/devices/{seg(device)}/settings", EffectiveSettings)
    if as_json:
        print_json(effective)
        return
    values = effective.settings
    shown = {
        "allow_cloud": yes_no(values.allow_cloud),
        "poll_minutes": f"{values.poll_minutes} min",
        "cache_bytes": size(values.cache_bytes),
    }
    facts = [(name, f"{text}   (decided by {effective.decided_by.get(name, '?')})") for name, text in shown.items()]
    print_facts(effective.device, facts)
