import os
import re
import subprocess
import time
from pathlib import Path
from typing import get_args

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from hookrelay import __version__
from hookrelay.model import AttemptError
from hookrelay.telemetry.metrics import COMMIT_SECONDS, SECONDS, Histogram, Metrics, Reading

GAUGES = {
    "hookrelay_pending_deliveries": 12.0,
    "hookrelay_held_deliveries": 3.0,
    "hookrelay_oldest_due_seconds": 4.5,
    "hookrelay_open_connections": 8.0,
    "hookrelay_store_size_bytes": 1e9,
    "hookrelay_store_max_size_bytes": 1e10,
    "hookrelay_store_free_bytes": 5e9,
}
CONTRACT = {
    "hookrelay_events": ("counter", {"result"}),
    "hookrelay_deliveries": ("counter", {"result"}),
    "hookrelay_attempts": ("counter", {"outcome"}),
    "hookrelay_local_faults": ("counter", {"kind"}),
    "hookrelay_limits_met": ("counter", {"limit"}),
    "hookrelay_rate_limit_waits": ("counter", set()),
    "hookrelay_spans": ("counter", {"result"}),
    "hookrelay_webhook_attempts": ("counter", {"webhook", "outcome"}),
    "hookrelay_attempt_duration_seconds": ("histogram", {"le"}),
    "hookrelay_delivery_latency_seconds": ("histogram", {"le"}),
    "hookrelay_store_commit_seconds": ("histogram", {"le"}),
    "hookrelay_in_flight_attempts": ("gauge", set()),
    **{name: ("gauge", set()) for name in GAUGES},
    "hookrelay_webhooks": ("gauge", {"status"}),
    "hookrelay_config_last_reload_successful": ("gauge", set()),
    "hookrelay_config_last_reload_timestamp_seconds": ("gauge", set()),
    "hookrelay_build_info": ("gauge", {"version", "python", "sqlite"}),
    "hookrelay_webhook_pending": ("gauge", {"webhook"}),
    "hookrelay_webhook_oldest_due_seconds": ("gauge", {"webhook"}),
    "hookrelay_webhook_up": ("gauge", {"webhook"}),
    "process_cpu_seconds": ("counter", set()),
    "process_max_fds": ("gauge", set()),
    "process_open_fds": ("gauge", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
}
READING = Reading(
    GAUGES,
    {"active": 2, "paused": 1, "disabled": 0},
    [("wh_1", 4, 1.5, False), ("wh_2", 0, 0.0, True)],
    {"wh_1", "wh_2"},
)


def reading(metrics: Metrics, said: Reading) -> None:
    """From now on the owners of other numbers say this."""

    async def read() -> Reading:
        return said

    metrics.read = read


@pytest.fixture
def metrics() -> Metrics:
    """Numbers everywhere."""
    metrics = Metrics()
    metrics.events["accepted"] += 7
    metrics.deliveries["succeeded"] += 5
    metrics.attempts["success"] += 5
    metrics.attempts["connect_refused"] += 2
    metrics.local_faults["attempt"] += 1
    metrics.webhook_attempts["wh_1", "success"] += 5
    metrics.webhook_attempts["wh_gone", "success"] += 9
    metrics.attempt_seconds.observe(0.003)
    metrics.latency_seconds.observe(0.3)
    metrics.commit_seconds.observe(0.0007)
    metrics.in_flight = 2
    metrics.rate_limit_waits = 3
    metrics.reload_at = 1_800_000_000.0
    metrics.started_at = 1_700_000_000.0
    metrics.build = {"sqlite": "3.53.1"}
    reading(metrics, READING)
    return metrics


def text(metrics: Metrics) -> str:
    return trio.run(metrics.snapshot).render().decode()


def ours(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("hookrelay_")]


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text(metrics))}


def values(family: Metric) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix(family.name), *sorted(sample.labels.values())): sample.value
        for sample in family.samples
    }


def test_names_types_and_labels_are_the_contracts(metrics: Metrics):
    found = families(metrics)
    assert {
        name: (family.type, {label for sample in family.samples for label in sample.labels})
        for name, family in found.items()
    } == CONTRACT
    assert all(family.documentation for family in found.values())


