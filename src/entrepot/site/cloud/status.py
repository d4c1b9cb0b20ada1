"""The six statuses that administrators see, from the finer states of a cloud point."""

from typing import Final

from entrepot.protocol.cloudpointapi import CloudPointState as State

_STATUS: Final = {
    State.PROVISIONING: "Provisioning",
    State.READY: "Ready",
    State.STOPPING: "Upgrading",
    State.STOPPED: "Stopped",
    State.STARTING: "Upgrading",
    State.SCALING: "Upgrading",
    State.UPGRADING: "Upgrading",
    State.DEGRADED: "Degraded",
    State.FAILED: "Error",
    State.DELETING: "Upgrading",
}


def status_of(state: State) -> str:
    """Ready, Provisioning, Upgrading (a task changes it), Stopped, Degraded or Error."""
    return _STATUS[state]
