"""``entrepot cloud orphans``: services that cost money and that no site knows (R40)."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Wait, Yes, pin_digits
from entrepot.cli.output import confirm, print_json, print_rows, size
from entrepot.cli.session import site_session
from entrepot.cli.waiting import finish
from entrepot.core.errors import BadInputError
from entrepot.protocol.cloudapi import (
    ARM,
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
Pin = Annotated[str, typer.Option(help="SHA-256 of that host's TLS certificate.")]
Subscription = Annotated[str, typer.Option(help="Subscription id there.")]
Certificate = Annotated[str, typer.Option("--certificate", help="Name of an imported management certificate.")]


def orphans(
    ctx: typer.Context,
    host: Host = "",
    host_pin: Pin = "",
    subscription: Subscription = "",
    certificate: Certificate = "",
    azure_tenant: Tenant = "",
    azure_application: Application = "",
    remove: Annotated[str | None, typer.Option(help="Remove the orphan of this name and all that it stores.")] = None,
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
      entrepot cloud orphans --remove cloud-old --yes
      entrepot cloud orphans --subscription 2222… --certificate contoso-cloud \\
        --azure-tenant contoso.onmicrosoft.com --azure-application 1111…
    """
    account = _account(host, host_pin, subscription, certificate, azure_tenant, azure_application)
    with site_session(ctx) as session:
        found = session.post("/cloud-orphans/search", OrphanSearch(account=account), list[Orphan])
        if remove is None:
            _print_orphans(found, as_json)
            return
        orphan = next((one for one in found if one.service == remove), None)
        if orphan is None:
            raise BadInputError(f"There is no orphan {remove!r}.", next_step="List them: entrepot cloud orphans")
        confirm(f"Remove the orphan {remove} and all that it stores ({_stored(orphan)})?", yes=yes)
        body = OrphanRequest(service=orphan.service, point=orphan.point, account=orphan.account)
        task = session.post("/cloud-orphans/remove", body, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


def _account(
    host: str, host_pin: str, subscription: str, certificate: str, tenant: str, application: str
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
            azure=AzureOptions(tenant=tenant, application=application),
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
