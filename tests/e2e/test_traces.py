"""Spans: whose trace they are in, what they say and what not, and that no collector keeps a delivery waiting."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from collector import Collector
from rig import GOOD, OK, SECRET, answer, hook, line, wait_for
from standardwebhooks import Webhook

SERVER, CLIENT, ERROR = 2, 3, 2
TRACE, APP = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{APP}-01"
UNSAMPLED = f"00-{TRACE}-{APP}-00"


@pytest.fixture
def collector() -> Iterator[Callable[..., Collector]]:
    made: list[Collector] = []

    def make(*args: object) -> Collector:
        made.append(Collector(*args))  # type: ignore[arg-type]  # passed on as they came
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_attempts_are_spans_of_the_apps_trace_and_each_receiver_gets_its_own(daemon, receiver, collector):
    taken = receiver(lambda request, number: answer(503) if number == 1 else OK)
    gathered = collector()
    running = daemon(
        hook("one", taken.port, retry=["0s", "100ms"]),
        gathered.setting,
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,team=a%2Cb",
    ).start()
    (said,) = running.submit(line(1, traceparent=SAMPLED, tenant="default"))
    taken.wait(2)
    running.settled()
    (row,) = running.deliveries("one")
    shown = [each["request_headers"]["traceparent"] for each in running.attempts(row["id"])]
    assert running.end() == 0

    (accepted,) = gathered.spans("accept")
    first, second = gathered.spans("deliver")
    assert (accepted.name, accepted.kind, accepted.parent, accepted.status) == (
        "accept booking.created", SERVER, APP, 0,
    )  # fmt: skip
    assert accepted.attributes == {
        "hookrelay.event.id": said["id"],
        "hookrelay.event.type": "booking.created",
        "hookrelay.tenant": "default",
        "hookrelay.deliveries": 1,
    }
    for number, span, request in ((1, first, taken.requests[0]), (2, second, taken.requests[1])):
        assert (span.name, span.kind, span.parent) == ("deliver booking.created", CLIENT, accepted.id)
        assert request.headers["traceparent"] == f"00-{TRACE}-{span.id}-01" == shown[number - 1]
        Webhook(SECRET).verify(request.body, request.headers)
        assert accepted.start_ns <= span.start_ns < span.end_ns
        assert {name: span.attributes[name] for name in _EVERY} == {
            "http.request.method": "POST",
            "url.full": f"http://127.0.0.1:{taken.port}/***",
            "url.scheme": "http",
            "server.address": "127.0.0.1",
            "server.port": taken.port,
            "network.peer.address": "127.0.0.1",
            "network.peer.port": taken.port,
            "hookrelay.event.id": said["id"],
            "hookrelay.event.type": "booking.created",
            "hookrelay.delivery.id": row["id"],
            "hookrelay.webhook.id": row["webhook_id"],
            "hookrelay.tenant": "default",
            "hookrelay.attempt": number,
        }
    assert (first.status, first.message) == (ERROR, "")
    assert {name: value for name, value in first.attributes.items() if name not in _EVERY + _TIMES} == {
        "hookrelay.delivery.status": "pending",
        "hookrelay.outcome": "http_status",
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert 0 < first.attributes["hookrelay.seconds.connect"] < 20
    assert second.status == 0
    assert {name: value for name, value in second.attributes.items() if name not in _EVERY + _TIMES} == {
        "hookrelay.delivery.status": "succeeded",
        "hookrelay.outcome": "success",
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
    }
    assert {span.trace for span in gathered.spans()} == {TRACE}
    for request in gathered.requests():
        (resource,) = request.resource_spans
        said = {each.key: each.value.string_value for each in resource.resource.attributes}
        assert said["service.name"] == "hookrelay"
        assert said["service.version"]
        assert (said["deployment.environment.name"], said["team"]) == ("test", "a,b")
    assert {post.path for post in gathered.posts} == {"/v1/traces"}
    assert {post.headers["content-type"] for post in gathered.posts} == {"application/x-protobuf"}


_EVERY = (
    *("http.request.method", "url.full", "url.scheme", "server.address", "server.port"),
    *("network.peer.address", "network.peer.port", "hookrelay.event.id", "hookrelay.event.type"),
    *("hookrelay.delivery.id", "hookrelay.webhook.id", "hookrelay.tenant", "hookrelay.attempt"),
)
_TIMES = ("hookrelay.seconds.look_up", "hookrelay.seconds.connect", "hookrelay.seconds.answer")


def test_who_begins_a_trace_and_who_makes_no_spans(daemon, receiver, collector):
    taken, gathered = receiver(), collector()
    running = daemon(hook("one", taken.port), gathered.setting).start()
    unsampled, alone, first, again, conflict = running.submit(
        line(1, traceparent=UNSAMPLED),
        line(2),
        line(3, idempotency_key="k"),
        line(3, idempotency_key="k", traceparent=SAMPLED),
        line(4, idempotency_key="k", traceparent=SAMPLED),
    )
    assert conflict["error"]["code"] == "idempotency_conflict"
    running.settled()
    assert running.get(f"/v1/webhooks/{running.webhook('one')['id']}/test", "POST").status == 200
    assert running.end() == 0

    by_id = {request.id: request.headers["traceparent"] for request in taken.requests}
    assert by_id[unsampled["id"]] == UNSAMPLED
    accepted = {
        span.attributes.get("hookrelay.event.id"): span for span in gathered.spans("accept") if span.parent == ""
    }
    delivered = {span.attributes["hookrelay.event.id"]: span for span in gathered.spans("deliver")}
    assert unsampled["id"] not in accepted.keys() | delivered.keys()
    for each in (alone, first):
        root, attempt = accepted[each["id"]], delivered[each["id"]]
        assert (attempt.trace, attempt.parent) == (root.trace, root.id)
        assert by_id[each["id"]] == f"00-{root.trace}-{attempt.id}-03"
    assert accepted[alone["id"]].trace != accepted[first["id"]].trace

    repeated, refused = [span for span in gathered.spans("accept") if span.parent == APP]
    if repeated.status == ERROR:
        repeated, refused = refused, repeated
    assert repeated.attributes["hookrelay.event.id"] == again["id"] == first["id"]
    assert repeated.attributes["hookrelay.duplicate"] is True
    assert (refused.status, refused.attributes["error.type"]) == (ERROR, "idempotency_conflict")
    (tested,) = [span for span in delivered.values() if span.attributes.get("hookrelay.test")]
    assert tested.parent == ""


def test_neither_secret_nor_payload_leaves_in_a_span_nor_the_collectors_key_in_a_log(daemon, receiver, collector):
    taken, gathered = receiver(lambda request, number: answer(500, b"marker-answer", "x-a: marker-field")), collector()
    hooks = hook(
        "one", taken.port, url=f"http://127.0.0.1:{taken.port}/marker-path?token=marker-query", retry=[],
        description="marker-description", **{"headers.X-Token": "marker-header", "metadata.a": "marker-metadata"},
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as unused:
        refusing = hook("two", unused.getsockname()[1], retry=[])
    running = daemon(
        hooks + refusing,
        gathered.setting + 'log.level = "debug"\n',
        OTEL_EXPORTER_OTLP_HEADERS="api-key=marker%2Dcredential",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    ).start()
    running.submit(
        line(1, data="marker-payload", idempotency_key="marker-key", ordering_key="marker-order"),
        line(2, data={"marker-name": 1}),
        line(2, data="marker", idempotency_key="marker-key"),
    )
    taken.wait(2)
    running.settled()
    metrics = running.get("/metrics").body.decode()
    assert running.end() == 0
    assert len(gathered.spans("deliver")) == 4
    assert {span.message for span in gathered.spans("deliver")} == {"", "nothing listens at that address and port"}
    for request in gathered.requests():
        assert b"marker" not in request.SerializeToString()
        assert SECRET[6:20].encode() not in request.SerializeToString()
        for sent in taken.requests:
            assert sent.headers["webhook-signature"][3:].encode() not in request.SerializeToString()
    assert {post.headers["api-key"] for post in gathered.posts} == {"marker-credential"}
    assert {post.headers["content-encoding"] for post in gathered.posts} == {"gzip"}
    assert "marker" not in running.log() + metrics
    checked = subprocess.run(
        [sys.executable, "-m", "hookrelay", "check", "--config", str(running.config), "--print"],
        env=running._env(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (checked.returncode, "otlp_endpoint" in checked.stdout) == (0, True)
    assert "marker-credential" not in checked.stdout + checked.stderr


def test_a_collector_that_asks_for_time_gets_it_and_then_every_span(daemon, receiver, collector):
    times: list[float] = []

    def script(number):
        times.append(time.monotonic())
        return (503, {"retry-after": "2"}) if number == 1 else (200, {})

    taken, gathered = receiver(), collector(script)
    running = daemon(hook("one", taken.port), gathered.setting).start()
    running.submit(*[GOOD] * 5)
    gathered.wait(2)
    wait_for(lambda: running.metric('hookrelay_spans_total{result="exported"}') == 10, told=running.log)
    running.logged("spans_sent_again")
    assert times[1] - times[0] >= 1.9  # by itself it would wait 1 s at most
    assert len(gathered.spans("accept")) == len(gathered.spans("deliver")) == 5
    assert running.metric('hookrelay_spans_total{result="dropped"}') == 0
    assert running.end() == 0
    assert told(running.log(), "spans_not_sent", "detail") == ["the collector answered 503"]


def told(log: str, event: str, field: str) -> list[Any]:
    """What log lines of an event say."""
    return [said[field] for said in map(json.loads, log.splitlines()) if said["event"] == event]


def test_with_nobody_there_deliveries_go_on_trouble_is_told_once_and_the_daemon_ends_in_time(daemon, receiver):
    taken = receiver()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        setting = f'telemetry.otlp_endpoint = "http://127.0.0.1:{unused.getsockname()[1]}"\n'
    running = daemon(hook("one", taken.port), setting).start()
    running.submit(*[GOOD] * 600)
    taken.wait(600)
    running.settled()
    running.logged("spans_not_sent", 40)
    started = time.monotonic()
    assert running.end() == 0
    assert time.monotonic() - started < 20
    assert told(running.log(), "spans_not_sent", "detail") == ["Connection refused"]
    assert told(running.log(), "spans_lost", "count") == [1200]


def test_a_collector_that_hangs_delays_nothing_and_costs_the_end_two_seconds(daemon, receiver, collector):
    taken, gathered = receiver(), collector(lambda number: gathered.is_closed.wait(60) and None)
    running = daemon(hook("one", taken.port), gathered.setting).start()
    running.submit(*[GOOD] * 600)
    taken.wait(600)
    running.settled()
    gathered.wait(1)
    started = time.monotonic()
    assert running.end() == 0
    assert time.monotonic() - started < 8  # one request may take 10 s
    assert told(running.log(), "spans_lost", "count") == [1200]


def test_without_the_extra_the_daemon_says_how_to_get_it(daemon):
    made = daemon("", 'telemetry.otlp_endpoint = "http://127.0.0.1:4318"\n')
    blocked = "import sys; sys.modules['opentelemetry'] = None; from hookrelay.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, "serve", "--config", str(made.config)],
        env=made._env(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 78
    assert (
        f"{made.config}:6: telemetry.otlp_endpoint: needs OpenTelemetry's libraries, which are not installed:"
        " pip install 'hookrelay[otel]'\n"
    ) in done.stderr


def test_a_daemon_without_a_collector_imports_none_of_it():
    done = subprocess.run(
        [sys.executable, "-c", "import hookrelay.daemon, sys; print(*sys.modules)"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert not {name.partition(".")[0] for name in done.stdout.split()} & {"opentelemetry", "google", "httpx"}
