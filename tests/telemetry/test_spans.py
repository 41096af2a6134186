from collections import Counter

import pytest
from builders import START_MS, event, outcome, webhook

from hookrelay.rules.trace import Tracks
from hookrelay.telemetry.traces import ROOM, Span, Tracer

NOW_S = START_MS / 1000 + 0.0042
APP = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def tracer() -> Tracer:
    return Tracer(Tracks(b"salt"), Counter(), lambda: NOW_S)


def only(tracer: Tracer) -> Span:
    (span,) = tracer.take(10)
    return span


def test_acceptance_lasts_from_the_line_to_the_answer(tracer: Tracer):
    tracer.accepted(event(traceparent=APP), deliveries=2)
    span = only(tracer)
    assert (span.start_ms, span.duration_s) == (START_MS, 0.004)
    assert (span.trace_id, span.parent_id, span.is_parent_remote) == (APP[3:35], APP[36:52], True)
    assert span.error is None


def test_nothing_is_made_of_what_the_app_does_not_record(tracer: Tracer):
    unsampled = event(traceparent=APP[:-2] + "00")
    tracer.accepted(unsampled)
    tracer.attempted(unsampled, webhook(), "dlv_1", 1, outcome(), "succeeded")
    assert len(tracer) == 0
    assert tracer.header(unsampled, webhook(), 1, START_MS) == unsampled.traceparent


def test_the_header_names_the_span_that_the_attempt_becomes(tracer: Tracer):
    sent = tracer.header(event(), webhook(), 3, START_MS)
    tracer.attempted(event(), webhook(), "dlv_1", 3, outcome(), "succeeded")
    span = only(tracer)
    assert sent == f"00-{span.trace_id}-{span.span_id}-03"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://a.example", ("https://a.example/", "https", "a.example", 443)),
        ("https://a.example/", ("https://a.example/", "https", "a.example", 443)),
        ("https://A.example/services/T0/token", ("https://a.example/***", "https", "a.example", 443)),
        ("https://a.example?key=token", ("https://a.example/***", "https", "a.example", 443)),
        ("http://a.example:8080/token", ("http://a.example:8080/***", "http", "a.example", 8080)),
        ("https://[2001:DB8::1]:8443/x", ("https://[2001:db8::1]:8443/***", "https", "2001:db8::1", 8443)),
    ],
)
def test_of_a_url_only_the_server_is_told(tracer: Tracer, url: str, told: tuple[str, str, str, int]):
    tracer.attempted(event(), webhook(url=url), "dlv_1", 1, outcome(), "succeeded")
    attributes = only(tracer).attributes
    assert tuple(attributes[name] for name in ("url.full", "url.scheme", "server.address", "server.port")) == told
    assert "token" not in str(attributes)


@pytest.mark.parametrize(
    ("came", "told", "error"),
    [
        (outcome(), {"http.response.status_code": 200, "hookrelay.outcome": "success"}, None),
        (
            outcome("http_status", response_code=404, detail="the receiver answered 404"),
            {"http.response.status_code": 404, "error.type": "404", "hookrelay.outcome": "http_status"},
            "",
        ),
        (
            outcome("timeout", detail="no answer within the attempt's time"),
            {"error.type": "timeout", "hookrelay.outcome": "timeout"},
            "no answer within the attempt's time",
        ),
    ],
)
def test_how_an_attempt_went_is_told(tracer: Tracer, came, told, error):
    tracer.attempted(event(), webhook(), "dlv_1", 1, came, "pending")
    span = only(tracer)
    names = ("http.response.status_code", "error.type", "hookrelay.outcome")
    assert {name: value for name, value in span.attributes.items() if name in names} == told
    assert (span.error, span.duration_s) == (error, 0.25)


def test_the_steps_of_a_new_connection_are_told_in_seconds(tracer: Tracer):
    made = outcome(remote_address="[2001:db8::1]:443", phases="connect=1500 answer=20000")
    tracer.attempted(event(), webhook(), "dlv_1", 2, made, "succeeded")
    attributes = only(tracer).attributes
    assert {name: attributes[name] for name in attributes if name.startswith(("hookrelay.seconds", "network"))} == {
        "hookrelay.seconds.connect": 0.0015,
        "hookrelay.seconds.answer": 0.02,
        "network.peer.address": "2001:db8::1",
        "network.peer.port": 443,
    }
    assert attributes["http.request.resend_count"] == 1


def test_where_nobody_takes_them_the_oldest_make_room_and_are_counted():
    counts: Counter[str] = Counter()
    tracer = Tracer(Tracks(b"salt"), counts, lambda: NOW_S)
    for number in range(ROOM + 3):
        tracer.accepted(event(number + 1))
    assert (len(tracer), counts["dropped"]) == (ROOM, 3)
    assert [span.attributes["hookrelay.event.id"] for span in tracer.take(2)] == [event(4).id, event(5).id]


def test_neither_data_nor_keys_are_held(tracer: Tracer):
    said = event(data=b'"marker"', ordering_key="marker", timestamp="2026-01-01T00:00:00Z")
    hook = webhook(headers=(("x-a", "marker"),), description="marker", metadata={"a": "marker"}, secrets=(b"marker",))
    came = outcome("http_status", response_head=b"marker", response_body=b"marker")
    tracer.accepted(said)
    tracer.attempted(said, hook, "dlv_1", 1, came, "pending")
    assert "marker" not in str(tracer.take(2))
