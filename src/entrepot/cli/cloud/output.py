"""How cloud points and their usage are shown to people."""

from decimal import Decimal
from typing import Final

from entrepot.cli.output import age, day, hour, how_old, money, print_facts, print_json, print_rows, say, size, when
from entrepot.protocol.cloudapi import MACHINE, CloudPlan, Comparison, PlannedResource, RenewalPlan, UpdatePlan
from entrepot.protocol.cloudpointapi import (
    AzureInfo,
    CloudPointInfo,
    CloudUsage,
    DnsCheck,
    DnsRecord,
    UsageBucket,
    UsageReport,
)

_SEEN: Final = {True: "there", False: "missing", None: "not known: the site's DNS does not answer"}


def status(point: CloudPointInfo) -> str:
    """Ready, Provisioning, Upgrading, Stopped, Degraded or Error, with the state behind it where that says more."""
    word, state = point.status or point.state.value, point.state.value
    return word if word.lower() == state else f"{word} ({state})"


def print_cloud_points(points: list[CloudPointInfo]) -> None:
    """One line for each."""
    print_rows(
        ("Name", "Status", "Address", ">Instances", ">Stored", ">Transferred, 30 d", "Figures", "Message"),
        [
            (
                p.name,
                status(p),
                p.url,
                _instances(p),
                f"{size(p.usage.present_bytes)} of {size(p.thresholds.storage_quota)}",
                f"{size(p.usage.transferred_30_days)} of {size(p.thresholds.transfer_quota)}",
                _figures(p),
                p.message,
            )
            for p in points
        ],
        empty="No cloud point yet. Next: entrepot cloud create --help",
    )


def print_cloud_point(info: CloudPointInfo) -> None:
    """All properties (R38)."""
    limits, used = info.thresholds, info.usage
    print_facts(
        info.name,
        (
            ("id", info.id),
            ("description", info.description),
            ("status", status(info)),
            ("message", info.message),
            ("address for clients", info.url),
            ("DNS record to create", _record(info.dns)),
            ("instances", _instances(info)),
            ("under a budget", info.budget_note),
            ("Azure Resource Manager" if info.azure else "cloud host", info.host_url),
            ("its pin", info.host_pin),
            ("its next pin", info.host_next_pin),
            ("subscription", info.subscription),
            ("management certificate", info.management_certificate),
            ("service certificate", f"{info.certificate_subject}, expires {day(info.certificate_expires)}"),
            ("region", info.region),
            *_azure_facts(info.azure),
            ("managed by site", info.site),
            ("contents", str(info.contents)),
            ("stored", stored(used)),
            (
                "storage threshold",
                f"warning at {limits.storage_warning_free_percent} % free of {size(limits.storage_quota)}",
            ),
            ("delivery", f"{info.delivery.value}. {info.delivery_note}" if info.delivery_note else info.delivery.value),
            ("to clients, 30 days", _transferred(info)),
            ("from the site, 30 days", f"{size(used.uploaded_30_days)} of {size(limits.upload_quota)}"),
            ("to the site itself, 30 days", size(used.fetched_30_days)),
            ("stored, by the cloud", _measured(used.stored_bytes, used.stored_at)),
            ("stored, by the site's books", _measured(used.counted_bytes, used.counted_at)),
            (
                "stored, by the last listing",
                f"{size(used.listed_bytes)}, {when(used.listed_at)}; {_difference(used.difference)}"
                if used.listed_at
                else "",
            ),
            ("the cloud's own figures", _compared(info.compared)),
            ("last collection failed", used.error),
            (
                "transfer thresholds",
                f"warning at {limits.transfer_warning_percent} %, critical at "
                f"{limits.transfer_critical_percent} % of {size(limits.transfer_quota)}",
            ),
            ("figures", _figures(info)),
            ("control document", f"{info.control_counter}, pushed {when(info.control_pushed) or 'never'}"),
            ("last checked", when(info.checked)),
        ),
    )


def _azure_facts(azure: AzureInfo | None) -> tuple[tuple[str, str], ...]:
    """What only points in Azure have, and `entrepot cloud update` changes in part."""
    if azure is None:
        return ()
    password = "its password is kept sealed" if azure.registry_password else "without a password"
    return (
        ("tenant", azure.tenant),
        ("application", azure.application),
        ("resource group", azure.resource_group or "one of its own"),
        ("image", azure.image),
        ("image registry", f"as {azure.registry_user}; {password}" if azure.registry_user else "asks nobody"),
        ("size of a replica", f"{azure.cpu:g} cores, {azure.memory_gib:g} GiB of memory"),
        ("redundancy of the store", azure.redundancy),
    )


def print_dns(name: str, check: DnsCheck) -> None:
    """The record, and what is wrong with it, if anything is."""
    verdict = "good: clients get to the service by its name" if check.good else check.problem
    proofs = [("and besides", f"{_record(one)}  ({_SEEN[one.seen]})") for one in check.proofs]
    print_facts(name, (("DNS record to create", _record(check.record)), *proofs, ("check", verdict)))


def _record(record: DnsRecord | None) -> str:
    return f"{record.name}  {record.type}  {record.value}" if record else ""


def _instances(info: CloudPointInfo) -> str:
    running = sum(1 for instance in info.instances if instance.state == "running")
    return f"{running} of {info.instances_wanted}"


def stored(used: CloudUsage) -> str:
    """The newest figure, by which thresholds are judged, and whose it is."""
    if not used.present_at:
        return "not known yet"
    if used.present_at > used.stored_at:
        return f"{_measured(used.present_bytes, used.present_at)}, counted by the site"
    objects = f" in {used.stored_objects} objects" if used.stored_objects else ""  # not every cloud counts them
    return f"{size(used.present_bytes)}{objects}, {when(used.present_at)}, measured by the cloud"


