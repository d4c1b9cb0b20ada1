"""What there is in Azure: a service's status, all services with our mark, what Azure Monitor counted. Reads only."""

from datetime import UTC, datetime
from typing import Any, Final

from azure.core.exceptions import ResourceNotFoundError

from entrepot.cloud.providers.azure import names
from entrepot.cloud.providers.azure.account import AzureAccount
from entrepot.cloud.providers.azure.errors import azure_errors
from entrepot.cloud.providers.azure.leftovers import incomplete
from entrepot.core.errors import EntrepotError, FormatError, NotFoundError
from entrepot.protocol.cloudapi import CloudMetrics
from entrepot.protocol.cloudhost import Instance, NeededRecord, RunState, ServiceStatus, proof_name

UNTOLD: Final = -1
"""Azure does not know which control document a replica obeys: each reads it every two seconds."""


def status(account: AzureAccount, service: str) -> ServiceStatus:
    """The service as it is now.

    Raises:
        NotFoundError: there is no container app of that name with a mark of ours.
    """
    group = names.names_of(service, "", account.access.options.resource_group).group
    with azure_errors(f"the container app {service}"):
        app = account.apps.container_apps.get(group, service)
    if names.POINT not in (app.tags or {}):
        raise NotFoundError(f"The container app {service} is not a cloud point's.")
    return _status(account, group, app)


def services(account: AzureAccount) -> list[ServiceStatus]:
    """All services of the subscription that carry a hierarchy's mark, by name; of ours also what is left without an
    app."""
    with azure_errors("the container apps of the subscription"):
        apps = [app for app in account.apps.container_apps.list_by_subscription() if names.ROOT in (app.tags or {})]
    found = [_status(account, _group_of(str(app.id)), app) for app in apps]
    whole = {(one.name, one.point) for one in found}
    found += [one for one in incomplete(account) if (one.name, one.point) not in whole]
    return sorted(found, key=lambda one: one.name)


def _status(account: AzureAccount, group: str, app: Any) -> ServiceStatus:
    tags = app.tags or {}
    properties = app.properties
    ingress = properties.configuration.ingress
    fqdn = tags.get(names.FQDN, "")
    bound = next((one for one in ingress.custom_domains or () if str(one.name).lower() == fqdn.lower()), None)
    instances = _replicas(account, group, app)
    scale = properties.template.scale
    notes, records = _name_notes(app, fqdn, bound)
    stored, stored_at = _stored(account, group, tags)
    expires, thumbprint = _certificate(account, group, app, bound)
    return ServiceStatus(
        name=str(app.name),
        point=tags.get(names.POINT, ""),
        fqdn=fqdn,
        state=_state(properties, instances),
        address=f"{ingress.fqdn}:443" if ingress.fqdn else "",
        wanted=int(scale.min_replicas or 0),
        instances=instances,
        stored_bytes=stored,
        stored_at=stored_at,
        stored_objects=0,
        certificate_expires=expires,
        certificate_thumbprint=thumbprint,
        root=_root(tags),
        notes=notes,
        records=records,
        place=names.given_group(str(app.name), group),
        redirects=True,
    )


def _state(properties: Any, instances: tuple[Instance, ...]) -> RunState:
    if properties.provisioning_state == "Deleting":
        return RunState.DELETING
    if properties.running_status in ("Stopped", "Suspended"):
        return RunState.STOPPED
    if properties.provisioning_state == "InProgress" or properties.running_status == "Progressing":
        return RunState.STARTING
    running = any(one.state == "running" for one in instances)
    return RunState.RUNNING if running else RunState.DEGRADED


def _replicas(account: AzureAccount, group: str, app: Any) -> tuple[Instance, ...]:
    revision = app.properties.latest_ready_revision_name or app.properties.latest_revision_name
    if not revision or app.properties.running_status == "Stopped":
        return ()
    with azure_errors(f"the replicas of {app.name}"):
        try:
            listed = account.apps.container_apps_revision_replicas.list_replicas(group, str(app.name), revision)
        except ResourceNotFoundError:
            return ()
    return tuple(_instance(one) for one in listed.value or ())


def _instance(replica: Any) -> Instance:
    properties = replica.properties
    containers = properties.containers or ()
    created = int(properties.created_time.timestamp()) if properties.created_time else 0
    ready = bool(containers) and all(one.ready for one in containers)
    return Instance(
        id=str(replica.name),
        state="running" if ready and properties.running_state == "Running" else "starting",
        started=created,
        heartbeat=int(datetime.now(UTC).timestamp()) if ready else 0,
        restarts=sum(int(one.restart_count or 0) for one in containers),
        control=UNTOLD,
    )


