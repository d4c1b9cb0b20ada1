"""Client settings: which set decides each value (R5, R43).

The default set reaches everyone. Custom sets reach the members of their collection and stand over it: for each value
the set with the lowest priority number that decides it wins, as in the reference product.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

DEFAULT_PRIORITY: Final = 10_000
DEFAULT_NAME: Final = "default"


class SettingsSet(msgspec.Struct, frozen=True, kw_only=True):
    """A set that reaches the device or user. A value of None, or no value, leaves the decision to the next set."""

    name: str
    priority: int
    values: Mapping[str, object]


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """The merged values, and the name of the set that decided each."""

    values: dict[str, object]
    decided_by: dict[str, str]


def merge(default: Mapping[str, object], custom: Iterable[SettingsSet]) -> Effective:
    """Merge the sets that reach a device or a user over the default.

    Args:
        default: every setting with its default value.
        custom: in any order; equal priorities (which the site does not allow) are decided by name. A setting that the
            default does not know is ignored.
    """
    values = dict(default)
    decided_by = dict.fromkeys(values, DEFAULT_NAME)
    decided: set[str] = set()
    for one in sorted(custom, key=lambda entry: (entry.priority, entry.name)):
        for setting, value in one.values.items():
            if value is not None and setting in values and setting not in decided:
                values[setting], decided_by[setting] = value, one.name
                decided.add(setting)
    return Effective(values=values, decided_by=decided_by)