def _measured(count: int, at: int) -> str:
    return f"{size(count)}, {when(at)}" if at else ""


def _transferred(info: CloudPointInfo) -> str:
    used = info.usage
    granted = f", {size(used.granted_30_days)} of it granted by links" if used.granted_30_days else ""
    return f"{size(used.transferred_30_days)}{granted}"


def _figures(info: CloudPointInfo) -> str:
    return how_old(info.usage.collected, info.usage.age_seconds)


def _difference(count: int) -> str:
    if not count:
        return "its objects are those of the site's books of that moment"
    return f"its objects were {abs(count):,} bytes {'more' if count > 0 else 'less'} than the site's books said then"


def _compared(found: Comparison) -> str:
    """What the last daily comparison found, how old it is, and why there is no newer one."""
    differing = [
        f"{one.figure} differs: {size(one.by_cloud or 0)} by the cloud, {size(one.by_site or 0)} by the site"
        for one in found.figures
        if one.verdict == "differs"
    ]
    agreeing = [f"{one.figure} agrees" for one in found.figures if one.verdict == "agrees"]
    told = "; ".join((*differing, *agreeing)) or "none is told"
    compared = f"{told}; compared {age(found.age_seconds)} ago. " if found.at else ""
    return f"{compared}Last attempt, {when(found.tried)}: {found.error}" if found.error else compared.strip()


def print_plan(plan: CloudPlan, *, as_json: bool) -> None:
    """What would be created, and what it costs before anything is stored or sent."""
    if as_json:
        print_json(plan)
        return
    for check in plan.checks:
        say(f"[green]✓[/] {check}")
    rows = [
        (one.kind, one.name, one.meter or "free", price(one), "stays" if one.stays else "ends")
        for one in plan.resources
    ]
    print_rows(("What", "Name", "Charged by", ">A month", "While stopped"), rows, empty="Nothing would be created.")
    say(f"Together, before anything is stored or sent: {money(plan.monthly, plan.currency)}")
    print_unpriced(plan.unpriced)
    _print_remarks(plan.remarks)
    say("Nothing was created.")


def print_update(name: str, plan: UpdatePlan, *, as_json: bool) -> None:
    """What an update would change of a cloud point's options."""
    if as_json:
        print_json(plan)
        return
    rows = [(one.option, one.now, one.then if one.then != one.now else "stays") for one in plan.options]
    print_rows(("Option", "Now", "Then"), rows, empty=f"{name} has no options that could be changed.")
    _print_remarks(plan.remarks)
    say("The service would be brought to that; running downloads would go on. Nothing was changed.")


def print_renewal(plan: RenewalPlan, *, as_json: bool) -> None:
    """What a renewal of a certificate would exchange."""
    if as_json:
        print_json(plan)
        return
    for check in plan.checks:
        say(f"[green]✓[/] {check}")
    now = ("Now", plan.thumbprint[:16], when(plan.expires))
    then = ("Then", plan.new_thumbprint[:16], when(plan.new_expires))
    print_rows((plan.subject, "Thumbprint", "Ends"), (now, then), empty="")
    _print_remarks(plan.remarks)
    say("Nothing was changed.")


def _print_remarks(remarks: tuple[str, ...]) -> None:
    for remark in remarks:
        say(f"[yellow]Remark:[/] {remark}")


def print_unpriced(meters: tuple[str, ...]) -> None:
    """What has no price, and where prices come from."""
    if meters:
        say(f"[yellow]Without a known price:[/] {', '.join(meters)}")
    if {*meters} - {MACHINE}:  # whoever rents a cloud host's machine knows its price; no sheet does
        say("Next: entrepot cost sheet use NAME; the sheets: entrepot cost sheet list")


def price(resource: PlannedResource) -> str:
    """What a part costs a month; of what is charged by use, and is not used yet, the price of a unit."""
    if not resource.meter:
        return ""
    if resource.rate is None or resource.quantity:
        return money(resource.monthly, resource.currency)
    rate = format(Decimal(f"{resource.rate:.6g}"), "f")  # a request costs a few ten millionths
    return f"by use, {rate} {resource.currency} per {resource.unit or 'unit'}"


def print_usage(report: UsageReport, *, by: str) -> None:
    """One line an hour, or an hour and subject; what all of them come to, and how old it is."""
    rows = [_usage_row(bucket, by) for bucket in report.buckets]
    headings = ("Hour", *((by.capitalize(),) if by else ()), ">Requests", ">Failed", ">To clients", ">By links")
    empty = "Nothing was transferred, or nothing was collected yet. Next: entrepot cloud collect NAME"
    print_rows(headings if by else (*headings, ">From the site", ">To the site"), rows, empty=empty)
    if rows:
        requests = sum(one.requests for one in report.buckets)
        sent = sum(one.sent + one.granted for one in report.buckets)
        say(f"Together: {size(sent)} to clients in {requests:,} requests.")
    if report.more:
        say("[yellow]Warning:[/] there are more lines; ask for fewer --days.")
    figures = f"{age(report.age_seconds)} old, collected {when(report.collected)}" if report.collected else ""
    say(f"Figures: {figures or 'not collected yet'}.")


def _usage_row(bucket: UsageBucket, by: str) -> tuple[str, ...]:
    begin = hour(bucket.hour)
    figures = (str(bucket.requests), str(bucket.failed), size(bucket.sent), size(bucket.granted))
    return (
        (begin, bucket.name or bucket.subject or "not known", *figures)
        if by
        else (begin, *figures, size(bucket.uploaded), size(bucket.fetched))
    )
