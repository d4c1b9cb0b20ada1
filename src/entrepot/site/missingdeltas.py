"""Deltas that clients should have and that are not there: found from the versions, whatever became of their tasks.

To the current version of a content as many deltas are wanted as the content or the site's setting says. One that was
made counts, and so does one that was found to save nothing; in place of the others, those from the versions that most
devices have come first (``publishing.delta_bases_anew``). None is made between versions of which one waits to be
sealed anew: that asks for it then.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection

from entrepot.core.errors import NotFoundError
from entrepot.core.times import Clock
from entrepot.database import contents, deltasets, hierarchy, history, tasks, versions
from entrepot.database.contents import Content
from entrepot.database.engine import Database
from entrepot.protocol.libraryapi import MAX_LISTED, MissingDelta, MissingDeltas
from entrepot.site.publishing import DELTA, DeltaJob, ask_for_delta, delta_bases_anew

_BATCH: Final = 100
"""So many are asked for in one transaction."""


class DeltaFinder:
    """Finds the deltas of a site that are missing, and has them made.

    Args:
        deltas_kept: for how many earlier versions there are deltas to the current one, where a content does not say.
        work: called when tasks were added.
    """

    def __init__(
        self, database: Database, *, site: str, deltas_kept: int, clock: Clock, work: Callable[[], None]
    ) -> None:
        self._database = database
        self._site = site
        self._deltas_kept = deltas_kept
        self._clock = clock
        self._work = work

    async def missing(self, name_or_id: str) -> MissingDeltas:
        """What is missing, of a content or of all.

        Raises:
            NotFoundError: no such content.
        """
        return _told(await self._database.read(self._missing, name_or_id), 0)

    async def remake(self, name_or_id: str) -> MissingDeltas:
        """Have what is missing made; the tasks were added when this returns.

        Raises:
            NotFoundError: no such content.
        """
        found = await self._database.read(self._missing, name_or_id)
        asked = 0
        for at in range(0, len(found), _BATCH):
            asked += await self._database.write(_ask, found[at : at + _BATCH], self._clock())
        if asked:
            self._work()
        return _told(found, asked)

    def _missing(self, connection: Connection, name_or_id: str) -> list[MissingDelta]:
        chosen = [contents.get_content(connection, name_or_id)] if name_or_id else contents.list_contents(connection)
        generation = hierarchy.newest_generation(connection, self._site)
        return [
            MissingDelta(content=each.id, content_name=each.name, from_version=number, to_version=each.current)
            for each in chosen
            if each.site == self._site and each.current and not each.deleting
            for number in self._sources(connection, each, generation)
        ]

    def _sources(self, connection: Connection, content: Content, generation: int) -> list[int]:
        """The versions from which deltas to the current one are wanted, not there, and not being made."""
        settled = deltasets.settled(connection, content) | _under_way(connection, content)
        wanted = content.deltas_kept(self._deltas_kept) - len(settled)
        sealed = deltasets.generations(connection, content.id)
        able = [number for number, each in sealed.items() if each >= generation and number not in settled]
        if wanted <= 0 or len(able) < 2 or content.current not in able:
            return []
        before = history.current_before(connection, content.id, content.current)
        held = versions.devices_by_version(connection, content.id)
        return delta_bases_anew(able, content.current, before, held, wanted)


def _under_way(connection: Connection, content: Content) -> set[int]:
    active = tasks.active_below(connection, (DELTA,), content.id + "/")
    jobs = (task.payload_as(DeltaJob) for task in active)
    return {job.from_version for job in jobs if job.to_version == content.current}


def _ask(connection: Connection, missing: Sequence[MissingDelta], now: float) -> int:
    """Ask for these; how many were asked for: a content may have gone meanwhile, or its pointer may have moved."""
    asked = 0
    for each in missing:
        with contextlib.suppress(NotFoundError):
            content = contents.get_content(connection, each.content)
            contents.get_version(connection, each.content, each.from_version)
            if content.current == each.to_version and not content.deleting:
                ask_for_delta(connection, content, from_version=each.from_version, to_version=each.to_version, now=now)
                asked += 1
    return asked


def _told(missing: Sequence[MissingDelta], tasks_added: int) -> MissingDeltas:
    return MissingDeltas(missing=len(missing), tasks=tasks_added, deltas=tuple(missing[:MAX_LISTED]))
