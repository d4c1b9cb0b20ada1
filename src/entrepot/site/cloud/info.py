"""Cloud points and alerts as the admin API shows them (R26, R38)."""

from typing import Final, Literal

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError
from entrepot.core.times import DAY
from entrepot.database import alerts, charges, cloud, clouddetails, controldocuments, points, usage
from entrepot.database.alerts import StoredAlert
from entrepot.database.cloud import CloudPoint
from entrepot.database.clouddetails import CloudDetail
from entrepot.protocol.alertapi import AlertEvent, AlertInfo, AlertState, Severity
from entrepot.protocol.cloudapi import Comparison
from entrepot.protocol.cloudpointapi import AzureInfo, CloudPointInfo, CloudUsage, UsageBucket, UsageReport
from entrepot.rules import alerts as rules
from entrepot.rules.notifying import check_types
from entrepot.rules.thresholds import rolling_start
from entrepot.site.cloud import crowding, delivery
from entrepot.site.cloud.dns import record_for
from entrepot.site.cloud.status import status_of

MAX_HOURS: Final = 10_000


def cloud_point_info(connection: Connection, point: CloudPoint, *, now: float) -> CloudPointInfo:
    """Everything that the console shows of a cloud point."""
    control = controldocuments.control(connection, point.point)
    certificate = cloud.certificate(connection, point.management_certificate)
    kept = clouddetails.detail(connection, point.point)
    return CloudPointInfo(
        id=point.point,
        name=point.name,
        description=point.description,
        provider=point.provider,
        host_url=point.host_url,
        host_pin=point.host_pin,
        host_next_pin=point.host_next_pin,
        subscription=point.subscription,
        management_certificate=certificate.name,
        region=point.region,
        fqdn=point.fqdn,
        url=point.url,
        site=point.site,
        state=point.state,
        message=point.message or control.error,
        instances_wanted=point.instances_wanted,
        instances=point.instances,
        certificate_subject=point.certificate_subject,
        certificate_thumbprint=point.certificate_thumbprint,
        certificate_expires=point.certificate_expires,
        dns=record_for(point.fqdn, point.address),
        thresholds=point.thresholds,
        usage=_usage(connection, point.point, now),
        control_counter=control.counter,
        control_pushed=control.pushed_at,
        contents=points.held_contents(connection).get(point.point, 0),
        checked=point.checked,
        created=point.created,
        status=status_of(point.state),
        health=kept.health,
        delivery=point.delivery,
        delivery_note=delivery.note_on(connection, point.point, point.delivery),
        budget_note=crowding.note_on(connection, point),
        compared=_compared(connection, point.point, now),
        azure=_azure(kept),
    )


def _azure(kept: CloudDetail) -> AzureInfo | None:
    if kept.azure is None:
        return None
    shown = {name: getattr(kept.azure, name) for name in AzureInfo.__struct_fields__ if name != "registry_password"}
    return AzureInfo(**shown, registry_password=bool(kept.sealed_secret))


def _usage(connection: Connection, point: str, now: float) -> CloudUsage:
    kept = usage.stored_usage(connection, point)
    totals = usage.totals_since(connection, point, rolling_start(now))
    present, present_at = kept.present()
    oldest = min(present_at, kept.collected)
    return CloudUsage(
        stored_bytes=kept.stored_bytes,
        stored_objects=kept.stored_objects,
        stored_at=kept.stored_at,
        transferred_30_days=totals.sent,
        uploaded_30_days=totals.uploaded,
        collected=kept.collected,
        age_seconds=max(0, int(now) - oldest) if oldest else 0,
        counted_bytes=kept.counted_bytes,
        counted_at=kept.counted_at,
        listed_bytes=kept.listed_bytes,
        listed_at=kept.listed_at,
        difference=kept.listed_difference,
        error=kept.error,
        granted_30_days=totals.granted,
        fetched_30_days=totals.fetched,
        present_bytes=present,
        present_at=present_at,
    )


