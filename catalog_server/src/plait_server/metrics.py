"""What the server counts, for Prometheus. One registry a server, so that two in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """Thread-safe."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """`waiting` tells how many requests are queued for the sequencers."""
        self.registry = CollectorRegistry()
        self.commits = Counter("plait_commits", "Commits that were acknowledged.", registry=self.registry)
        self.seconds = Histogram(
            "plait_rpc_seconds", "Time from request to answer.", ["rpc"], buckets=_SECONDS, registry=self.registry
        )
        self.errors = Counter(
            "plait_rpc_errors", "Calls that ended with an error.", ["rpc", "code"], registry=self.registry
        )
        depth = Gauge("plait_queue_depth", "Requests that wait for the sequencer.", registry=self.registry)
        depth.set_function(waiting)

    def text(self) -> bytes:
        """In Prometheus' own text format."""
        return generate_latest(self.registry)