def test_every_number_comes_out_where_it_belongs(metrics: Metrics):
    found = {name: values(family) for name, family in families(metrics).items()}
    assert found["hookrelay_events"] == {
        ("_total", "accepted"): 7, ("_total", "duplicate"): 0, ("_total", "refused"): 0,
    }  # fmt: skip
    assert found["hookrelay_deliveries"] == {
        ("_total", "succeeded"): 5, ("_total", "failed"): 0, ("_total", "cancelled"): 0,
    }  # fmt: skip
    attempts = {outcome: count for (_, outcome), count in found["hookrelay_attempts"].items()}
    assert attempts == {**dict.fromkeys(get_args(AttemptError), 0), "success": 5, "connect_refused": 2}
    assert found["hookrelay_local_faults"] == {
        ("_total", "accept"): 0, ("_total", "attempt"): 1, ("_total", "clock_jump"): 0,
            ("_total", "memory"): 0, ("_total", "payload_damaged"): 0, ("_total", "store_full"): 0,
            ("_total", "store_io"): 0,
    }  # fmt: skip
    assert found["hookrelay_in_flight_attempts"] == {("",): 2}
    assert {name: found[name] for name in GAUGES} == {name: {("",): value} for name, value in GAUGES.items()}
    assert found["hookrelay_webhooks"] == {("", "active"): 2, ("", "paused"): 1, ("", "disabled"): 0}
    assert found["hookrelay_config_last_reload_successful"] == {("",): 1}
    assert found["hookrelay_config_last_reload_timestamp_seconds"] == {("",): 1_800_000_000}
    assert found["hookrelay_webhook_pending"] == {("", "wh_1"): 4, ("", "wh_2"): 0}
    assert found["hookrelay_webhook_up"] == {("", "wh_1"): 0, ("", "wh_2"): 1}
    assert found["hookrelay_webhook_oldest_due_seconds"] == {("", "wh_1"): 1.5, ("", "wh_2"): 0}


def test_the_build_names_what_runs(metrics: Metrics):
    ((sample),) = families(metrics)["hookrelay_build_info"].samples
    assert (sample.labels["version"], sample.labels["sqlite"], sample.value) == (__version__, "3.53.1", 1)


def test_a_webhook_that_is_no_longer_there_is_no_series(metrics: Metrics):
    assert values(families(metrics)["hookrelay_webhook_attempts"]) == {("_total", "success", "wh_1"): 5}

    assert set(metrics.webhook_attempts) == {("wh_1", "success")}  # nor is it kept in memory


def test_with_too_many_webhooks_there_is_no_series_for_any(metrics: Metrics):
    reading(metrics, Reading(GAUGES, {"active": 2}, (), {"wh_1", "wh_2"}))
    assert "wh_" not in text(metrics)
    assert metrics.webhook_attempts["wh_1", "success"] == 5  # for when there are fewer


def test_numbers_that_change_while_they_are_rendered_are_those_of_the_snapshot(metrics: Metrics):
    before, snapshot = ours(text(metrics)), trio.run(metrics.snapshot)
    metrics.events["accepted"] += 1
    metrics.webhook_attempts["wh_1", "success"] += 1
    metrics.attempt_seconds.observe(0.003)
    assert ours(snapshot.render().decode()) == before != ours(text(metrics))


def test_the_process_tells_what_the_kernel_says_of_it(metrics: Metrics):
    with Path("/dev/null").open():
        found = {name: values(family) for name, family in families(metrics).items() if name.startswith("process_")}
        files = len(os.listdir("/proc/self/fd")) - 1
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    assert found["process_open_fds"] == {("",): files}
    assert found["process_resident_memory_bytes"][("",)] == pytest.approx(resident, rel=0.2)
    assert 0 < found["process_cpu_seconds"][("_total",)] <= time.process_time()
    assert found["process_start_time_seconds"] == {("",): 1_700_000_000}
    assert found["process_max_fds"][("",)] >= files


def test_a_refused_reload_shows(metrics: Metrics):
    metrics.reload_successful = False
    assert values(families(metrics)["hookrelay_config_last_reload_successful"]) == {("",): 0}


@given(st.lists(st.floats(0, 40)), st.sampled_from([SECONDS, COMMIT_SECONDS]))
def test_a_bucket_holds_all_that_is_not_above_its_bound(observed: list[float], bounds: tuple[float, ...]):
    histogram = Histogram(bounds)
    for value in observed:
        histogram.observe(value)
    family = histogram.family("h", "text")
    found = {sample.labels.get("le", sample.name): sample.value for sample in family.samples}
    assert found.pop("h_sum") == pytest.approx(sum(observed))
    assert found.pop("h_count") == len(observed)
    assert found == {
        **{str(bound): sum(value <= bound for value in observed) for bound in bounds},
        "+Inf": len(observed),
    }


def test_promtool_has_nothing_to_say(metrics: Metrics):
    for each in (metrics, Metrics()):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text(each), capture_output=True, text=True, timeout=20
        )
        assert (checked.stdout, checked.stderr, checked.returncode) == ("", "", 0)
