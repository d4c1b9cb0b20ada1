"""States of a cloud point (``protocol.cloudpointapi.CloudPointState``), and which task may begin in which of them.

Rules:

- A row exists from before anything is created in the cloud until nothing is left there: a crash never leaves something
  that the site does not know of.
- ``stopping``, ``starting``, ``scaling``, ``upgrading`` and ``deleting`` say what is wanted; the task that brings it
  about can be run again at any time.
- Content is transferred in every state in which the store exists, ``stopped`` included (R27).
- ``degraded`` is found by health checks and left by them. ``failed`` is what a failed task leaves; an administrator may
  start, stop or delete then.
"""

from enum import StrEnum

from entrepot.core.errors import ConflictError
from entrepot.protocol.cloudpointapi import CloudPointState as State


class CloudAction(StrEnum):
    """What an administrator can ask of a cloud point; also the kinds of durable tasks."""

    CREATE = "cloud-create"
    STOP = "cloud-stop"
    START = "cloud-start"
    SCALE = "cloud-scale"
    DELETE = "cloud-delete"
    UPDATE = "cloud-update"
    RENEW = "cloud-renew"

    @property
    def verb(self) -> str:
        """``stop``, ``start`` …"""
        return "renew the certificate of" if self is CloudAction.RENEW else self.value.removeprefix("cloud-")


_SETTLED = frozenset({State.READY, State.STOPPED, State.DEGRADED, State.FAILED})

ALLOWED: dict[CloudAction, frozenset[State]] = {
    CloudAction.CREATE: frozenset({State.PROVISIONING}),
    CloudAction.STOP: _SETTLED | {State.STARTING, State.SCALING},
    CloudAction.START: _SETTLED | {State.STOPPING},
    CloudAction.SCALE: _SETTLED,
    CloudAction.UPDATE: _SETTLED | {State.UPGRADING},
    CloudAction.RENEW: _SETTLED | {State.UPGRADING},
    # A creation that hangs or failed is deleted, and so is a half-deleted cloud point.
    CloudAction.DELETE: frozenset(State),
}

WORKING: dict[CloudAction, State] = {
    CloudAction.CREATE: State.PROVISIONING,
    CloudAction.STOP: State.STOPPING,
    CloudAction.START: State.STARTING,
    CloudAction.SCALE: State.SCALING,
    CloudAction.DELETE: State.DELETING,
    CloudAction.UPDATE: State.UPGRADING,
    CloudAction.RENEW: State.UPGRADING,
}
"""The state that a point shows while the action is under way."""

TRANSFERS: frozenset[State] = frozenset(State) - {State.PROVISIONING, State.DELETING}
"""States in which the site transfers content to the point (R27)."""

OFFERED: frozenset[State] = frozenset({State.READY, State.DEGRADED, State.SCALING, State.UPGRADING})
"""States in which clients are sent to the point. Unlike the reference product's, a stopped point is not offered."""


def check_allowed(action: CloudAction, state: State, name: str) -> None:
    """Refuse what makes no sense in the present state.

    Raises:
        ConflictError: with what can be done instead.
    """
    if state not in ALLOWED[action]:
        raise ConflictError(
            f"The cloud point {name} is {state.value}: it cannot be asked to {action.verb} now.",
            next_step="Wait until its present task has ended (entrepot task list), or delete the cloud point.",
        )
