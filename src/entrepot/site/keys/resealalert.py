"""The alert about versions that wait to be sealed anew: what a compromised secret opens, or a withdrawn key signed.

It opens when one was given up, or has waited for longer than the site's setting ``reseal_hours``, and closes when none
waits any more: one that is tried again is not sealed yet.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.times import HOUR
from entrepot.database import contents, hierarchy, sealings, tasks
from entrepot.database.contents import Version
from entrepot.protocol.trust import Role
from entrepot.rules import sentences
from entrepot.rules.alerttypes import RESEAL_LATE
from entrepot.rules.sentences import Said, say
from entrepot.site.findings import Finding, condition_of, judge
from entrepot.site.keys.sitekeys import CONTENT_SECRET, SiteKeys
from entrepot.site.libraryalert import SUBJECT
from entrepot.site.publishing import RESEAL, reseal_subject
from entrepot.trust.root import verify_trust

NAMED: Final = 10
"""So many versions are named; the others are counted."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is to be sealed anew. ``since``: seconds since 1970; ``failed``: why it was given up, or empty."""

    name: str
    number: int
    since: int
    failed: str = ""


def judge_resealing(connection: Connection, keys: SiteKeys, hours: int, now: float) -> None:
    """Open, close or keep the alert.

    Args:
        hours: how long a version may wait.

    Raises:
        EntrepotError: by the database.
    """
    judge(connection, SUBJECT, SUBJECT, [finding_of(_waiting(connection, keys), hours, now)], now)


def finding_of(waiting: Sequence[Waiting], hours: int, now: float) -> Finding:
    """What versions that wait mean."""
    failed = [each for each in waiting if each.failed]
    late = [each for each in waiting if not each.failed and each.since <= now - hours * HOUR]
    said: list[Said] = []
    if failed:
        said.append(say(sentences.RESEAL_FAILED, number=len(failed), names=_names(failed), reason=failed[0].failed))
    if late:
        since = min(each.since for each in late)
        said.append(say(sentences.RESEAL_LATE, number=len(late), names=_names(late), at=since))
    if not said:
        said.append(say(sentences.RESEAL_UNDER_WAY, number=len(waiting)) if waiting else say(sentences.RESEAL_DONE))
    condition = condition_of(bool(failed or late))
    return Finding(type=RESEAL_LATE, condition=condition, near=bool(waiting), said=tuple(said))


def _names(versions: Sequence[Waiting]) -> str:
    """Contents with their versions; of very many the first."""
    named = ", ".join(f"{each.name} {each.number}" for each in versions[:NAMED])
    return named if len(versions) <= NAMED else f"{named}, …"


def _waiting(connection: Connection, keys: SiteKeys) -> list[Waiting]:
    site = keys.site.code
    outdated = sealings.outdated(connection, keys.generation, site=site, signed_by=keys.withdrawn(Role.MANIFEST))
    if not outdated:
        return []
    made = hierarchy.secret_dates(connection, site)
    record = hierarchy.get_hierarchy(connection)
    withdrawn = verify_trust(record.trust_document, record.root_public).issued
    failed = {task.subject: task.error for task in tasks.failed_last(connection, RESEAL)}
    names = {content.id: content.name for content in contents.list_contents(connection)}

    def since(version: Version) -> int:
        """From when it has been outdated: the next secret was made then, or a trust document without the key."""
        next_secret = CONTENT_SECRET.format(version.generation + 1)
        return max(version.created, made.get(next_secret, withdrawn))

    return [
        Waiting(
            name=names[each.content],
            number=each.number,
            since=since(each),
            failed=failed.get(reseal_subject(each), ""),
        )
        for each in outdated
    ]
