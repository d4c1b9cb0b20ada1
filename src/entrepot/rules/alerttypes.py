"""The kinds of alerts: severity, title, and what an administrator can do (R25; domain page, section 5)."""

from enum import StrEnum
from typing import Final

import msgspec


class Severity(StrEnum):
    """How urgent an alert is."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFORMATIONAL = "informational"


class AlertType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of alert. ``remedies``: what an administrator can do (R25), the mildest first."""

    key: str
    severity: Severity
    title: str
    remedies: tuple[str, ...]


_TRIM: Final = "Remove content that clients of this cloud point no longer need, or distribute it elsewhere."
_USERS: Final = "Change who may use it: the client setting 'Allow access to cloud distribution point', or deployments."
_STOP: Final = "Stop the service: clients are cut off at once, content stays, and transfers cost nothing meanwhile."
_RAISE: Final = "Raise the threshold, if the cost is intended."
_LIFT: Final = "Raise the budget, or lift it: entrepot budget set --help"
_SCHEDULE: Final = "Distribute less often, or fewer versions: what the site sends is sent once for each version."
_PEERS: Final = "Let clients share with their neighbours (BranchCache), which reduces transfers."

LIBRARY_DAMAGE: Final = "library_damage"
RESEAL_LATE: Final = "reseal_late"
SERVER_CERTIFICATE: Final = "server_certificate"
SERVER_CERTIFICATE_ENDED: Final = "server_certificate_ended"
_OTHERS: Final = (LIBRARY_DAMAGE, RESEAL_LATE, SERVER_CERTIFICATE, SERVER_CERTIFICATE_ENDED)
"""The types that are about the library, about points on premises and the site; all others are about cloud points."""

_SERVICE_CERTIFICATE: Final = "Renew the service certificate under the same name and import its .pfx file."
_MANAGEMENT_CERTIFICATE: Final = (
    "For a management certificate: upload the new .cer to the subscription first, then import the .pfx file."
)
_POINT_AWAY: Final = (
    "See whether the point runs and reaches its site: it renews by itself, and its log says why it cannot."
)
_POINT_ANEW: Final = "Enrol the point anew: entrepot point remove NAME, then entrepot point add NAME."
_SITE_LOG: Final = "If it is the site's own: the log of the site server says why it was not renewed."

