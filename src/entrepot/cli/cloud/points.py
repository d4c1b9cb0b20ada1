"""``entrepot cloud``: creating cloud points, showing them, and how they run (R1, R12, R21 to R27, R38)."""

from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.certificate import read_pfx
from entrepot.cli.cloud.output import print_cloud_point, print_cloud_points, print_dns, print_plan
from entrepot.cli.options import AsJson, Wait, application_id, pin_digits
from entrepot.cli.output import print_json, say, size
from entrepot.cli.secrets import REGISTRY_PASSWORD, SERVICE_PASSWORD, read_secret
from entrepot.cli.session import seg, site_session
from entrepot.cli.waiting import finish
from entrepot.core.errors import BadInputError, UnavailableError
from entrepot.core.sizes import parse_size
from entrepot.protocol.cloudapi import AUTHORITY, AZURE, HOST, AzureOptions, CloudPlan
from entrepot.protocol.cloudpointapi import (
    CloudPointInfo,
    CloudPointPatch,
    CloudPointRequest,
    CollectSummary,
    DnsCheck,
    ScaleRequest,
    Thresholds,
)
from entrepot.protocol.control import Delivery
from entrepot.protocol.siteapi import TaskInfo

app = typer.Typer(no_args_is_help=True, help="Cloud distribution points: create, watch, stop, start, scale, delete.")

