"""``entrepot cloud orphans``: services that cost money and that no site knows (R40)."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Wait, Yes, application_id, pin_digits
from entrepot.cli.output import confirm, print_json, print_rows, say, size
from entrepot.cli.session import site_session
from entrepot.cli.waiting import finish
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError
from entrepot.protocol.cloudapi import (
    ARM,
    AUTHORITY,
    AZURE,
    HOST,
    AzureOptions,
    CloudAccount,
    Orphan,
    OrphanRequest,
    OrphanSearch,
)
from entrepot.protocol.siteapi import TaskInfo

Host = Annotated[str, typer.Option("--host", help="Address of a cloud host that no cloud point of this site uses.")]
Tenant = Annotated[str, typer.Option(help="Directory (tenant) id: the subscription is Azure's.")]
Application = Annotated[str, typer.Option(help="Client id of the application registration there.")]
Authority = Annotated[str, typer.Option(help="Sign-in address of another Azure cloud; --host is its Resource Manager.")]
Pin = Annotated[str, typer.Option(help="SHA-256 of that host's TLS certificate.")]
Subscription = Annotated[str, typer.Option(help="Subscription id there.")]
REMOVE = "Remove the orphan of this name, or of the cloud point with this id, and all that it stores."
Certificate = Annotated[str, typer.Option("--certificate", help="Name of an imported management certificate.")]


def orphans(
    ctx: typer.Context,
    host: Host = "",
    host_pin: Pin = "",
    subscription: Subscription = "",
    certificate: Certificate = "",
    azure_tenant: Tenant = "",
    azure_application: Application = "",
    azure_authority: Authority = AUTHORITY,
    remove: Annotated[str | None, typer.Option(help=REMOVE)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --remove: say what would go, and end.")] = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """List services in the clouds that are this hierarchy's and that its database does not know; or remove one (R40).

    Without options all subscriptions are looked at that cloud points of this site use. To keep an orphan with what it
    stores, adopt it: `entrepot cloud create NAME … --adopt`. Of a service that is not whole, the parts are listed; they
    can be removed only.

    \b
    Examples:
      entrepot cloud orphans
      entrepot cloud orphans --remove cloud-old --dry-run
      entrepot cloud orphans --remove cloud-old --yes
      entrepot cloud orphans --subscription 2222… --certificate contoso-cloud \\
        --azure-tenant contoso.onmicrosoft.com --azure-application 1111…
    """
    if dry_run and remove is None:
        raise BadInputError("--dry-run goes with --remove.", next_step="To list orphans changes nothing: leave it out.")
    account = _account(host, host_pin, subscription, certificate, azure_tenant, azure_application, azure_authority)
    with site_session(ctx) as session:
        found = session.post("/cloud-orphans/search", OrphanSearch(account=account), list[Orphan])
        if remove is None:
            _print_orphans(found, as_json)
            return
        orphan = one_orphan(found, remove)
        if dry_run:
            _tell(orphan, as_json=as_json)
            return
        confirm(f"Remove {_which(orphan)}, and all that it stores ({_stored(orphan)})?", yes=yes)
        body = OrphanRequest(service=orphan.service, point=orphan.point, account=orphan.account)
        task = session.post("/cloud-orphans/remove", body, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


def one_orphan(found: list[Orphan], wanted: str) -> Orphan:
    """The orphan of a name or a cloud point's id.

    Raises:
        NotFoundError: there is none.
        ConflictError: there are several: subscriptions may have services of the same name.
    """
    fitting = [one for one in found if wanted in (one.service, one.point)]
    if not fitting:
        raise NotFoundError(f"There is no orphan {wanted!r}.", next_step="List them: entrepot cloud orphans")
    if len(fitting) > 1:
        raise ConflictError(
            f"There are {len(fitting)} orphans {wanted!r}: {'; '.join(map(_which, fitting))}.",
            next_step="Name the one by its cloud point's id, or its subscription by --subscription, --certificate, and"
            " --host with --host-pin or --azure-tenant with --azure-application.",
        )
    return fitting[0]


def _which(one: Orphan) -> str:
    place = f"{one.account.subscription} at {one.account.host_url}"
    return f"the orphan {one.service} of the cloud point {one.point} in {place}"


def _tell(one: Orphan, *, as_json: bool) -> None:
    """What would go."""
    if as_json:
        print_json(one)
        return
    say(f"It would remove {_which(one)}: {', '.join(one.parts) or 'everything'}; stored: {_stored(one)}.")
    say("Nothing was removed.")


def _account(
    host: str, host_pin: str, subscription: str, certificate: str, tenant: str, application: str, authority: str
) -> CloudAccount | None:
    """The subscription that the options name; None when none was given.

    Raises:
        BadInputError: some of what names a subscription is missing.
    """
    if not (host or subscription or certificate or tenant or application):
        return None
    if tenant or application:
        if not (tenant and application and subscription and certificate):
            raise BadInputError(
                "A subscription of Azure is named by --azure-tenant, --azure-application, --subscription and "
                "--certificate."
            )
        return CloudAccount(
            subscription=subscription,
            management_certificate=certificate,
            provider=AZURE,
            host_url=host or ARM,
            azure=AzureOptions(tenant=tenant, application=application_id(application), authority=authority),
        )
    if not (host and host_pin and subscription and certificate):
        raise BadInputError("A subscription is named by --host, --host-pin, --subscription and --certificate.")
    pin = pin_digits(host_pin)
    return CloudAccount(
        subscription=subscription, management_certificate=certificate, provider=HOST, host_url=host, host_pin=pin
    )


def _stored(one: Orphan) -> str:
    return "not told" if one.parts or one.stored_bytes is None else size(one.stored_bytes)


def _print_orphans(found: list[Orphan], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_rows(
        ("Service", "Name for clients", "State", ">Stored", "Subscription", "What is left"),
        [
            (
                one.service,
                one.fqdn,
                one.state,
                _stored(one),
                one.account.subscription,
                ", ".join(one.parts) or "everything",
            )
            for one in found
        ],
        empty="No orphans: every service of this hierarchy in these clouds is known.",
    )
