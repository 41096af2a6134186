"""What a receiver gets, byte for byte; what is kept of its answers; what the log says of neither."""

import ssl
import threading
import time

import pytest
import trustme
from rig import GOOD, OK, SECRET, answer, hook, wait_for
from standardwebhooks import Webhook

from hookrelay import __version__

OTHER = "whsec_" + "QUJD" * 11


def test_a_request_has_the_bytes_of_the_contract_and_no_other(daemon, receiver):
    taken = receiver()
    running = daemon(
        hook("one", taken.port, url=f"http://127.0.0.1:{taken.port}/one?a=b", **{"headers.X-Shop": "7"})
    ).start()
    data = (
        b'{ "a" :[1.50,  1e400, 123456789012345678901234567890,-0.0],"\\u00e4":"\xc3\xa4\xf0\x9f\x8e\x89\\/" ,"a":1\t}'
    )
    now = time.time()
    (said,) = running.submit(
        b'{"type":"a.b", "data":  %b  ,"timestamp":"2026-02-26T11:00:00+01:00","traceparent":"%b"}'
        % (data, b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    )
    taken.wait(1)
    request = taken.requests[0]
    first, *_ = request.head.split(b"\r\n")
    assert first == b"POST /one?a=b HTTP/1.1"
    body = b'{"id":"%b","type":"a.b","timestamp":"2026-02-26T10:00:00Z","data":%b}' % (said["id"].encode(), data)
    assert request.body == body
    headers = dict(request.headers)
    Webhook(SECRET).verify(body, headers)
    assert abs(int(headers.pop("webhook-timestamp")) - now) <= 2
    assert headers.pop("webhook-signature").startswith("v1,")
    assert headers == {
        "host": f"127.0.0.1:{taken.port}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "user-agent": f"hookrelay/{__version__}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "webhook-id": said["id"],
        "idempotency-key": said["id"],
        "webhook-attempt": "1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x-shop": "7",
    }
    assert running.end() == 0


@pytest.mark.parametrize("data", [b"null", b"0", b'""', b"[]", b"{}", b'"' + b"\\u0000" * 10_000 + b'"'])
def test_any_json_value_is_delivered_and_signed_as_it_was_submitted(shared, data):
    running, taken = shared
    (said,) = running.submit(b'{"data":%b,"type":"a"}' % data)
    wait_for(lambda: said["id"] in taken.ids())
    (request,) = [each for each in taken.requests if each.id == said["id"]]
    assert request.body.endswith(b'","data":%b}' % data)
    Webhook(SECRET).verify(request.body, request.headers)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One daemon and its receiver, for events that leave both as they were."""
    from rig import Daemon, Receiver

    taken = Receiver()
    running = Daemon(tmp_path_factory.mktemp("shared"), hook("one", taken.port)).start()
    yield running, taken
    running.close()
    taken.close()


def test_only_the_webhooks_that_want_an_event_get_it(daemon, receiver):
    taken = receiver()
    running = daemon(
        hook("exact", taken.port, events=["booking.created"])
        + hook("below", taken.port, events=["booking.*"])
        + hook("other", taken.port, events=["payment.done"])
        + hook("tenant", taken.port, tenant="shop")
    ).start()
    answers = running.submit(GOOD, b'{"type":"booking.a.b","data":1}', b'{"type":"a","data":1,"tenant":"shop"}')
    assert [said["deliveries"] for said in answers] == [2, 1, 1]
    taken.wait(4)
    running.settled()
    one, two, three = (said["id"] for said in answers)
    assert taken.ids("/exact") == {one: 1}
    assert taken.ids("/below") == {one: 1, two: 1}
    assert taken.ids("/tenant") == {three: 1}
    assert len(taken.requests) == 4
    assert running.end() == 0


def test_fifty_deliveries_go_over_no_more_connections_than_may_be_in_flight(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port, max_in_flight=3)).start()
    running.submit(*[GOOD] * 50)
    taken.wait(50)
    running.settled()
    assert taken.connections <= 3
    assert len({request.connection for request in taken.requests}) == taken.connections
    assert running.end() == 0


def test_no_more_attempts_run_at_once_than_may_be_in_flight(daemon, receiver):
    gate, lock, most, now = threading.Event(), threading.Lock(), [0], [0]

    def hold(request, number):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        gate.wait(20)
        with lock:
            now[0] -= 1
        return OK

    taken = receiver(hold)
    running = daemon(hook("one", taken.port), "delivery.max_in_flight = 4\n").start()
    running.submit(*[GOOD] * 20)
    taken.wait(4)
    assert running.metric("hookrelay_in_flight_attempts") == 4
    gate.set()
    taken.wait(20)
    running.settled()
    assert most == [4]
    assert running.end() == 0


def test_tls_is_verified_against_the_configured_authority(daemon, receiver, tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    good, wrong_host, unknown = (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) for _ in range(3))
    authority.issue_cert("127.0.0.1").configure_cert(good)
    authority.issue_cert("other.example").configure_cert(wrong_host)
    stranger.issue_cert("127.0.0.1").configure_cert(unknown)
    receivers = {"good": receiver(tls=good), "wrong": receiver(tls=wrong_host), "unknown": receiver(tls=unknown)}
    hooks = [hook(name, each.port, url=f"https://127.0.0.1:{each.port}/{name}") for name, each in receivers.items()]
    running = daemon("".join(hooks), 'egress.ca_file = "ca.pem"\n').start()
    (said,) = running.submit(GOOD)
    receivers["good"].wait(1)
    request = receivers["good"].requests[0]
    Webhook(SECRET).verify(request.body, request.headers)
    assert request.id == said["id"]
    for name, told in (("wrong", "127.0.0.1"), ("unknown", "unable to get local issuer")):
        wait_for(lambda name=name: running.deliveries(name)[0]["attempt_count"] == 1)
        (row,) = running.deliveries(name)
        assert row["error"]["code"] == "tls_error"
        assert told in row["error"]["detail"]
        assert receivers[name].requests == []
    assert running.end() == 0


def test_attempts_follow_the_schedule_and_each_is_in_the_history_with_its_answer(daemon, receiver):
    times = []

    def script(request, number):
        times.append(time.monotonic())
        said = [
            answer(503, b"later \xff", "x-why: load", "x-why: night", "connection: close"),
            b"",
            answer(404, b"?" * 5000),
            OK,
        ]
        return said[number - 1]  # the second closes a fresh connection: an idle one's end would cost no attempt

    taken = receiver(script)
    running = daemon(hook("one", taken.port, retry=["100ms", "200ms", "400ms"])).start()
    (said,) = running.submit(b'{"type":"a","data":{"n": 1}}')
    taken.wait(4)
    running.settled()
    assert [request.headers["webhook-attempt"] for request in taken.requests] == ["1", "2", "3", "4"]
    assert {request.body for request in taken.requests} == {taken.requests[0].body}
    for request in taken.requests:
        Webhook(SECRET).verify(request.body, request.headers)
    for wait_s, earlier, later in zip((0.1, 0.2, 0.4), times, times[1:], strict=False):
        assert later - earlier >= wait_s * 0.9
    (row,) = running.deliveries("one")
    shown = running.get(f"/v1/deliveries/{row['id']}").json
    attempts = shown["attempts"]
    assert (shown["status"], shown["attempt_count"], shown["payload"]) == ("succeeded", 4, {"n": 1})
    assert (shown["event_id"], shown["response_code"], shown["error"]) == (said["id"], 200, None)
    assert [attempt["number"] for attempt in attempts] == [1, 2, 3, 4]
    assert [attempt["response_code"] for attempt in attempts] == [503, None, 404, 200]
    codes = [attempt["error"] and attempt["error"]["code"] for attempt in attempts]
    assert codes == ["http_status", "reset", "http_status", None]
    assert attempts[0]["response_headers"] == {"content-length": "7", "x-why": "load, night", "connection": "close"}
    assert attempts[0]["response_body"] == "later \ufffd"
    assert attempts[1]["response_headers"] is attempts[1]["response_body"] is None
    assert attempts[2]["response_body"] == "?" * 4096
    assert len({attempt["id"] for attempt in attempts}) == 4
    for attempt, request in zip(attempts, taken.requests, strict=True):
        assert attempt["remote_address"] == f"127.0.0.1:{taken.port}"
        assert attempt["request_headers"]["webhook-id"] == said["id"]
        assert attempt["request_headers"]["webhook-attempt"] == request.headers["webhook-attempt"]
        assert attempt["request_headers"]["webhook-timestamp"] == request.headers["webhook-timestamp"]
        assert request.headers["webhook-signature"] not in str(shown)
    assert running.end() == 0


def test_after_the_last_attempt_of_its_schedule_a_delivery_has_failed(daemon, receiver):
    taken = receiver(lambda request, number: answer(500))
    running = daemon(hook("one", taken.port, retry="exponential(100ms, 2, 1s, 3)")).start()
    running.submit(GOOD)
    taken.wait(3)
    running.settled()
    (row,) = running.deliveries("one")
    assert (row["status"], row["attempt_count"], row["response_code"]) == ("failed", 3, 500)
    assert row["next_attempt_at"] is None
    assert row["completed_at"]
    assert running.metric('hookrelay_deliveries_total{result="failed"}') == 1
    assert running.end() == 0
    assert '"delivery_failed"' in running.log()


def test_neither_secret_nor_payload_nor_signature_is_in_the_log(daemon, receiver):
    def script(request, number):
        return {1: OK, 2: b"", 3: b"\x00 marker-garbage\r\n\r\n"}.get(number, answer(500, b"marker-answer"))

    taken = receiver(script)
    hooks = hook("one", taken.port, **{"headers.X-Token": "marker-header"}) + hook("two", taken.port, secret=OTHER)
    running = daemon(hooks, 'log.level = "debug"\n').start()
    running.submit(
        b'{"type":"a","data":"marker-payload","idempotency_key":"marker-key"}',
        b'{"type":"a","data":"marker-payload","idempotency_key":"marker-key","colour":"marker-field"}',
        b'{"type":"a","data":"marker-payload',
        b'{"type":"a","data":"marker-payload2","idempotency_key":"marker-key"}',
    )
    running.submit(*[b'{"type":"a","data":{"marker-name":"marker-payload"}}'] * 3)
    taken.wait(8)
    running.rewrite(hooks + f'[[webhook]]\nname = "bad"\nsecret = "{OTHER[:-3]}"\n')
    running.tell(1)
    running.logged("reload_refused")
    for name in ("one", "two"):
        assert SECRET[6:] not in str(running.get("/v1/webhooks").body)
        assert OTHER[6:] not in str(running.get(f"/v1/webhooks/{running.webhook(name)['id']}").body)
    metrics = running.get("/metrics").body.decode()
    assert running.end() == 0
    for text in (running.log(), metrics):
        assert "marker-" not in text
        assert SECRET[6:20] not in text
        assert OTHER[6:20] not in text
        for request in taken.requests:
            assert request.headers["webhook-signature"][3:] not in text
    assert "attempt_failed" in running.log()


def test_the_environment_overrides_the_file_and_a_hanging_receiver_ends_as_timeout(daemon, receiver):
    closed = threading.Event()

    def hang(request, number):
        closed.wait(20)
        return b""

    taken = receiver(hang)
    running = daemon(hook("one", taken.port), 'delivery.timeout = "20s"\n', HOOKRELAY_DELIVERY__TIMEOUT="700ms").start()
    assert running.webhook("one")["timeout"] == "700ms"
    running.submit(GOOD)
    taken.wait(1)
    wait_for(lambda: running.deliveries("one")[0]["attempt_count"] == 1, 5)
    (row,) = running.deliveries("one")
    assert row["error"]["code"] == "timeout"
    assert 650 <= row["response_time_ms"] < 1500
    closed.set()
    assert running.end() == 0
