"""Waiting until the instances of a cloud service are as wanted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from entrepot.core.errors import EntrepotError
from entrepot.protocol.cloudhost import RunState, ServiceStatus
from entrepot.site.cloudport import CloudProvider

INSTANCE_SECONDS: Final = 300.0
"""How long instances may take to run. The reference product's take up to 30 minutes; ours are processes."""
_FIRST: Final = 0.1
_LONGEST: Final = 2.0

Sleep = Callable[[float], Awaitable[None]]


class InstancesError(EntrepotError):
    """The cloud accepted the service, but its instances do not run."""

    code = "instances"


def running(status: ServiceStatus, control: int) -> int:
    """How many instances run and obey the control document of this counter, or a newer one, as far as the cloud can
    tell (elsewhere they read it every few seconds)."""
    return sum(1 for one in status.instances if one.state == "running" and (one.control < 0 or one.control >= control))


async def until_running(
    provider: CloudProvider,
    service: str,
    *,
    control: int,
    seen: Callable[[ServiceStatus], Awaitable[None]],
    sleep: Sleep = asyncio.sleep,
    seconds: float = INSTANCE_SECONDS,
) -> ServiceStatus:
    """Wait until as many instances run as the cloud wants itself.

    Args:
        seen: told about every status; raises to stop waiting.
        seconds: how much sleeping is enough.

    Raises:
        InstancesError: they do not run in time, with what they say of themselves.
        EntrepotError: what ``seen`` or the provider raises.
    """
    waited, pause = 0.0, _FIRST
    while True:
        status = await provider.status(service)
        await seen(status)
        if status.state is RunState.RUNNING and running(status, control) >= status.wanted:
            return status
        if waited >= seconds:
            states = ", ".join(f"{one.id} is {one.state}" for one in status.instances) or "there is none"
            raise InstancesError(
                f"Only {running(status, control)} of {status.wanted} instances of {service} run: {states}.",
                next_step="The cloud host's log says why.",
            )
        await sleep(pause)
        waited += pause
        pause = min(pause * 1.5, _LONGEST)
