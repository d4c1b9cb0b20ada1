"""The alerts about certificates of servers: points on premises, and the site itself (R37).

Both renew theirs by themselves, two months before it ends. One that was not renewed two weeks later has a reason that
somebody should look for, as long as it still works.
"""

from typing import Final

from cryptography import x509
from sqlalchemy import Connection

from entrepot.core.times import DAY
from entrepot.database import alerts, points
from entrepot.rules import sentences
from entrepot.rules.alerts import Condition
from entrepot.rules.alerttypes import SERVER_CERTIFICATE, SERVER_CERTIFICATE_ENDED
from entrepot.rules.sentences import say
from entrepot.site.findings import Finding, condition_of, judge
from entrepot.trust.authority import RENEW_DAYS
from entrepot.trust.inspection import expires

LATE_DAYS: Final = RENEW_DAYS - 14
"""A certificate that has fewer days left should have been renewed two weeks ago."""
SITE: Final = "site"
"""The subject of the alerts about the site's own."""


def judge_certificates(connection: Connection, site: str, certificate: x509.Certificate | None, now: float) -> None:
    """Open, close or keep these alerts.

    Args:
        site: the site's code; other sites look after their own points.
        certificate: the site's own; None when it could not be read.
    """
    ends = expires(certificate) if certificate is not None else 0
    judge(connection, SITE, f"site {site}", findings_of("site", ends, now), now)
    for point in points.list_points(connection, site=site, kind=points.STANDARD, state=points.ACTIVE):
        judge(connection, point.id, point.name, findings_of(point.name, point.certificate_expires, now), now)
    there = {SITE, *(point.id for point in points.list_points(connection))}
    for removed in alerts.subjects(connection, SERVER_CERTIFICATE) - there:
        alerts.end_subject(connection, removed, now=int(now))


def findings_of(name: str, ends: int, now: float) -> list[Finding]:
    """What a certificate's end means; ``ends`` 0: it is not known."""
    if not ends:
        return [
            Finding(type=type_, condition=Condition.UNKNOWN) for type_ in (SERVER_CERTIFICATE, SERVER_CERTIFICATE_ENDED)
        ]
    late, over = now < ends < now + LATE_DAYS * DAY, ends <= now
    days = int(ends - now) // DAY
    told = say(sentences.SERVER_LATE, name=name, at=ends, days=days)
    ended = say(sentences.SERVER_ENDED, name=name, at=ends)
    return [
        Finding(type=SERVER_CERTIFICATE, condition=condition_of(late), said=(told,) if late else ()),
        Finding(type=SERVER_CERTIFICATE_ENDED, condition=condition_of(over), said=(ended,) if over else ()),
    ]
