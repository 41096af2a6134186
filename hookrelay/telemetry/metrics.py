"""What Prometheus may ask (contract §7). The hot path adds to plain numbers; they become metrics when asked for.

prometheus-client's own counters cost 0.6 µs each time and its histograms 1.5 µs, which would be a tenth of a delivery.
The numbers are the loop's: it takes a `Snapshot` of them, and a thread makes that into text.
"""

import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from typing import get_args

import trio
from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from hookrelay import __version__
from hookrelay.model import AttemptError
from hookrelay.telemetry import process
from hookrelay.telemetry.limits import LIMITS

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


SCRAPERS_MOST = 16
"""Who may wait for the metrics of all who ask at once: nobody needs a key for them."""


class Histogram:
    """Counts by upper bound. Not thread-safe: observed on the loop's thread only."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        """As Prometheus wants it: cumulative."""
        buckets, total = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.sum)


FAULTS = ("accept", "attempt", "clock_jump", "memory", "payload_damaged", "store_full", "store_io")
"""Kinds: a client for whom there was no descriptor, an attempt that this host kept from being made, a clock that was
set, a store that had no memory, whose payload was not what was accepted, that had no room, or could not be written or
read."""


_NO_ATTEMPTS = dict.fromkeys(("success", *get_args(AttemptError)), 0)
"""Every outcome is told of from the start: the first of a kind is an increase, too."""


class Reading(Struct, frozen=True):
    """What the owners of other numbers say just now."""

    gauges: Mapping[str, float] = {}
    """By `hookrelay_…` name."""
    webhooks: Mapping[str, int] = {}
    """How many, by status."""
    by_webhook: Sequence[tuple[str, int, float, bool]] = ()
    """`(webhook id, pending, overdue seconds, is up)`, or nothing where there are too many of them."""
    known: Container[str] = ()
    """The ids of all webhooks that there are."""
    named: Sequence[tuple[str, str, str]] = ()
    """`(webhook id, tenant, name)`, where `metrics.webhook_info` is on and there are not too many."""


async def _read_nothing() -> Reading:
    return Reading()


class Metrics:
    """The daemon's numbers. Not thread-safe: counted and read on the loop's thread only."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter({"accepted": 0, "duplicate": 0, "refused": 0})
        self.deliveries: Counter[str] = Counter({"succeeded": 0, "failed": 0, "cancelled": 0})
        self.attempts: Counter[str] = Counter({"success": 0})
        self.local_faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self.limits_met: Counter[str] = Counter(dict.fromkeys(LIMITS, 0))
        self.spans: Counter[str] = Counter({"exported": 0, "dropped": 0})
        self.webhook_attempts: Counter[tuple[str, str]] = Counter()
        self.attempt_seconds = Histogram(SECONDS)
        self.latency_seconds = Histogram(SECONDS)
        self.commit_seconds = Histogram(COMMIT_SECONDS)
        self.in_flight = 0
        self.rate_limit_waits = 0
        self.reload_successful = True
        self.reload_at = 0.0
        self.started_at = 0.0
        self.build: Mapping[str, str] = {}
        self.read: Callable[[], Awaitable[Reading]] = _read_nothing
        """Asks the owners of what is not counted here."""
        self._rendering = trio.CapacityLimiter(1)
        self._thread = trio.CapacityLimiter(1)

    async def text(self) -> bytes | None:
        """The text exposition of this moment; None where too many wait for theirs.

        One at a time, and in a thread that nobody else can hold up: many milliseconds with many webhooks.
        """
        if self._rendering.statistics().tasks_waiting >= SCRAPERS_MOST:
            return None
        async with self._rendering:
            snapshot = await self.snapshot()
            return await trio.to_thread.run_sync(snapshot.render, limiter=self._thread)

    async def snapshot(self) -> "Snapshot":
        """All numbers of this moment. Forgets webhooks that are gone."""
        reading = await self.read()
        await trio.lowlevel.checkpoint()
        gone = [key for key in self.webhook_attempts if key[0] not in reading.known]
        for key in gone:
            del self.webhook_attempts[key]
        return Snapshot(
            reading,
            [
                _counter("hookrelay_events", "Events submitted, by what became of them.", "result", self.events),
                _counter("hookrelay_deliveries", "Deliveries that have ended, by how.", "result", self.deliveries),
                _counter(
                    "hookrelay_attempts",
                    "Attempts by outcome: success, or the error code.",
                    "outcome",
                    _NO_ATTEMPTS | self.attempts,
                ),
                _counter(
                    "hookrelay_local_faults", "Faults of this host, charged to no webhook.", "kind", self.local_faults
                ),
                _counter(
                    "hookrelay_limits_met",
                    "How often a bound on what callers may cost was met.",
                    "limit",
                    self.limits_met,
                ),
                _counter("hookrelay_spans", "Spans of traces, by what became of them.", "result", self.spans),
                CounterMetricFamily(
                    "hookrelay_rate_limit_waits",
                    "How often a webhook's rate limit made a delivery wait that could have started.",
                    value=self.rate_limit_waits,
                ),
                self.attempt_seconds.family(
                    "hookrelay_attempt_duration_seconds",
                    "From the start of an attempt to its answer's head, or its failure.",
                ),
                self.latency_seconds.family(
                    "hookrelay_delivery_latency_seconds",
                    "From acceptance to success, where the first attempt succeeded.",
                ),
                self.commit_seconds.family("hookrelay_store_commit_seconds", "One group commit, fsync included."),
                _gauge("hookrelay_in_flight_attempts", "Attempts that have begun and not ended.", self.in_flight),
                _gauge(
                    "hookrelay_config_last_reload_successful",
                    "1 where the last reading of the files went well.",
                    self.reload_successful,
                ),
                _gauge(
                    "hookrelay_config_last_reload_timestamp_seconds",
                    "When the files were last read with success.",
                    self.reload_at,
                ),
                self._build_info(),
            ],
            list(self.webhook_attempts.items()) if reading.by_webhook else [],
            self.started_at,
        )

    def _build_info(self) -> GaugeMetricFamily:
        build = GaugeMetricFamily("hookrelay_build_info", "What is running.", labels=["version", "python", "sqlite"])
        build.add_metric([__version__, platform.python_version(), self.build.get("sqlite", "")], 1)
        return build


