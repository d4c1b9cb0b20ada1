"""Why a version that a device asks for is on no point that it could be sent to: said only when no source is offered.

Read from the database at that moment, as a distribution goes on between two snapshots. A device learns what concerns
its own content: the points that are to have it, and how far they are; not why a distribution failed.
"""

from typing import Final

from sqlalchemy import Connection

from entrepot.database import distribution
from entrepot.database.contents import Version
from entrepot.protocol.contentapi import DistributionInfo, DistributionState
from entrepot.protocol.location import Withheld

MAX_NAMED: Final = 16
"""Points are named; of further ones it is only said that there are."""
NOWHERE: Final = Withheld(
    name="every point", reason="the content is distributed to none; an administrator has to distribute it"
)
FURTHER: Final = Withheld(name="further points", reason="they do not have this version either")
_WORDS: Final = {
    DistributionState.PENDING: "version {version} waits to be sent there",
    DistributionState.IN_PROGRESS: "version {version} is on its way there",
    DistributionState.RETRYING: "version {version} could not be sent there so far, and is tried again",
    DistributionState.FAILED: "version {version} could not be sent there",
    DistributionState.SUCCESS: "version {version} is not whole there",
    DistributionState.CANCELLED: "an administrator cancelled the distribution to it",
    DistributionState.REMOVING: "the content is being removed from it",
    DistributionState.REMOVAL_RETRYING: "the content is being removed from it",
    DistributionState.REMOVAL_FAILED: "the content is being removed from it",
}
_UNDER_WAY: Final = frozenset(
    (
        DistributionState.PENDING,
        DistributionState.IN_PROGRESS,
        DistributionState.RETRYING,
        DistributionState.FAILED,
        DistributionState.SUCCESS,
    )
)


def absences(connection: Connection, version: Version) -> list[Withheld]:
    """The points that are to have the content and lack this version, each with the reason."""
    sets = [set_id for set_id in (version.set_id, version.former_set_id) if set_id is not None]
    rows = distribution.lacking(connection, version.content, sets, limit=MAX_NAMED + 1)
    found = [Withheld(name=row.point_name, reason=why_absent(row, version.number)) for row in rows[:MAX_NAMED]]
    return [*found, FURTHER] if len(rows) > MAX_NAMED else found


def why_absent(row: DistributionInfo, version: int) -> str:
    """Why a point does not have a version whole, in words that follow the point's name."""
    if row.state in _UNDER_WAY and row.version != version:
        return f"it is to have version {row.version}, not version {version}"
    words = _WORDS[row.state].format(version=version)
    if row.state is DistributionState.IN_PROGRESS and row.total:
        return f"{words} ({100 * row.done // row.total} %)"
    return words