def _name_notes(app: Any, fqdn: str, bound: Any) -> tuple[tuple[str, ...], tuple[NeededRecord, ...]]:
    """What keeps clients from using the service's own name, and the records that Azure wants to see for it."""
    told = app.properties.custom_domain_verification_id
    proofs = (NeededRecord(name=proof_name(fqdn), type="TXT", value=str(told)),) if told else ()
    if bound is not None:
        return (), proofs
    host = app.properties.configuration.ingress.fqdn or ""
    wanted = " and ".join((f"{fqdn} CNAME {host}", *(f"{one.name} TXT {one.value}" for one in proofs)))
    return (
        f"Azure does not serve {fqdn} yet: create the DNS record{'s' if proofs else ''} {wanted}. "
        f"The site binds the name soon after it sees {'them' if proofs else 'it'}.",
    ), proofs


def _certificate(account: AzureAccount, group: str, app: Any, bound: Any) -> tuple[int, str]:
    """End and thumbprint of the service certificate that is bound; of the newest in the environment while none is."""
    environment = str(app.properties.environment_id or app.properties.managed_environment_id or "").rpartition("/")[2]
    with azure_errors("the service certificate"):
        try:
            if bound is not None and bound.certificate_id:
                name = str(bound.certificate_id).rpartition("/")[2]
                kept = [account.apps.certificates.get(group, environment, name)]
            else:
                kept = [
                    one
                    for one in account.apps.certificates.list(group, environment)
                    if (one.tags or {}).get(names.SERVICE) == app.name
                ]
        except ResourceNotFoundError:
            return 0, ""
    told = [one.properties for one in kept if one.properties and one.properties.expiration_date]
    ends = ((int(one.expiration_date.timestamp()), str(one.thumbprint or "").lower()) for one in told)
    return max(ends, default=(0, ""))


def _root(tags: dict[str, str]) -> bytes:
    try:
        return bytes.fromhex(tags.get(names.ROOT, ""))
    except ValueError:
        return b""


def _group_of(resource_id: str) -> str:
    parts = resource_id.split("/")
    lower = [part.lower() for part in parts]
    try:
        return parts[lower.index("resourcegroups") + 1]
    except (ValueError, IndexError):
        raise FormatError("Azure named a resource without its resource group.") from None


def _stored(account: AzureAccount, group: str, tags: dict[str, str]) -> tuple[int | None, int]:
    """Azure Monitor's last figure of used capacity, which is some hours old, up to a day, and as of when it is; None
    while there is none."""
    now = int(datetime.now(UTC).timestamp())
    try:
        return _latest(account, _storage_id(account, group, tags), "UsedCapacity", now - 86_400, now)
    except EntrepotError:  # a figure, not the service: its absence shows as the age of the figures
        return None, 0


def _storage_id(account: AzureAccount, group: str, tags: dict[str, str]) -> str:
    name = names.storage_name(tags.get(names.POINT, ""))
    return (
        f"/subscriptions/{account.access.subscription}/resourceGroups/{group}"
        f"/providers/Microsoft.Storage/storageAccounts/{name}"
    )


def metrics(account: AzureAccount, service: str, since: int, until: int) -> CloudMetrics:
    """Azure Monitor's own figures: capacity and number of blobs, bytes that left the gateways.

    Raises:
        NotFoundError: there is no such service.
        EntrepotError: as ``errors`` translates.
    """
    group = names.names_of(service, "", account.access.options.resource_group).group
    with azure_errors(f"the container app {service}"):
        app = account.apps.container_apps.get(group, service)
    storage = _storage_id(account, group, app.tags or {})
    return CloudMetrics(
        stored_bytes=_latest(account, storage, "UsedCapacity", since, until)[0],
        stored_objects=_latest(account, f"{storage}/blobServices/default", "BlobCount", since, until)[0],
        egress_bytes=_total(account, str(app.id), "TxBytes", since, until),
        store_egress_bytes=_total(account, storage, "Egress", since, until),
        since=since,
        until=until,
    )


def _points(account: AzureAccount, resource: str, metric: str, aggregation: str, since: int, until: int) -> list[Any]:
    span = f"{_iso(since)}/{_iso(until)}"
    with azure_errors(f"the metric {metric}"):
        answer = account.monitor.metrics.list(
            resource.lstrip("/"), timespan=span, interval="PT1H", metricnames=metric, aggregation=aggregation
        )
    return [point for one in answer.value or () for series in one.timeseries or () for point in series.data or ()]


def _latest(account: AzureAccount, resource: str, metric: str, since: int, until: int) -> tuple[int | None, int]:
    """The last average that there is, and when its hour began; (None, 0) while there is none."""
    points = _points(account, resource, metric, "Average", since, until)
    told = [(int(one.time_stamp.timestamp()), int(one.average)) for one in points if one.average is not None]
    at, value = max(told, default=(0, None))
    return value, at


def _total(account: AzureAccount, resource: str, metric: str, since: int, until: int) -> int | None:
    values = [one.total for one in _points(account, resource, metric, "Total", since, until) if one.total is not None]
    return int(sum(values)) if values else None


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