class Snapshot(Collector):
    """The numbers of one moment. For any one thread."""

    def __init__(
        self,
        reading: Reading,
        families: Sequence[Metric],
        webhook_attempts: Sequence[tuple[tuple[str, str], int]],
        started_at: float,
    ) -> None:
        self._reading = reading
        self._families = families
        self._webhook_attempts = webhook_attempts
        self._started_at = started_at

    def render(self) -> bytes:
        """The text exposition. Takes many milliseconds with many webhooks: call it in a thread."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._families
        for name, value in self._reading.gauges.items():
            yield _gauge(name, _GAUGES[name], value)
        webhooks = GaugeMetricFamily("hookrelay_webhooks", "Webhooks by status.", labels=["status"])
        for status, count in self._reading.webhooks.items():
            webhooks.add_metric([status], count)
        yield webhooks
        yield from self._by_webhook()
        yield from process.families(self._started_at)

    def _by_webhook(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily(
            "hookrelay_webhook_attempts", "Attempts of one webhook by outcome.", labels=["webhook", "outcome"]
        )
        for (webhook, outcome), count in self._webhook_attempts:
            attempts.add_metric([webhook, outcome], count)
        yield attempts
        pending = GaugeMetricFamily(
            "hookrelay_webhook_pending", "Waiting deliveries of one webhook.", labels=["webhook"]
        )
        overdue = GaugeMetricFamily(
            "hookrelay_webhook_oldest_due_seconds", "How overdue its most overdue delivery is.", labels=["webhook"]
        )
        up = GaugeMetricFamily(
            "hookrelay_webhook_up", "0 while it is disabled, or active and its last attempt failed.", labels=["webhook"]
        )
        for webhook, count, seconds, is_up in self._reading.by_webhook:
            pending.add_metric([webhook], count)
            overdue.add_metric([webhook], seconds)
            up.add_metric([webhook], is_up)
        yield pending
        yield overdue
        yield up
        if self._reading.named:
            info = GaugeMetricFamily(
                "hookrelay_webhook_info", "Always 1: whose it is, and its name.", labels=["webhook", "tenant", "name"]
            )
            for labels in self._reading.named:
                info.add_metric(labels, 1)
            yield info


_GAUGES = {
    "hookrelay_pending_deliveries": "Deliveries that wait or are in flight.",
    "hookrelay_held_deliveries": "Deliveries that wait for their webhook to become active again.",
    "hookrelay_oldest_due_seconds": "How overdue the most overdue delivery is.",
    "hookrelay_open_connections": "Connections to receivers that are open.",
    "hookrelay_store_size_bytes": "The store's files.",
    "hookrelay_store_max_size_bytes": "What the store may grow to: store.max_size.",
    "hookrelay_store_free_bytes": "What is free on the store's disk.",
}


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in list(counts.items()):
        family.add_metric([value], count)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
