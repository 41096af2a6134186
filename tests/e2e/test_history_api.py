"""The read-only HTTP API of a running daemon, over its Unix socket and over TCP; its metrics as promtool sees them."""

import re
import signal
import socket
import subprocess
import threading

import pytest
from api_rig import Told, serve
from prometheus_client.parser import text_string_to_metric_families
from rig import GOOD, NOBODY, OK, Daemon, Receiver, answer, call, hook, wait_for

WEBHOOK = {
    "id",
    "tenant",
    "url",
    "events",
    "description",
    "status",
    "disabled_reason",
    "rate_limit",
    "max_in_flight",
    "timeout",
    "retry",
    "headers",
    "ordered",
    "metadata",
    "secret_hint",
    "source",
    "created_at",
    "updated_at",
}
DELIVERY = {
    "id",
    "event_id",
    "event_type",
    "webhook_id",
    "tenant",
    "status",
    "attempt_count",
    "response_code",
    "response_time_ms",
    "error",
    "next_attempt_at",
    "created_at",
    "completed_at",
    "test",
}
PROBLEM = {"type", "title", "status", "detail", "code", "errors"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A daemon with history: seven deliveries to /one (all arrived), seven to /two (all failed), nothing to /idle."""
    taken = Receiver(lambda request, number: answer(500) if request.path == "/two" else OK)
    hooks = hook("one", taken.port) + hook("two", taken.port, retry=["10ms"]) + hook("idle", taken.port, events=["no"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = f'api.listen = ["unix:a.sock", "127.0.0.1:{port}"]\n'
    running = Daemon(tmp_path_factory.mktemp("served"), hooks, settings).start()
    running.port = port
    running.ids = [said["id"] for said in running.submit(*[GOOD] * 7)]
    taken.wait(21)
    running.settled()
    yield running
    assert running.end() == 0
    running.close()
    taken.close()


def tcp(served, path, method="GET", host="localhost"):
    return call(socket.create_connection(("127.0.0.1", served.port)), path, method, host)


def is_problem(reply, status, code):
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json.keys() == PROBLEM
    assert (reply.json["status"], reply.json["code"]) == (status, code)
    assert reply.json["detail"]
    return True


def test_webhooks_are_listed_with_every_field_and_no_secret(served):
    reply = served.get("/v1/webhooks")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    rows = reply.json["data"]
    assert [row["url"].rpartition("/")[2] for row in sorted(rows, key=lambda row: row["url"])] == ["idle", "one", "two"]
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    for row in rows:
        assert row.keys() == WEBHOOK
        assert row["secret_hint"] == "LaSw"
        assert (row["source"], row["status"], row["disabled_reason"]) == ("file:hooks.toml", "active", None)
        assert served.get(f"/v1/webhooks/{row['id']}").json == row
    assert served.get("/v1/webhooks?tenant=nobody").json == {"data": [], "next_cursor": None}


def pages(served, path, limit):
    cursor, found = None, []
    while True:
        page = served.get(f"{path}?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json
        assert page.keys() == {"data", "next_cursor"}
        found.append([row["id"] for row in page["data"]])
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 6, 7, 8, 250])
def test_pages_of_deliveries_hold_each_once_and_newest_first(served, limit):
    path = f"/v1/webhooks/{served.webhook('one')['id']}/deliveries"
    found = pages(served, path, limit)
    assert [len(page) for page in found] == [limit] * (7 // limit) + [7 % limit] * bool(7 % limit)
    flat = [id for page in found for id in page]
    assert flat == sorted(flat, reverse=True)
    assert flat == [row["id"] for row in served.get(path).json["data"]]
    assert [served.get(f"/v1/deliveries/{id}").json["event_id"] for id in flat[::-1]] == served.ids


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_of_webhooks_hold_each_once(served, limit):
    found = pages(served, "/v1/webhooks", limit)
    assert [id for page in found for id in page] == [row["id"] for row in served.get("/v1/webhooks").json["data"]]


def test_a_delivery_is_shown_with_all_its_fields(served):
    for name, status, attempts in (("one", "succeeded", 1), ("two", "failed", 2)):
        rows = served.deliveries(name)
        for row in rows:
            assert row.keys() == DELIVERY
            assert (row["status"], row["attempt_count"], row["next_attempt_at"]) == (status, attempts, None)
            assert (row["event_type"], row["tenant"], row["test"]) == ("booking.created", "default", False)
            assert row["webhook_id"] == served.webhook(name)["id"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", row["completed_at"])
        shown = served.get(f"/v1/deliveries/{rows[0]['id']}").json
        assert shown == {**rows[0], "payload": 1, "attempts": shown["attempts"]}
        assert len(shown["attempts"]) == attempts


def test_what_a_caller_gets_wrong_is_told_as_a_problem(served):
    one, two = (f"/v1/webhooks/{served.webhook(name)['id']}/deliveries" for name in ("one", "two"))
    cursor = served.get(one + "?limit=2").json["next_cursor"]
    assert served.get(f"{one}?cursor={cursor}").status == 200
    forged = cursor[:-6] + "AAAAAA"
    elsewhere = f"/v1/webhooks?cursor={cursor}"
    for path in (
        f"{two}?cursor={cursor}",
        elsewhere,
        *(f"{one}?cursor={text}" for text in ("", "x", "%00", "%C3%A4", forged)),
        *(f"{one}?limit={text}" for text in ("0", "251", "-1", "1.5", "", "ten", "%D9%A1", "9" * 5000)),
    ):
        reply = served.get(path)
        assert is_problem(reply, 422, "invalid_field"), path
        assert [error["field"] for error in reply.json["errors"]] == [path.partition("?")[2].partition("=")[0]]
    both = served.get(f"{one}?limit=0&cursor=x").json
    assert [error["field"] for error in both["errors"]] == ["limit", "cursor"]


def test_what_is_not_there_is_a_404(served):
    (first, *_) = served.deliveries("one")
    changed = first["id"][:-1] + ("0" if first["id"][-1] != "0" else "1")
    for path in (
        "/v1/webhooks/wh_00000000000000000000000000",
        "/v1/webhooks/wh_00000000000000000000000000/deliveries",
        "/v1/webhooks/" + first["id"],
        *(
            f"/v1/deliveries/{id}"
            for id in (changed, served.ids[0], first["webhook_id"], first["id"].lower(), "x", "%00")
        ),
        "/v1/deliveries/" + "dlv_" + "Z" * 26,
        "/v1",
        "/v1/webhooks/",
        "/",
        "/%2e%2e/etc",
    ):
        assert is_problem(served.get(path), 404, "not_found"), path


@pytest.mark.parametrize("path", ["/v1/event-types", "/v1/deliveries/x", "/metrics", "/-/ready"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_another_method_is_a_405_that_names_the_right_one(served, path, method):
    reply = served.get(path, method)
    assert is_problem(reply, 405, "method_not_allowed")
    assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_over_tcp_a_key_and_a_known_host_are_needed_but_for_health_and_metrics(served):
    for path in ("/v1/webhooks", "/v1/nothing", "/"):
        reply = tcp(served, path)
        assert is_problem(reply, 401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert is_problem(tcp(served, "/v1/webhooks", "POST"), 401, "unauthorized")
    for path in ("/metrics", "/-/healthy", "/-/ready"):
        assert tcp(served, path).status == 200
        assert is_problem(tcp(served, path, host="evil.example"), 421, "wrong_host")
    assert is_problem(tcp(served, "/v1/webhooks", host="evil.example:80"), 421, "wrong_host")
    for host in ("LOCALHOST", f"127.0.0.1:{served.port}", "[::1]:1"):
        assert tcp(served, "/-/ready", host=host).status == 200


PROMISED = {
    "hookrelay_events_total": ("counter", {"result"}),
    "hookrelay_deliveries_total": ("counter", {"result"}),
    "hookrelay_attempts_total": ("counter", {"outcome"}),
    "hookrelay_attempt_duration_seconds": ("histogram", {"le"}),
    "hookrelay_delivery_latency_seconds": ("histogram", {"le"}),
    "hookrelay_pending_deliveries": ("gauge", set()),
    "hookrelay_held_deliveries": ("gauge", set()),
    "hookrelay_oldest_due_seconds": ("gauge", set()),
    "hookrelay_in_flight_attempts": ("gauge", set()),
    "hookrelay_open_connections": ("gauge", set()),
    "hookrelay_rate_limit_waits_total": ("counter", set()),
    "hookrelay_store_commit_seconds": ("histogram", {"le"}),
    "hookrelay_store_size_bytes": ("gauge", set()),
    "hookrelay_webhooks": ("gauge", {"status"}),
    "hookrelay_config_last_reload_successful": ("gauge", set()),
    "hookrelay_config_last_reload_timestamp_seconds": ("gauge", set()),
    "hookrelay_local_faults_total": ("counter", {"kind"}),
    "hookrelay_build_info": ("gauge", {"version", "python", "sqlite"}),
    "hookrelay_webhook_attempts_total": ("counter", {"webhook", "outcome"}),
    "hookrelay_webhook_pending": ("gauge", {"webhook"}),
    "hookrelay_webhook_oldest_due_seconds": ("gauge", {"webhook"}),
    "hookrelay_webhook_up": ("gauge", {"webhook"}),
}
"""What monitoring may rely on: series, their types and labels."""


def test_every_series_that_is_promised_is_there_with_its_type_and_labels(served):
    found = {}
    for family in text_string_to_metric_families(served.get("/metrics").body.decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert family.samples, f"{name} has no series"
        found[name] = family.type, {label for sample in family.samples for label in sample.labels}
    assert {name: found.get(name) for name in PROMISED} == PROMISED


def test_promtool_has_nothing_to_say_about_the_metrics(served):
    reply = served.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    done = subprocess.run(["promtool", "check", "metrics"], input=reply.body, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_metrics_count_what_happened(served):
    one, two = (served.webhook(name)["id"] for name in ("one", "two"))
    for series, figure in {
        'hookrelay_events_total{result="accepted"}': 7,
        'hookrelay_deliveries_total{result="succeeded"}': 7,
        'hookrelay_deliveries_total{result="failed"}': 7,
        'hookrelay_attempts_total{outcome="success"}': 7,
        'hookrelay_attempts_total{outcome="http_status"}': 14,
        f'hookrelay_webhook_attempts_total{{outcome="success",webhook="{one}"}}': 7,
        f'hookrelay_webhook_attempts_total{{outcome="http_status",webhook="{two}"}}': 14,
        "hookrelay_attempt_duration_seconds_count": 21,
        "hookrelay_delivery_latency_seconds_count": 7,
        'hookrelay_webhooks{status="active"}': 3,
        "hookrelay_config_last_reload_successful": 1,
        "hookrelay_pending_deliveries": 0,
    }.items():
        assert served.metric(series) == figure, series


def test_ready_is_said_only_while_it_is_so(daemon, receiver):
    gate = threading.Event()

    def hold(request, number):
        gate.wait(20)
        return OK

    taken = receiver(hold)
    running = daemon(hook("one", taken.port)).launch()
    seen = set()
    wait_for(lambda: seen.add(reply := running.get("/-/ready").status) or reply == 200)
    assert seen <= {0, 503, 200}
    assert running.submit(GOOD)[0]["deliveries"] == 1  # ready: both sockets are there
    taken.wait(1)
    running.tell(signal.SIGTERM)
    running.logged("stopping")
    wait_for(lambda: running.get("/-/ready").status != 200)
    assert running.get("/-/healthy") == NOBODY
    gate.set()
    assert running.wait(10) == 0


def test_a_test_that_failed_is_in_its_webhook_s_history_and_no_dead_letter(tmp_path):
    told = Told()
    served = serve(tmp_path)
    try:
        told.says["/down"] = answer(500)
        id = served.admin.make(told.url("/down"), tenant="acme", retry=[])["id"]
        tried = served.admin.post(f"/v1/webhooks/{id}/test").json
        served.admin.post("/v1/events", {"type": "a.b", "tenant": "acme", "data": 1})
        reader = served.caller("acme", "read")
        wait_for(lambda: served.admin.data("/v1/deliveries?status=failed"))
        for api in (served.admin, reader):
            (dead,) = api.data("/v1/deliveries?status=failed")
            assert dead["test"] is False
            history = api.data(f"/v1/webhooks/{id}/deliveries")
            assert {(row["id"], row["test"]) for row in history} == {(dead["id"], False), (tried["id"], True)}
            assert len(api.data(f"/v1/webhooks/{id}/deliveries?status=failed")) == 2
            assert len(api.data("/v1/deliveries")) == 2
        assert b'hookrelay_deliveries_total{result="failed"} 1.0' in served.admin.get("/metrics").body.splitlines()
        assert served.running.end() == 0
    finally:
        served.running.close()
        told.close()
