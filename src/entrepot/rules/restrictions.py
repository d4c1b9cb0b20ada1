"""What a cloud point refuses (R14 to R20), said at the earliest moment, with the same words in API, CLI and console.

Each rule is a row of ``REFUSALS``: why, and what to do instead. Where a request would be carried out at once, it raises
:class:`RefusedError`; where only an offer is withheld (a location reply), the same text is the reason.
"""

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Final

import msgspec

from entrepot.core.errors import BadInputError, RefusedError


class PointKind(StrEnum):
    """Where a distribution point stands."""

    STANDARD = "standard"
    CLOUD = "cloud"


class RunMode(StrEnum):
    """How a deployment uses content."""

    DOWNLOAD = "download"  # everything is downloaded before it is run
    ON_DEMAND = "on-demand"  # a running task sequence downloads what a step needs
    RUN_FROM_POINT = "run-from-point"
    STREAM = "stream"


class Feature(StrEnum):
    """What may be asked of a distribution point and a cloud point does not do."""

    SOFTWARE_UPDATES = "software-updates"
    PXE = "pxe"
    MULTICAST = "multicast"
    ON_DEMAND = "on-demand"
    RUN_FROM_POINT = "run-from-point"
    STREAMING = "streaming"
    PRESTAGED = "prestaged"
    PULL = "pull"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a cloud point refuses something, and what to do instead."""

    requirement: str
    reason: str
    instead: str


REFUSALS: Final[dict[Feature, Refusal]] = {
    Feature.SOFTWARE_UPDATES: Refusal(
        requirement="R14",
        reason="A cloud distribution point does not hold software update packages.",
        instead="Distribute them to points on premises; internet clients get updates from the vendor's own service.",
    ),
    Feature.PXE: Refusal(
        requirement="R15",
        reason="A cloud distribution point does not answer PXE requests.",
        instead="Use a point on premises in the same network for PXE.",
    ),
    Feature.MULTICAST: Refusal(
        requirement="R15",
        reason="A cloud distribution point does not send multicast.",
        instead="Use a point on premises in the same network for multicast.",
    ),
    Feature.ON_DEMAND: Refusal(
        requirement="R16",
        reason="A cloud distribution point is not offered to a task sequence that downloads content step by step.",
        instead="Deploy the task sequence with the option to download all content before it starts.",
    ),
    Feature.RUN_FROM_POINT: Refusal(
        requirement="R17",
        reason="Nothing can be run from a cloud distribution point: everything is downloaded, then run locally.",
        instead="Deploy with the option to download content before it is run.",
    ),
    Feature.STREAMING: Refusal(
        requirement="R18",
        reason="A cloud distribution point does not stream applications.",
        instead="Deploy with the option to download content before it is run.",
    ),
    Feature.PRESTAGED: Refusal(
        requirement="R19",
        reason="A cloud distribution point takes no prestaged content: the site transfers everything to it.",
        instead="Distribute the content as usual.",
    ),
    Feature.PULL: Refusal(
        requirement="R20",
        reason="A cloud distribution point cannot be a pull point: the site transfers everything to it.",
        instead="Leave the pull option off for cloud points.",
    ),
}

_RUN_FEATURES: Final = {
    RunMode.ON_DEMAND: Feature.ON_DEMAND,
    RunMode.RUN_FROM_POINT: Feature.RUN_FROM_POINT,
    RunMode.STREAM: Feature.STREAMING,
}
SOFTWARE_UPDATE_PACKAGE: Final = "software-update-package"


def refuse(feature: Feature) -> RefusedError:
    """The error for a feature that a cloud point refuses."""
    refusal = REFUSALS[feature]
    return RefusedError(refusal.reason, next_step=refusal.instead)


def feature_named(name: str) -> Feature:
    """The feature that a request names.

    Raises:
        BadInputError: no distribution point has such a feature.
    """
    try:
        return Feature(name)
    except ValueError:
        known = ", ".join(feature.value for feature in Feature)
        raise BadInputError(
            f"{name!r} is not a feature of distribution points.", next_step=f"Name one of {known}."
        ) from None


def check_features(kind: PointKind, features: Iterable[Feature]) -> None:
    """Check what is asked of a point when it is set up or changed (R15, R19, R20).

    Raises:
        RefusedError: a cloud point does not do one of these.
    """
    if kind is PointKind.CLOUD:
        for feature in features:
            raise refuse(feature)


def check_distribution(kind: PointKind, content_type: str, *, prestaged: bool = False) -> None:
    """Check that content of this type may be distributed to a point of this kind (R14, R19).

    Raises:
        RefusedError: it may not.
    """
    if kind is PointKind.CLOUD and content_type == SOFTWARE_UPDATE_PACKAGE:
        raise refuse(Feature.SOFTWARE_UPDATES)
    if prestaged:
        check_features(kind, [Feature.PRESTAGED])


def cloud_problem(run: RunMode) -> str:
    """Why cloud points are not offered to a deployment that uses content in this way; empty when they are."""
    feature = _RUN_FEATURES.get(run)
    return REFUSALS[feature].reason if feature is not None else ""


def check_deployment(run: RunMode, holders: Collection[PointKind]) -> tuple[str, ...]:
    """Check a deployment against the points that hold its content (R16 to R18).

    Args:
        run: how the deployment uses content.
        holders: kinds of the points that hold the content, or will.

    Returns:
        warnings: what will not work although the deployment as a whole does.

    Raises:
        RefusedError: only cloud points hold the content, and they refuse this use.
    """
    feature = _RUN_FEATURES.get(run)
    if feature is None or PointKind.CLOUD not in holders:
        return ()
    refusal = REFUSALS[feature]
    if all(kind is PointKind.CLOUD for kind in holders):
        raise RefusedError(
            f"{refusal.reason} The content of this deployment is on cloud distribution points only.",
            next_step=f"{refusal.instead} Or distribute the content to a point on premises first.",
        )
    return (f"{refusal.reason} This deployment will use points on premises only.",)
