"""Numbers of a server for Prometheus. Names of models and texts are in no label."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.rows import Row

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 30, 60)


class _Live(Collector):
    """Values that are read when they are asked for."""

    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        self.read = read

    def collect(self) -> list[Metric]:
        """Return one metric for each value; names that end with `_total` are counters."""
        found = self.read()
        kinds = {True: CounterMetricFamily, False: GaugeMetricFamily}
        return [kinds[name.endswith("_total")](name, name.replace("_", " "), value=value) for name, value in found.items()]


class Metrics:
    """The numbers of one server."""

    def __init__(self, deployment: str, live: Callable[[], dict[str, float]]) -> None:
        """`live` returns name -> value of what is read at each scrape: queue, running requests, records."""
        self.registry = CollectorRegistry()
        labels = ("path", "unit", "route", "status")
        self.requests = Counter("rayleigh_requests", "Requests, by HTTP status.", labels, registry=self.registry)
        shown: dict[str, Any] = {"buckets": SECONDS, "registry": self.registry}
        self.latency = Histogram("rayleigh_request_seconds", "Seconds from the request's head to the reply.", ("status",), **shown)
        self.queued = Histogram("rayleigh_queue_seconds", "Seconds in the queue.", **shown)
        self.tokens = Counter("rayleigh_tokens", "Tokens of prompts and answers.", ("direction",), registry=self.registry)
        self.cost = Counter("rayleigh_cost", "Cost, in the contract's currency.", registry=self.registry)
        self.abstained = Counter("rayleigh_abstained", "Requests that were abstained on.", registry=self.registry)
        self.refused = Counter("rayleigh_refused_keys", "Requests without a valid key.", registry=self.registry)
        self.swaps = Counter("rayleigh_swaps", "Times that another deployment took over.", registry=self.registry)
        self.info = Gauge("rayleigh_deployment", "1; the label is the fingerprint.", ("fingerprint",), registry=self.registry)
        self.info.labels(deployment).set(1)
        self.registry.register(_Live(live))

    def swap(self, deployment: str) -> None:
        """Name the deployment that answers from now on."""
        self.info.clear()
        self.info.labels(deployment).set(1)
        self.swaps.inc()

    def count(self, row: Row) -> None:
        """Count a request; `row` is that of its record."""
        status = str(row["status"])
        self.requests.labels(row["path"], row["unit"], row["route"], status).inc()
        self.latency.labels(status).observe(row["latency_ms"] / 1000)
        if row["queue_ms"] is not None:
            self.queued.observe(row["queue_ms"] / 1000)
        for direction in ("in", "out"):
            self.tokens.labels(direction).inc(row[f"tokens_{direction}"] or 0)
        self.cost.inc(row["cost"] or 0.0)
        self.abstained.inc(bool(row["abstained"]))

    def text(self) -> bytes:
        """Return all numbers in Prometheus's text form."""
        return generate_latest(self.registry)