_TYPES: Final = (
    AlertType(
        key="storage_warning",
        severity=Severity.WARNING,
        title="Stored content is close to its bound",
        remedies=(_TRIM, _RAISE),
    ),
    AlertType(
        key="storage_critical",
        severity=Severity.CRITICAL,
        title="Stored content has reached its bound",
        remedies=(_TRIM, _RAISE, "Delete the cloud point, if it is no longer needed: stopping it frees no storage."),
    ),
    AlertType(
        key="transfer_warning",
        severity=Severity.WARNING,
        title="Transfers to clients have reached the warning level",
        remedies=(_PEERS, _TRIM, _USERS, _STOP, _RAISE),
    ),
    AlertType(
        key="transfer_critical",
        severity=Severity.CRITICAL,
        title="Transfers to clients have reached the critical level",
        remedies=(_STOP, _USERS, _TRIM, _PEERS, _RAISE),
    ),
    AlertType(
        key="upload_warning",
        severity=Severity.WARNING,
        title="Transfers from the site have reached the warning level",
        remedies=(_SCHEDULE, _TRIM, _RAISE),
    ),
    AlertType(
        key="upload_critical",
        severity=Severity.CRITICAL,
        title="Transfers from the site have reached the critical level",
        remedies=(_SCHEDULE, _TRIM, _RAISE),
    ),
    AlertType(
        key="storage_forecast",
        severity=Severity.WARNING,
        title="Stored content will reach its bound soon",
        remedies=(_TRIM, _RAISE),
    ),
    AlertType(
        key="transfer_forecast",
        severity=Severity.WARNING,
        title="Transfers to clients will reach the critical level soon",
        remedies=(_PEERS, _TRIM, _USERS, _RAISE),
    ),
    AlertType(
        key="budget_step",
        severity=Severity.WARNING,
        title="The budget has reached a step",
        remedies=(_LIFT, _TRIM, _USERS),
    ),
    AlertType(
        key="budget_used_up",
        severity=Severity.CRITICAL,
        title="The budget is used up",
        remedies=(_LIFT, _TRIM, _USERS),
    ),
    AlertType(
        key="figures_stale",
        severity=Severity.WARNING,
        title="No figures have come from the cloud point for hours",
        remedies=(
            "Look at the last error of the collection, and run: entrepot cloud collect NAME",
            "Until figures come, compare with the cloud's own metrics: transfers may have passed a threshold unseen.",
        ),
    ),
    AlertType(
        key="figures_differ",
        severity=Severity.WARNING,
        title="The cloud's own figures differ from the site's",
        remedies=(
            "Look again, over more days: entrepot cloud metrics NAME --days 7",
            "If the cloud counted more: look for missing records (accounting_gap), and who else uses the service.",
            "If it stores other than the site's books say: entrepot point validate NAME",
        ),
    ),
    AlertType(
        key="service_not_active",
        severity=Severity.CRITICAL,
        title="The cloud service is not active",
        remedies=(
            "Look at the state of its instances; start the service again if it was stopped at the cloud.",
            "Until it is active, distribute urgent content to other points.",
        ),
    ),
    AlertType(
        key="service_degraded",
        severity=Severity.WARNING,
        title="The cloud service runs, but not as wanted",
        remedies=(
            "See what is missing: entrepot cloud health NAME --now",
            "If it names DNS records: create them; the name is bound soon after. At once: entrepot cloud update NAME",
            "If instances do not run: look at their log at the cloud, and whether its quota has room for them.",
        ),
    ),
    AlertType(
        key="subscription_problem",
        severity=Severity.CRITICAL,
        title="The cloud subscription has a problem",
        remedies=(
            "Check the subscription at the cloud: that it is active, within its quotas, and still has the management "
            "certificate's .cer file.",
        ),
    ),
    AlertType(
        key="certificate_problem",
        severity=Severity.WARNING,
        title="A certificate of the cloud point has expired or expires soon",
        remedies=(_SERVICE_CERTIFICATE, _MANAGEMENT_CERTIFICATE),
    ),
    AlertType(
        key="certificate_60_days",
        severity=Severity.INFORMATIONAL,
        title="A certificate of the cloud point expires within 60 days",
        remedies=(_SERVICE_CERTIFICATE, _MANAGEMENT_CERTIFICATE),
    ),
    AlertType(
        key="certificate_7_days",
        severity=Severity.CRITICAL,
        title="A certificate of the cloud point expires within 7 days",
        remedies=(_SERVICE_CERTIFICATE, _MANAGEMENT_CERTIFICATE),
    ),
    AlertType(
        key="certificate_1_day",
        severity=Severity.CRITICAL,
        title="A certificate of the cloud point expires within a day",
        remedies=(_SERVICE_CERTIFICATE, _MANAGEMENT_CERTIFICATE),
    ),
    AlertType(
        key="certificate_expired",
        severity=Severity.CRITICAL,
        title="A certificate of the cloud point has expired",
        remedies=(_SERVICE_CERTIFICATE, _MANAGEMENT_CERTIFICATE),
    ),
    AlertType(
        key="store_problem",
        severity=Severity.CRITICAL,
        title="The cloud point's store cannot be used",
        remedies=("Look at the store's disk, quota and permissions at the cloud; update the cloud point.",),
    ),
    AlertType(
        key="clock_skew",
        severity=Severity.WARNING,
        title="The cloud's clock and the site's differ",
        remedies=(
            "Let both computers take their time from the network; tokens fail when clocks are two minutes apart.",
        ),
    ),
    AlertType(
        key="dns_problem",
        severity=Severity.WARNING,
        title="The service's name leads elsewhere",
        remedies=("Correct the alias (CNAME) that `entrepot cloud dns NAME` shows.",),
    ),
    AlertType(
        key="accounting_gap",
        severity=Severity.WARNING,
        title="Transaction records are missing",
        remedies=(
            "Compare the transfer figures with the cloud's own metrics: the true transfers may be higher.",
            "Look whether somebody removed segments from the store, or an instance lost its disk.",
        ),
    ),
    AlertType(
        key=LIBRARY_DAMAGE,
        severity=Severity.CRITICAL,
        title="Objects of the library are missing or damaged",
        remedies=(
            "Bring them back from the source, other points or the cloud: entrepot library repair",
            "See which versions need what is left: entrepot library faults; publish them again from the same files.",
            "Check the disk of the site server before it damages more.",
        ),
    ),
    AlertType(
        key=RESEAL_LATE,
        severity=Severity.CRITICAL,
        title="Versions wait to be sealed anew",
        remedies=(
            "See what waits, and what works on it: entrepot key status, entrepot task list --kind reseal",
            "Ask for it again: entrepot key reseal",
            "If an object is missing or damaged: entrepot library repair, then ask again; or publish anew and delete "
            "the version.",
        ),
    ),
    AlertType(
        key=SERVER_CERTIFICATE,
        severity=Severity.WARNING,
        title="A server's certificate was not renewed in time",
        remedies=(_POINT_AWAY, _SITE_LOG),
    ),
    AlertType(
        key=SERVER_CERTIFICATE_ENDED,
        severity=Severity.CRITICAL,
        title="A server's certificate has ended",
        remedies=(_POINT_AWAY, _POINT_ANEW, _SITE_LOG),
    ),
)

ALERT_TYPES: Final[dict[str, AlertType]] = {one.key: one for one in _TYPES}
CLOUD_POINT_ALERTS: Final = tuple(key for key in ALERT_TYPES if key not in _OTHERS)
