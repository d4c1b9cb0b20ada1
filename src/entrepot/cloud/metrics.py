"""What goes between a gateway and its object store, for Prometheus: every try, since every try is paid for."""

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric

from entrepot.objects.metering import Meter


class StoreMetrics:
    """A Prometheus collector over a store's meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def collect(self) -> list[Metric]:
        """See ``prometheus_client.registry.Collector``."""
        labels = ["operation"]
        requests = CounterMetricFamily("entrepot_store_requests", "Requests to the object store", labels=labels)
        failed = CounterMetricFamily("entrepot_store_requests_failed", "Those that failed", labels=labels)
        sent = CounterMetricFamily("entrepot_store_bytes_sent", "Bytes sent to it", labels=labels)
        received = CounterMetricFamily("entrepot_store_bytes_received", "Bytes received from it", labels=labels)
        for operation, count in self._meter.counts.items():
            requests.add_metric([operation], count.requests)
            failed.add_metric([operation], count.failed)
            sent.add_metric([operation], count.sent)
            received.add_metric([operation], count.received)
        return [requests, failed, sent, received]


def with_store(registry: CollectorRegistry, meter: Meter) -> CollectorRegistry:
    """The registry, which shows the meter from now on."""
    registry.register(StoreMetrics(meter))
    return registry
