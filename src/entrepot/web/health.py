"""``/healthz`` and ``/metrics`` in front of an application: what load balancers and Prometheus ask."""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from entrepot.core.encoding import to_json
from entrepot.core.errors import NotFoundError
from entrepot.web.asgi import App, Receive, Scope, Send, send_json, send_problem, send_response
from entrepot.web.objects import ObjectPlane

Check = Callable[[], Awaitable[dict[str, Any]]]
"""Gives the members of the health document; ``status`` is ``ok`` or says what is wrong (then the answer is 503)."""

_THROUGH_A_PROXY = (b"x-forwarded-for", b"forwarded", b"via")
_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Health:
    """An ASGI application that answers ``/healthz`` and ``/metrics`` and passes everything else on.

    Args:
        app: what else is asked.
        check: health, computed at each request; cheap.
        registry: the metrics.
        metrics_for_all: answer ``/metrics`` to every address; otherwise only to this computer.
    """

    def __init__(
        self, app: App, *, check: Check, registry: CollectorRegistry | None = None, metrics_for_all: bool = False
    ) -> None:
        self._app = app
        self._check = check
        self._registry = registry
        self._metrics_for_all = metrics_for_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            if scope["path"] == "/healthz":
                state = await self._check()
                status = 200 if state.get("status") == "ok" else 503
                return await send_json(send, to_json(state), status=status, headers=[(b"cache-control", b"no-store")])
            if scope["path"] == "/metrics" and self._registry is not None:
                if not self._metrics_for_all and not _is_local(scope):
                    return await send_problem(send, NotFoundError("There are no metrics for this address."))
                return await send_response(send, 200, generate_latest(self._registry), media_type=_METRICS_TYPE)
        return await self._app(scope, receive, send)


def _is_local(scope: Scope) -> bool:
    """Behind a proxy on this computer everybody comes from here: who asks through one is a stranger."""
    if any(name in _THROUGH_A_PROXY for name, _ in scope["headers"]):
        return False
    client = scope.get("client") or ("",)
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


class PlaneMetrics:
    """A Prometheus collector over an object plane's own numbers."""

    def __init__(self, plane: ObjectPlane) -> None:
        self._plane = plane

    def collect(self) -> list[Metric]:
        """See ``prometheus_client.registry.Collector``."""
        plane = self._plane
        running = GaugeMetricFamily("entrepot_downloads_running", "Downloads in progress", value=len(plane.downloads))
        sent = CounterMetricFamily("entrepot_object_bytes_sent", "Bytes handed to the transport", value=plane.sent)
        received = CounterMetricFamily("entrepot_object_bytes_received", "Bytes stored", value=plane.received)
        cut = CounterMetricFamily(
            "entrepot_downloads_cut", "Downloads broken off on purpose", value=plane.downloads.cuts
        )
        limited = CounterMetricFamily("entrepot_requests_limited", "Requests answered 429", value=plane.limited)
        away = CounterMetricFamily(
            "entrepot_requests_turned_away",
            "Requests answered 503 because as many downloads as allowed were running",
            value=plane.downloads.turned_away,
        )
        return [running, sent, received, cut, limited, away]


def registry_of(plane: ObjectPlane) -> CollectorRegistry:
    """A registry with the plane's numbers and nothing else."""
    registry = CollectorRegistry()
    registry.register(PlaneMetrics(plane))
    return registry
