"""``entrepot cloud stop`` and ``delete``: what ends with a cloud point is told before it does (R27, R40)."""

import sys
from typing import Annotated

import typer

from entrepot.cli.cloud.output import stored
from entrepot.cli.cloud.points import Name
from entrepot.cli.options import AsJson, Wait, Yes
from entrepot.cli.output import confirm, print_facts, print_json, say
from entrepot.cli.removing import DryRun, foresee
from entrepot.cli.session import SiteSession, seg, site_session
from entrepot.cli.waiting import finish
from entrepot.core.errors import EntrepotError
from entrepot.protocol.cloudapi import AZURE, MACHINE, CloudResources
from entrepot.protocol.cloudhost import proof_name
from entrepot.protocol.cloudpointapi import CloudPointInfo
from entrepot.protocol.removalapi import Removal
from entrepot.protocol.siteapi import TaskInfo


def stop(
    ctx: typer.Context,
    name: Name,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Stop the service: clients are cut off at once; content stays and the site goes on transferring (R27).

    A cloud that does not answer is asked again until it has stopped the service, and the command waits, unless
    --no-wait.

    \b
    Examples:
      entrepot cloud stop cloud-eu --dry-run
      entrepot cloud stop cloud-eu --yes
    """
    if dry_run:
        foresee(ctx, f"/cloud-points/{seg(name)}/stop", as_json=as_json)
        return
    with site_session(ctx) as session:
        asks = sys.stdin.isatty() and not yes
        late = session.get(f"/cloud-points/{seg(name)}", CloudPointInfo).delivery_note if asks else ""
        confirm(f"Stop {name}? Running downloads are cut off. {late}".rstrip(), yes=yes)
        task = session.post(f"/cloud-points/{seg(name)}/stop", None, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


def delete(
    ctx: typer.Context,
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and end.")] = False,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="After a deletion that failed: forget it, whatever its cloud still stores."),
    ] = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Delete a cloud point and everything that it stores; that nothing is left is checked (R40).

    A cloud that is gone for good (its machine destroyed, its subscription closed) cannot be checked: each deletion
    fails. Then --forget takes the point off the site all the same. It tries the deletion once more, says what may be
    left, and keeps the figures.

    \b
    Examples:
      entrepot cloud delete cloud-eu --dry-run
      entrepot cloud delete cloud-eu --yes
      entrepot cloud delete cloud-eu --forget
    """
    if not dry_run:
        gone = f"Forget {name}? What its cloud still stores, and charges for, nobody will remove."
        confirm(gone if forget else f"Delete {name} and all that it stores?", yes=yes)
    with site_session(ctx) as session:
        if dry_run:
            _tell(session, name, forget=forget, as_json=as_json)
            return
        task = session.call("DELETE", f"/cloud-points/{seg(name)}{'?forget=true' if forget else ''}", None, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


def _tell(session: SiteSession, name: str, *, forget: bool, as_json: bool) -> None:
    """What would go, or may stay."""
    info = session.get(f"/cloud-points/{seg(name)}", CloudPointInfo)
    foreseen = session.get(f"/cloud-points/{seg(name)}/removal", Removal, forget="true" if forget else None)
    parts = _parts(session, name)
    record = f"{info.dns.name}  {info.dns.type}  {info.dns.value}" if info.dns else ""
    proof = f"{proof_name(info.fqdn)}  TXT" if info.provider == AZURE else ""
    if as_json:
        print_json(
            {
                "cloud_point": info.name,
                "contents": info.contents,
                "stored_bytes": info.usage.present_bytes,
                "stored_objects": info.usage.stored_objects,
                "parts": parts,
                "dns_record": record,
                "proof_record": proof,
                "refusal": foreseen.refusal,
                "next_step": foreseen.next_step,
            }
        )
        return
    there = ("what cannot be removed stays, and is charged for", *parts) if forget else parts
    facts = (
        ("contents", f"{info.contents}: the library and other points keep them"),
        ("stored", stored(info.usage)),
        ("in the cloud", "\n".join(there)),
        ("clients", "go to other points; those that have no other get nothing"),
        ("figures", "kept, without what was not collected" if forget else "collected once more, then kept like any"),
        ("left for you", "\n".join(f"the DNS record {one}" for one in (record, proof) if one)),
        ("refused", foreseen.refusal),
        ("then", foreseen.next_step),
    )
    print_facts(f"Forgetting {info.name}" if forget else f"Deleting {info.name} removes", facts)
    say("Nothing was deleted.")


def _parts(session: SiteSession, name: str) -> tuple[str, ...]:
    """What it is made of. A cloud that does not answer keeps nobody from looking, or from deleting."""
    try:
        found = session.get(f"/cloud-points/{seg(name)}/resources", CloudResources)
    except EntrepotError as error:
        say(f"[yellow]Warning:[/] what it is made of is not known now: {error}")
        return ()
    return tuple(f"{one.kind} {one.name}" for one in found.resources if one.meter not in ("egress_gb", MACHINE))