def _compared(connection: Connection, point: str, now: float) -> Comparison:
    found = usage.comparison(connection, point)
    return msgspec.structs.replace(found, age_seconds=max(0, int(now) - found.at)) if found.at else found


def usage_report(
    connection: Connection, point: CloudPoint, *, now: float, since: int | None, until: int | None, by: str
) -> UsageReport:
    """Hourly figures, and how old they are; the last 30 days unless told otherwise.

    Raises:
        BadInputError: ``by`` is neither empty, ``device`` nor ``content``.
    """
    begin = rolling_start(now) if since is None else since
    end = int(now) + DAY if until is None else until
    if not by:
        rows = usage.hours(connection, point.point, since=begin, until=end, limit=MAX_HOURS + 1)
    else:
        rows = usage.hours_by(connection, point.point, since=begin, until=end, by=_by(by), limit=MAX_HOURS + 1)
    collected = usage.stored_usage(connection, point.point).collected
    names = _names(connection, by, [row.subject for row in rows])
    return UsageReport(
        cloud_point=point.name,
        since=begin,
        until=end,
        collected=collected,
        age_seconds=max(0, int(now) - collected) if collected else 0,
        more=len(rows) > MAX_HOURS,
        buckets=tuple(
            UsageBucket(
                hour=row.hour,
                subject=row.subject,
                requests=row.requests,
                failed=row.failed,
                sent=row.sent - row.granted,
                uploaded=row.uploaded,
                granted=row.granted,
                fetched=row.fetched,
                name=names.get(row.subject, ""),
            )
            for row in rows[:MAX_HOURS]
        ),
    )


def _names(connection: Connection, by: str, subjects: list[str]) -> dict[str, str]:
    """What people call these devices or contents; nothing for those that are gone."""
    if not by:
        return {}
    return charges.names(connection) if by == "content" else charges.device_names(connection, sorted(set(subjects)))


def _by(text: str) -> Literal["device", "content"]:
    match text:
        case "device" | "content":
            return text
        case _:
            raise BadInputError(f"Usage is not kept by {text[:40]!r}.", next_step="Use device or content.")


def alert_info(stored: StoredAlert) -> AlertInfo:
    """An alert with its title and remedies (R25)."""
    kind, alert = rules.ALERT_TYPES[stored.alert.type], stored.alert
    return AlertInfo(
        id=stored.id,
        type=alert.type,
        subject=alert.subject,
        subject_name=stored.subject_name,
        title=kind.title,
        severity=Severity(kind.severity.value),
        state=AlertState(alert.state.value),
        message=alert.message,
        remedies=kind.remedies,
        occurrences=alert.occurrences,
        created=stored.created,
        changed=alert.changed,
        skip_until=alert.skip_until,
        closed_by=alert.closed_by,
        comment=alert.comment,
    )


def alert_infos(
    connection: Connection,
    *,
    only_open: bool,
    state: AlertState | None,
    subject: str,
    of_type: str,
    severity: Severity | None,
) -> list[AlertInfo]:
    """Alerts that are known types: open ones first, then those that changed last.

    Raises:
        BadInputError: there is no such type.
    """
    check_types((of_type,) if of_type else ())
    wanted = None if state is None else rules.AlertState(state.value)
    types = [
        kind.key
        for kind in rules.ALERT_TYPES.values()
        if of_type in ("", kind.key) and (severity is None or kind.severity.value == severity.value)
    ]
    found = alerts.listed(connection, only_open=only_open, state=wanted, subject=subject, types=types)
    return [alert_info(one) for one in found]


def alert_events(connection: Connection, alert_id: str) -> list[AlertEvent]:
    """What happened to an alert, oldest first.

    Raises:
        NotFoundError: there is none with this id.
    """
    alerts.get(connection, alert_id)
    return [
        AlertEvent(at=row.at, event=row.event.value, state=AlertState(row.state.value), by=row.by, message=row.message)
        for row in alerts.history(connection, alert_id)
    ]
