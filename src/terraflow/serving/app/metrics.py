"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from terraflow.serving.app.guard import CODES
from terraflow.serving.app.model.served import Served

__all__ = ["Metrics"]

#: Seconds: from a row in a small model to a million rows.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server, in a registry of their own.

    Attributes
    ----------
    seconds : Histogram
        From the head of a request to its answer.
    rows : Counter
        That were predicted.
    waiting : Gauge
        Requests that are there.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        registry = self.registry
        self.seconds = Histogram(
            "terraflow_request_seconds", "Seconds of a request", buckets=BUCKETS, registry=registry
        )
        self.rows = Counter("terraflow_rows", "Predicted rows", registry=registry)
        self._requests = Counter(
            "terraflow_requests", "Requests by status", ["status", "kind"], registry=registry
        )
        self.waiting = Gauge("terraflow_requests_waiting", "Requests in work", registry=registry)
        self._swaps = Gauge("terraflow_swaps", "Changes of the model", registry=registry)
        self._served: Callable[[], Served] | None = None
        self._model = Gauge(
            "terraflow_model", "The served model", ["name", "version", "run"], registry=registry
        )

    def count(self, status: int) -> None:
        """Count a request that was answered with this status."""
        self._requests.labels(status, CODES.get(status, "")).inc()

    def show(self, swaps: Callable[[], int], served: Callable[[], Served]) -> None:
        """Tell which model is served, and how often it became another."""
        self._swaps.set_function(swaps)
        self._served = served

    def text(self) -> bytes:
        """Write all in Prometheus's text format."""
        if self._served:
            served = self._served()
            self._model.clear()
            self._model.labels(served.name, served.version, served.run).set(1)
        return generate_latest(self.registry)