Name = Annotated[str, typer.Argument(help="Name or id of the cloud point.")]
StorageQuota = Annotated[str, typer.Option(help="Upper bound of stored content; GB is 10^9 bytes.")]
TransferQuota = Annotated[str, typer.Option(help="Upper bound of transfers to clients in 30 days.")]
Features = Annotated[
    list[str] | None,
    typer.Option(
        "--feature", help="pull, pxe, multicast, prestaged: refused, with the reason; points on premises may have them."
    ),
]
DELIVERY = (
    "stream: through the gateways; redirect: clients fetch from the store by links, and a stop or a revocation takes "
    "up to 60 s longer."
)
Deliver = Annotated[Delivery, typer.Option(help=DELIVERY)]
NewDelivery = Annotated[Delivery | None, typer.Option("--delivery", help=DELIVERY)]
FREE = "Warn when so many percent of the storage quota, or less, are free."
IMAGE = "Gateway image: registry/name@sha256:…"
AUTHORITY_HELP = "Sign-in address of another Azure cloud (China, US Government); --host is its Resource Manager."
PORT = "Port at which clients reach it; 0: one that the cloud host chooses and keeps."
REGISTRY_USER = "User at the image registry, if it asks."
REGISTRY_PASSWORD_FILE = "File with that user's password."
CPU = "Cores of an Azure replica: 0.25 to 4 in steps of 0.25."
MEMORY = "GiB of memory of an Azure replica; it has twice as many as cores, so one of both is enough."
WARN = "Warn when so many percent of the transfer quota are used."
UPLOADS = "Upper bound of what the site sends in 30 days."
CRITICAL = "Critical alert when so many percent of the transfer quota are used."


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name: lower-case letters, digits, hyphens.")],
    subscription: Annotated[str, typer.Option(help="Subscription id at the cloud.")],
    certificate: Annotated[str, typer.Option("--certificate", help="Name of an imported management certificate.")],
    service_pfx: Annotated[Path, typer.Option(help="Service certificate with its key, PKCS#12.")],
    host: Annotated[str, typer.Option("--host", help="Address of the cloud host's management API.")] = "",
    host_pin: Annotated[str, typer.Option(help="SHA-256 of the host's TLS certificate; `host init` prints it.")] = "",
    azure_tenant: Annotated[str, typer.Option(help="Directory (tenant) id: the cloud is Azure.")] = "",
    azure_application: Annotated[str, typer.Option(help="Client id of the application registration.")] = "",
    azure_image: Annotated[str, typer.Option(help=IMAGE)] = "",
    azure_resource_group: Annotated[str, typer.Option(help="Resource group to use; empty: one of its own.")] = "",
    azure_redundancy: Annotated[str, typer.Option(help="LRS, ZRS or GRS.")] = "LRS",
    azure_authority: Annotated[str, typer.Option(help=AUTHORITY_HELP)] = AUTHORITY,
    registry_user: Annotated[str, typer.Option(help=REGISTRY_USER)] = "",
    registry_password_file: Annotated[Path | None, typer.Option(help=REGISTRY_PASSWORD_FILE)] = None,
    cpu: Annotated[float, typer.Option(min=0.25, max=4, help=CPU)] = 0.5,
    memory: Annotated[float | None, typer.Option(min=0.5, max=8, help=MEMORY)] = None,
    service_password_file: Annotated[Path | None, typer.Option(help="File with the password of --service-pfx.")] = None,
    fqdn: Annotated[str, typer.Option(help="Service name; default: the certificate's name.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65_535, help=PORT)] = 0,
    instances: Annotated[int, typer.Option(min=1, max=64, help="Gateway instances.")] = 2,
    region: Annotated[str, typer.Option(help="Region, where the cloud has several.")] = "",
    description: Annotated[str, typer.Option(help="A note for yourself.")] = "",
    delivery: Deliver = Delivery.STREAM,
    feature: Features = None,
    storage_quota: StorageQuota = "2000GB",
    storage_warning_free: Annotated[int, typer.Option(min=1, max=100, help=FREE)] = 10,
    transfer_quota: TransferQuota = "10000GB",
    transfer_warning: Annotated[int, typer.Option(min=1, max=100, help=WARN)] = 50,
    transfer_critical: Annotated[int, typer.Option(min=1, max=100, help=CRITICAL)] = 90,
    upload_quota: Annotated[str, typer.Option(help=UPLOADS)] = "10000GB",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and list what would be made.")] = False,
    adopt: Annotated[bool, typer.Option("--adopt", help="Take over the orphaned service of this name.")] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Create a cloud distribution point. Subscription and certificates are checked before anything is made.

    \b
    Example:
      entrepot cloud create cloud-eu --host https://vm1.contoso.com:8440 \\
        --host-pin 3F2A… --subscription sub-… --certificate contoso-cloud \\
        --service-pfx certs/cloud1.contoso.com.pfx --instances 2 \\
        --storage-quota 500GB --transfer-quota 2TB
      entrepot cloud create cloud-az --azure-tenant contoso.onmicrosoft.com \\
        --azure-application 1111… --azure-image contoso.azurecr.io/entrepot@sha256:… \\
        --subscription 2222… --region westeurope --certificate contoso-cloud \\
        --service-pfx certs/cloud2.contoso.com.pfx --dry-run
    """
    azure = None
    if azure_tenant or azure_application or azure_image:
        asked = None
        if registry_user:
            who = f"Password of {registry_user}"
            asked = read_secret(who, file=registry_password_file, options=REGISTRY_PASSWORD)
        azure = AzureOptions(
            tenant=azure_tenant,
            application=application_id(azure_application),
            image=azure_image,
            resource_group=azure_resource_group,
            redundancy=azure_redundancy.upper(),
            authority=azure_authority,
            registry_user=registry_user,
            registry_password="" if asked is None else asked.reveal_text(),
            cpu=cpu,
            memory_gib=2 * cpu if memory is None else memory,
        )
    password = read_secret(f"Password of {service_pfx.name}", file=service_password_file, options=SERVICE_PASSWORD)
    body = CloudPointRequest(
        name=name,
        provider=HOST if azure is None else AZURE,
        azure=azure,
        host_url=host,
        host_pin=pin_digits(host_pin),
        subscription=subscription,
        management_certificate=certificate,
        service_pfx=read_pfx(service_pfx),
        service_password=password.reveal_text(),
        fqdn=fqdn,
        port=port,
        region=region,
        instances=instances,
        description=description,
        features=tuple(feature or ()),
        delivery=delivery,
        thresholds=Thresholds(
            storage_quota=parse_size(storage_quota),
            storage_warning_free_percent=storage_warning_free,
            transfer_quota=parse_size(transfer_quota),
            transfer_warning_percent=transfer_warning,
            transfer_critical_percent=transfer_critical,
            upload_quota=parse_size(upload_quota),
        ),
    )
    with site_session(ctx) as session:
        if dry_run:
            print_plan(session.post("/cloud-points/plan", body, CloudPlan), as_json=as_json)
            return
        task = session.post("/cloud-orphans/adopt" if adopt else "/cloud-points", body, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)
        if wait and not as_json:
            print_cloud_point(session.get(f"/cloud-points/{seg(name)}", CloudPointInfo))


@app.command("list")
def list_points(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the cloud points with their state and usage.

    \b
    Example:
      entrepot cloud list
    """
    with site_session(ctx) as session:
        points = session.get("/cloud-points", list[CloudPointInfo])
    if as_json:
        print_json(points)
    else:
        print_cloud_points(points)


@app.command()
def show(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show a cloud point: state, instances, usage and its age, thresholds, DNS record to create.

    \b
    Example:
      entrepot cloud show cloud-eu
    """
    with site_session(ctx) as session:
        info = session.get(f"/cloud-points/{seg(name)}", CloudPointInfo)
    if as_json:
        print_json(info)
    else:
        print_cloud_point(info)


@app.command("set")
def set_point(
    ctx: typer.Context,
    name: Name,
    description: Annotated[str | None, typer.Option(help="A note for yourself; '' removes it.")] = None,
    delivery: NewDelivery = None,
    feature: Features = None,
    as_json: AsJson = False,
) -> None:
    """Change what may be changed after installation; what is left out stays. Thresholds have a command of their own.

    \b
    Examples:
      entrepot cloud set cloud-eu --description 'home offices in Europe'
      entrepot cloud set cloud-eu --delivery redirect
      entrepot cloud thresholds cloud-eu --transfer-quota 4TB
    """
    if description is None and delivery is None and not feature:
        raise BadInputError("Nothing was given to change.", next_step="Give --description or --delivery.")
    with site_session(ctx) as session:
        body = CloudPointPatch(description=description, features=tuple(feature or ()), delivery=delivery)
        info = session.call("PATCH", f"/cloud-points/{seg(name)}", body, CloudPointInfo)
    if as_json:
        print_json(info)
    else:
        print_cloud_point(info)


@app.command()
def dns(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Check, from the site, whether clients that ask for the service's name get to the cloud point (R6).

    Exit code 0: they do. Exit code 10: they do not; what to create or correct is said.

    \b
    Example:
      entrepot cloud dns cloud-eu
    """
    with site_session(ctx) as session:
        check = session.get(f"/cloud-points/{seg(name)}/dns", DnsCheck)
    if as_json:
        print_json(check)
    else:
        print_dns(name, check)
    if not check.good:
        raise typer.Exit(UnavailableError.family.exit_code)


@app.command()
def start(ctx: typer.Context, name: Name, wait: Wait = True, as_json: AsJson = False) -> None:
    """Start a stopped service.

    \b
    Example:
      entrepot cloud start cloud-eu
    """
    with site_session(ctx) as session:
        task = session.post(f"/cloud-points/{seg(name)}/start", None, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


@app.command()
def scale(
    ctx: typer.Context,
    name: Name,
    instances: Annotated[int, typer.Argument(min=1, max=64, help="Gateway instances wanted.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also to more instances than can serve one client under a budget.")
    ] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Change the number of gateway instances; running downloads go on (R12).

    Under a budget at most 8 instances can serve one client, so more are refused unless --force is given.

    \b
    Example:
      entrepot cloud scale cloud-eu 3
    """
    with site_session(ctx) as session:
        body = ScaleRequest(instances=instances, force=force)
        task = session.post(f"/cloud-points/{seg(name)}/scale", body, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


@app.command()
def collect(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Collect the transaction data now instead of an hour after the last collection, and evaluate the thresholds (R26).

    \b
    Example:
      entrepot cloud collect cloud-eu
    """
    with site_session(ctx) as session:
        summary = session.post(f"/cloud-points/{seg(name)}/collect", None, CollectSummary)
    if as_json:
        print_json(summary)
        return
    say(f"{summary.records} transactions, {size(summary.bytes)}, in {summary.segments} segments → {summary.log}")
    for gap in summary.gaps:
        say(f"[yellow]Warning:[/] the records of instance {gap} have a gap.")


@app.command()
def thresholds(
    ctx: typer.Context,
    name: Name,
    storage_quota: Annotated[str | None, typer.Option(help="Upper bound of stored content.")] = None,
    storage_warning_free: Annotated[int | None, typer.Option(min=1, max=100, help=FREE)] = None,
    transfer_quota: Annotated[str | None, typer.Option(help="Upper bound of transfers in 30 days.")] = None,
    transfer_warning: Annotated[int | None, typer.Option(min=1, max=100, help=WARN)] = None,
    transfer_critical: Annotated[int | None, typer.Option(min=1, max=100, help=CRITICAL)] = None,
    upload_quota: Annotated[str | None, typer.Option(help=UPLOADS)] = None,
    as_json: AsJson = False,
) -> None:
    """Change the alert thresholds; what is left out stays (R24). Percentages: free storage, used transfer.

    \b
    Example:
      entrepot cloud thresholds cloud-eu --storage-quota 800GB --transfer-warning 60
    """
    body = CloudPointPatch(
        storage_quota=None if storage_quota is None else parse_size(storage_quota),
        storage_warning_free_percent=storage_warning_free,
        transfer_quota=None if transfer_quota is None else parse_size(transfer_quota),
        transfer_warning_percent=transfer_warning,
        transfer_critical_percent=transfer_critical,
        upload_quota=None if upload_quota is None else parse_size(upload_quota),
    )
    with site_session(ctx) as session:
        info = session.call("PATCH", f"/cloud-points/{seg(name)}", body, CloudPointInfo)
    if as_json:
        print_json(info)
    else:
        print_cloud_point(info)
