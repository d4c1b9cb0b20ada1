"""States of a cloud point (``protocol.cloudpointapi.CloudPointState``), and which task may begin in which of them.

Rules:

- A row exists from before anything is created in the cloud until nothing is left there: a crash never leaves something
  that the site does not know of.
- ``stopping``, ``starting``, ``scaling``, ``upgrading`` and ``deleting`` say what is wanted; the task that brings it
  about can be run again at any time.
- A service can be stopped whatever is under way (R27): the stop takes over. What it kept from being done (a renewed
  certificate, options, instances) is brought by the next start, which is ``upgrading`` from when the service runs.
- Content is transferred in every state in which the store exists, ``stopped`` included (R27).
- ``degraded`` is found by health checks and left by them, and so is ``failed``: how the service is decides, not how its
  last task ended. An administrator may do everything then.
"""

from enum import StrEnum
from typing import Final

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
    FORGET = "cloud-forget"

    @property
    def verb(self) -> str:
        """``stop``, ``start`` …"""
        return "renew the certificate of" if self is CloudAction.RENEW else self.value.removeprefix("cloud-")


_SETTLED = frozenset({State.READY, State.STOPPED, State.DEGRADED, State.FAILED})

ALLOWED: dict[CloudAction, frozenset[State]] = {
    CloudAction.CREATE: frozenset({State.PROVISIONING}),
    CloudAction.STOP: frozenset(State) - {State.PROVISIONING, State.DELETING},
    CloudAction.START: _SETTLED | {State.STOPPING},
    CloudAction.SCALE: _SETTLED | {State.SCALING},
    CloudAction.UPDATE: _SETTLED | {State.UPGRADING},
    CloudAction.RENEW: _SETTLED | {State.UPGRADING},
    # A creation that hangs or failed is deleted, and so is a half-deleted cloud point.
    CloudAction.DELETE: frozenset(State),
    # Only after a deletion that failed, and that is not under way any more.
    CloudAction.FORGET: frozenset({State.DELETING}),
}

WORKING: dict[CloudAction, State] = {
    CloudAction.CREATE: State.PROVISIONING,
    CloudAction.STOP: State.STOPPING,
    CloudAction.START: State.STARTING,
    CloudAction.SCALE: State.SCALING,
    CloudAction.DELETE: State.DELETING,
    CloudAction.UPDATE: State.UPGRADING,
    CloudAction.RENEW: State.UPGRADING,
    CloudAction.FORGET: State.DELETING,
}
"""The state that a point shows while the action is under way."""

BRINGS_ALL: frozenset[CloudAction] = frozenset({CloudAction.UPDATE, CloudAction.RENEW})
"""What brings everything to the cloud that is kept here. Until it has, the point's row says so (``behind``)."""

UNFINISHED: Final = "The update was not finished."
"""What stands there as long as nothing worse is known."""

HALF_MADE: Final = "The creation was not finished."
"""What stands there of a point whose creation failed, and could not be cleaned up."""

TRANSFERS: frozenset[State] = frozenset(State) - {State.PROVISIONING, State.DELETING}
"""States in which the site transfers content to the point (R27)."""

GOING: frozenset[CloudAction] = frozenset({CloudAction.DELETE, CloudAction.FORGET})
"""What leaves no point behind; nothing takes over from it."""

MADE: frozenset[State] = frozenset({State.READY, State.STOPPED, State.DEGRADED})
"""States in which a task leaves a point only if its service is there, whole; from the first time on its health is
looked at, its transactions are collected, and it costs."""

OFFERED: frozenset[State] = frozenset({State.READY, State.DEGRADED, State.SCALING, State.UPGRADING})
"""States in which clients are sent to the point. Unlike the reference product's, a stopped point is not offered."""


def check_allowed(action: CloudAction, state: State, name: str) -> None:
    """Refuse what makes no sense in the present state.

    Raises:
        ConflictError: with what can be done instead.
    """
    if state not in ALLOWED[action] and action is CloudAction.FORGET:
        raise ConflictError(
            f"The cloud point {name} is {state.value}: only one whose deletion failed can be forgotten.",
            next_step=f"Delete it first: entrepot cloud delete {name}.",
        )
    if state not in ALLOWED[action]:
        raise ConflictError(
            f"The cloud point {name} is {state.value}: it cannot be asked to {action.verb} now.",
            next_step="Wait until its present task has ended (entrepot task list), or delete the cloud point.",
        )
