"""``entrepot cloud``, continued: what keeps a cloud point in order (R3, R4, R6, R25, R37)."""

from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.certificate import read_pfx
from entrepot.cli.cloud.output import print_renewal, print_update
from entrepot.cli.cloud.points import CPU, IMAGE, MEMORY, REGISTRY_PASSWORD_FILE, REGISTRY_USER, Name
from entrepot.cli.cloud.points import app as cloud_app
from entrepot.cli.options import AsJson, Wait, pin_digits
from entrepot.cli.output import print_json, print_rows, say, size, when
from entrepot.cli.secrets import REGISTRY_PASSWORD, SERVICE_PASSWORD, read_secret
from entrepot.cli.session import seg, site_session
from entrepot.cli.waiting import finish
from entrepot.core.errors import BadInputError, UnavailableError
from entrepot.core.sizes import parse_size
from entrepot.protocol.cloudapi import (
    AcceptedPin,
    AcceptPin,
    CloudHealth,
    RenewalPlan,
    RenewServiceCertificate,
    UpdatePlan,
    UpdateRequest,
    UploadSchedule,
    UploadWindow,
)
from entrepot.protocol.siteapi import TaskInfo

app = cloud_app
"""The same group of commands, with those of this file."""
_DAYS = {name: number for number, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), 1)}


