"""The in-memory snapshot that location answers are made from: the facts of the database, indexed.

It is replaced as a whole when the change counter has moved; requests that are being answered keep the one they began
with. The counter is also the counter of the answers' freshness: what a client has seen never goes back.
"""

from collections.abc import Iterable
from typing import Final

from entrepot.core.names import name_key
from entrepot.database.client_settings import DEFAULT_ID
from entrepot.database.contents import Content, Delta, Version
from entrepot.database.device_collections import ALL_DEVICES_ID
from entrepot.database.locations import Facts
from entrepot.database.points import CLOUD, Point
from entrepot.protocol.deviceapi import DeploymentInfo, RunMode
from entrepot.protocol.policy import ClientSettings
from entrepot.rules import location, restrictions
from entrepot.rules.boundaries import BoundaryGroup, Speed, parse_range
from entrepot.rules.settings import Effective, SettingsSet, merge
from entrepot.site.cloud.states import OFFERED


class Snapshot:
    """Facts, indexed by what requests ask for. Immutable."""

    def __init__(self, facts: Facts) -> None:
        self.counter: Final = facts.counter
        self.epoch: Final = facts.epoch
        self._contents = {content.id: content for content in facts.contents if not content.deleting}
        self._names = {name_key(content.name): content for content in self._contents.values()}
        self._versions = {(version.content, version.number): version for version in facts.versions}
        self._deltas: dict[tuple[str, int], list[Delta]] = {}
        for delta in facts.deltas:
            self._deltas.setdefault((delta.content, delta.to_version), []).append(delta)
        self.points: Final = {point.id: point for point in facts.points}
        self._located = {point.id: _rule_point(point, facts) for point in facts.points}
        self._holders = facts.holders
        self._deployments: dict[str, list[DeploymentInfo]] = {}
        for deployment in facts.deployments:
            self._deployments.setdefault(deployment.content, []).append(deployment)
        self._settings = facts.settings
        self.groups: Final = tuple(
            BoundaryGroup(
                id=group.id,
                ranges=tuple(parse_range(text) for text in group.ranges),
                points=tuple((point, Speed(speed)) for point, speed in group.points),
            )
            for group in facts.boundaries
        )

    def content(self, name_or_id: str) -> Content | None:
        """A content by id or name."""
        return self._contents.get(name_or_id) or self._names.get(name_key(name_or_id))

    def version(self, content: str, number: int) -> Version | None:
        """A version of a content."""
        return self._versions.get((content, number))

    def deltas(self, content: str, to_version: int) -> list[Delta]:
        """Deltas to a version."""
        return self._deltas.get((content, to_version), [])

    def holders(self, set_id: bytes) -> list[location.Point]:
        """The points that hold an object set whole, as the rules see them."""
        return [self._located[point] for point in self._holders.get(set_id, ()) if point in self._located]

    def holds(self, point: str, set_id: bytes) -> bool:
        """Whether a point holds an object set whole."""
        return point in self._holders.get(set_id, ())

    def uses(self, content: str, collections: frozenset[str]) -> list[DeploymentInfo]:
        """Deployments of a content that reach a member of these collections."""
        return [found for found in self._deployments.get(content, ()) if _reaches(found.collection, collections)]

    def assignments(self, collections: frozenset[str]) -> list[tuple[DeploymentInfo, Content]]:
        """All deployments of published contents that reach a member of these collections."""
        return [
            (deployment, content)
            for content in self._contents.values()
            if content.current
            for deployment in self.uses(content.id, collections)
        ]

    def effective(self, collections: frozenset[str]) -> Effective:
        """The client settings of a member of these collections, and which set decided each value (R43)."""
        default: dict[str, object] = {
            name: getattr(ClientSettings(), name) for name in ClientSettings.__struct_fields__
        }
        custom = []
        for each in self._settings:
            values = {name: getattr(each.settings, name) for name in each.settings.__struct_fields__}
            if each.id == DEFAULT_ID:
                default |= {name: value for name, value in values.items() if value is not None}
            elif each.collection is not None and _reaches(each.collection, collections):
                custom.append(SettingsSet(name=each.name, priority=each.priority, values=values))
        return merge(default, custom)


def merged_use(uses: Iterable[DeploymentInfo]) -> location.Use:
    """What several deployments of one content allow together: what one of them allows is allowed."""
    options = [deployment.options for deployment in uses]
    runs = [option.run for option in options]
    run = RunMode.DOWNLOAD if RunMode.DOWNLOAD in runs else runs[0]
    return location.Use(
        allow_remote=any(option.allow_remote for option in options),
        allow_fallback=any(option.allow_fallback for option in options),
        run=restrictions.RunMode(run.value),
    )


def _reaches(collection: str, collections: frozenset[str]) -> bool:
    return collection == ALL_DEVICES_ID or collection in collections


def _rule_point(point: Point, facts: Facts) -> location.Point:
    cloud = facts.clouds.get(point.id)
    problem = ""
    if not point.url:
        problem = "it has no address yet"
    elif cloud is not None and cloud.running and cloud.state not in OFFERED:
        problem = "the service does not work" if cloud.state == "failed" else f"the service is {cloud.state}"
    return location.Point(
        id=point.id,
        name=point.name,
        kind=restrictions.PointKind.CLOUD if point.kind == CLOUD else restrictions.PointKind.STANDARD,
        fallback=point.fallback,
        internet_facing=point.internet_facing,
        running=cloud is None or cloud.running,
        problem=problem,
        region="" if cloud is None else cloud.region,
    )
