"""Storage and transfer thresholds of a cloud point (R21 to R24): "reaches or exceeds".

Assessments are pure functions of usage and limits, in whole numbers: the same usage always gives the same answer, and
more usage never gives a milder one. A level that is not reached may still be *near* (within two percent of itself): an
open alert then stays open, so that usage that swings around a threshold does not flap (``rules.alerts.settled``). GB is
10^9 bytes. A quota of 0 sets no bound and is never reached. Nothing here stops a transfer (R23).
"""

from typing import Final

import msgspec

from entrepot.core.errors import BadInputError
from entrepot.core.sizes import GB
from entrepot.core.times import HOUR, hour_of
from entrepot.rules import sentences
from entrepot.rules.sentences import say

ROLLING_DAYS: Final = 30
NEAR_PERCENT: Final = 2
"""An alert closes when usage is below its level by more than so many percent of the level."""


class StorageLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``quota`` bytes is the upper bound of stored content; the warning comes when so little of it is free."""

    quota: int = 2_000 * GB
    warning_free_percent: int = 10


class TransferLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``quota`` bytes in 30 rolling days, and the shares of it at which alerts open; to clients (R22), or from the site
    (R25)."""

    quota: int = 10_000 * GB
    warning_percent: int = 50
    critical_percent: int = 90


class Assessment(sentences.Telling, frozen=True, kw_only=True):
    """Whether usage has reached the warning and the critical level, or is near them, and the figures."""

    warning: bool
    critical: bool
    warning_near: bool = False
    critical_near: bool = False


def check_limits(storage: StorageLimits, transfer: TransferLimits) -> None:
    """Check that limits make sense together (R24).

    Raises:
        BadInputError: a negative quota, a share outside 1 to 100 %, or a critical level below the warning.
    """
    if storage.quota < 0 or transfer.quota < 0:
        raise BadInputError("A quota is not negative.", next_step="Use 0 to set no bound.")
    shares = (storage.warning_free_percent, transfer.warning_percent, transfer.critical_percent)
    if any(not 1 <= share <= 100 for share in shares):
        raise BadInputError("A threshold is 1 to 100 percent.")
    if transfer.critical_percent < transfer.warning_percent:
        raise BadInputError("The critical transfer threshold lies below the warning.", next_step="Raise it above.")


def assess_storage(stored: int, limits: StorageLimits) -> Assessment:
    """Assess stored bytes: warning when the free share is down to the set level, critical when the bound is reached
    (R21)."""
    if limits.quota <= 0:
        told = say(sentences.STORAGE_UNBOUND, used=stored)
        return Assessment(warning=False, critical=False, said=(told,))
    free = _tenths(max(0, limits.quota - stored), limits.quota)
    figures = {"used": stored, "quota": limits.quota, "free": free, "warning": limits.warning_free_percent}
    warning_level, critical_level = storage_levels(limits)
    return Assessment(
        warning=stored >= warning_level,
        critical=stored >= critical_level,
        warning_near=_near(stored, warning_level),
        critical_near=_near(stored, critical_level),
        said=(say(sentences.STORAGE_USED, **figures),),
    )


def assess_transfer(sent: int, limits: TransferLimits, *, by_site: bool = False) -> Assessment:
    """Assess bytes sent to clients, or by the site, in the last 30 days (R22, R25); see :func:`rolling_start`."""
    if limits.quota <= 0:
        key = sentences.UPLOADED_UNBOUND if by_site else sentences.SENT_UNBOUND
        return Assessment(warning=False, critical=False, said=(say(key, used=sent, days=ROLLING_DAYS),))
    warning_level, critical_level = transfer_levels(limits)
    return Assessment(
        warning=sent >= warning_level,
        critical=sent >= critical_level,
        warning_near=_near(sent, warning_level),
        critical_near=_near(sent, critical_level),
        said=(
            say(
                sentences.UPLOADED if by_site else sentences.SENT,
                used=sent,
                quota=limits.quota,
                days=ROLLING_DAYS,
                share=_tenths(sent, limits.quota),
                warning=limits.warning_percent,
                critical=limits.critical_percent,
            ),
        ),
    )


def storage_levels(limits: StorageLimits) -> tuple[int, int]:
    """The least stored bytes that are at the warning, and at the critical level; the quota is not 0."""
    return _share(limits.quota, 100 - limits.warning_free_percent), limits.quota


def transfer_levels(limits: TransferLimits) -> tuple[int, int]:
    """The least transferred bytes that are at the warning, and at the critical level; the quota is not 0."""
    return _share(limits.quota, limits.warning_percent), _share(limits.quota, limits.critical_percent)


def _share(quota: int, percent: int) -> int:
    """The least whole number of bytes that is so many percent of the quota, or more."""
    return -(-quota * percent // 100)


def _near(usage: int, level: int) -> bool:
    return level * (100 - NEAR_PERCENT) <= usage * 100 < level * 100


def rolling_start(now: float) -> int:
    """First hour that counts: the last 30 days are the present hour and the 720 whole hours before it.

    Hours of the future (a gateway's clock may be ahead) count: what was sent was sent.
    """
    return hour_of(now) - ROLLING_DAYS * 24 * HOUR


def _tenths(part: int, whole: int) -> int:
    """Tenths of a percent, rounded down, so that 100.0 % is not shown before it is reached."""
    return part * 1000 // whole