@cloud_app.command()
def update(
    ctx: typer.Context,
    name: Name,
    azure_image: Annotated[str | None, typer.Option(help=IMAGE)] = None,
    registry_user: Annotated[str | None, typer.Option(help=f"{REGISTRY_USER} '': it asks nobody any more.")] = None,
    registry_password_file: Annotated[Path | None, typer.Option(help=REGISTRY_PASSWORD_FILE)] = None,
    cpu: Annotated[float | None, typer.Option(min=0.25, max=4, help=CPU)] = None,
    memory: Annotated[float | None, typer.Option(min=0.5, max=8, help=MEMORY)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; nothing is done.")] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Bring the service in the cloud to what the site wants, and bind its name if DNS is ready; downloads go on.

    With options, to another image or size of its replicas in Azure; what is left out stays.

    \b
    Examples:
      entrepot cloud update cloud-eu
      entrepot cloud update cloud-az --azure-image contoso.azurecr.io/entrepot@sha256:… --dry-run
      entrepot cloud update cloud-az --registry-user puller --registry-password-file new-password
      entrepot cloud update cloud-az --cpu 1
    """
    password = None
    if registry_user or registry_password_file is not None:
        who = registry_user or "the registry's user"
        password = read_secret(f"Password of {who}", file=registry_password_file, options=REGISTRY_PASSWORD)
    body = UpdateRequest(
        image=azure_image,
        registry_user=registry_user,
        registry_password=None if password is None else password.reveal_text(),
        cpu=cpu,
        memory_gib=memory,
    )
    with site_session(ctx) as session:
        if dry_run:
            print_update(
                name, session.post(f"/cloud-points/{seg(name)}/update/plan", body, UpdatePlan), as_json=as_json
            )
            return
        task = session.post(f"/cloud-points/{seg(name)}/update", body, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


@cloud_app.command("renew-certificate")
def renew_certificate(
    ctx: typer.Context,
    name: Name,
    service_pfx: Annotated[Path, typer.Argument(help="The new service certificate with its key, PKCS#12.")],
    service_password_file: Annotated[Path | None, typer.Option(help="File with its password.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and show what would change.")] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Give the running instances a new service certificate of the same name; running downloads go on (R4).

    \b
    Example:
      entrepot cloud renew-certificate cloud-eu certs/cloud1.contoso.com.pfx --dry-run
      entrepot cloud renew-certificate cloud-eu certs/cloud1.contoso.com.pfx
    """
    data = read_pfx(service_pfx)
    password = read_secret(f"Password of {service_pfx.name}", file=service_password_file, options=SERVICE_PASSWORD)
    body = RenewServiceCertificate(service_pfx=data, service_password=password.reveal_text())
    with site_session(ctx) as session:
        if dry_run:
            print_renewal(
                session.post(f"/cloud-points/{seg(name)}/certificate/plan", body, RenewalPlan), as_json=as_json
            )
            return
        task = session.post(f"/cloud-points/{seg(name)}/certificate", body, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


@cloud_app.command("accept-pin")
def accept_pin(
    ctx: typer.Context,
    name: Name,
    host_pin: Annotated[str, typer.Option(help="The host's new pin; `host identity show` prints it there.")],
    as_json: AsJson = False,
) -> None:
    """Recognise a cloud point's host by another pin from now on: its key was replaced while the site was away, or at
    once. Nothing is changed unless the host shows that certificate. All cloud points at the host follow.

    Ask the host's administrator for the pin on a way that nobody else can write on, such as the telephone.

    \b
    Example:
      entrepot cloud accept-pin cloud-eu --host-pin 3F2A…
    """
    body = AcceptPin(host_pin=pin_digits(host_pin))
    with site_session(ctx) as session:
        accepted = session.post(f"/cloud-points/{seg(name)}/host-pin", body, AcceptedPin)
    if as_json:
        print_json(accepted)
    else:
        say(f"{accepted.host_url} is recognised by {accepted.pin} from now on, for {', '.join(accepted.points)}.")


@cloud_app.command()
def health(
    ctx: typer.Context,
    name: Name,
    now: Annotated[bool, typer.Option("--now", help="Look now instead of showing what was seen last.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what was looked at, and what is wrong: subscription, deployment, instances, store, clock, DNS, certificates.

    Exit code 10 when the status is Degraded or Error.

    \b
    Example:
      entrepot cloud health cloud-eu --now
    """
    with site_session(ctx) as session:
        found = session.get(f"/cloud-points/{seg(name)}/health", CloudHealth, now="true" if now else None)
    if as_json:
        print_json(found)
    else:
        say(f"{name}: {found.status}, looked at {when(found.checked) or 'never'}")
        rows = [(one.name, one.state, one.message) for one in found.details]
        print_rows(
            ("What", "State", "Details"), rows, empty="Not looked at yet. Next: entrepot cloud health NAME --now"
        )
    if found.status in ("Degraded", "Error"):
        raise typer.Exit(UnavailableError.family.exit_code)


@cloud_app.command("upload-limit")
def upload_limit(
    ctx: typer.Context,
    name: Name,
    rate: Annotated[str | None, typer.Option(help="Bytes a second, such as 2MB; 0: no limit.")] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(help="DAYS HH:MM-HH:MM RATE, such as 'mon-fri 08:00-18:00 0'; repeat; 0 closes. Replaces all."),
    ] = None,
    no_windows: Annotated[bool, typer.Option("--no-windows", help="Remove all windows.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or change how fast the site sends content to a cloud point, and when. The site server's time zone counts.

    \b
    Examples:
      entrepot cloud upload-limit cloud-eu
      entrepot cloud upload-limit cloud-eu --rate 5MB --window 'mon-fri 08:00-18:00 500KB'
      entrepot cloud upload-limit cloud-eu --no-windows
    """
    if window and no_windows:
        raise BadInputError("--window and --no-windows contradict each other.", next_step="Give one of them.")
    windows = () if no_windows else tuple(parse_window(text) for text in window or ())
    with site_session(ctx) as session:
        kept = session.get(f"/cloud-points/{seg(name)}/upload", UploadSchedule)
        if rate is not None or window or no_windows:
            changed = UploadSchedule(
                bytes_per_second=kept.bytes_per_second if rate is None else parse_size(rate),
                windows=windows if window or no_windows else kept.windows,
            )
            kept = session.call("PUT", f"/cloud-points/{seg(name)}/upload", changed, UploadSchedule)
    if as_json:
        print_json(kept)
        return
    say(f"{name}: {_rate(kept.bytes_per_second, 'no limit')}, outside these windows:")
    names = {number: day for day, number in _DAYS.items()}
    rows = []
    for one in kept.windows:
        days, times = " ".join(names[day] for day in one.days), f"{_clock(one.begin)} to {_clock(one.end)}"
        rows.append((days, times, _rate(one.bytes_per_second, "closed")))
    print_rows(("Days", "Time", "Rate"), rows, empty="none")


def _rate(count: int, zero: str) -> str:
    return f"{size(count)}/s" if count else zero


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def parse_window(text: str) -> UploadWindow:
    """Read ``mon-fri 08:00-18:00 500KB``.

    Raises:
        BadInputError: another form.
    """
    parts = text.lower().split()
    try:
        days, times, rate = parts
        begin, end = (_minutes(one) for one in times.split("-"))
        return UploadWindow(days=_days(days), begin=begin, end=end, bytes_per_second=parse_size(rate))
    except (ValueError, KeyError):
        raise BadInputError(
            f"{text[:80]!r} is no upload window.", next_step="Write days, times and rate: mon-fri 08:00-18:00 500KB."
        ) from None


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    if not (0 <= int(hours) <= 24 and 0 <= int(minutes) < 60 and int(hours) * 60 + int(minutes) <= 1440):
        raise ValueError(text)
    return int(hours) * 60 + int(minutes)


def _days(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = _DAYS[first], _DAYS[last or first]
        found += range(begin, end + 1) if begin <= end else [*range(begin, 8), *range(1, end + 1)]
    return tuple(dict.fromkeys(found))
