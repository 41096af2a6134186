"""Events in and out over HTTP: submission, the catalogue, the lists, and the stream of what happens."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from http.client import HTTPConnection

import pytest
from api_rig import Gate, Told, fields_of, is_problem, serve
from rig import SECRET, answer, hook, wait_for
from standardwebhooks import Webhook

NDJSON = "application/x-ndjson"
EVENT = {"id", "type", "tenant", "timestamp", "idempotency_key", "ordering_key", "test", "created_at"}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    taken = Told()
    served = serve(tmp_path_factory.mktemp("events"), hook("all", taken.port, tenant="shop", events=["sent.*"]))
    served.taken = taken
    yield served
    with contextlib.closing(served.running):
        assert served.running.end() == 0
        assert "request_failed" not in served.running.log()
    taken.close()


@pytest.fixture(params=["unix", "tcp"])
def api(request, house):
    return house.admin if request.param == "unix" else house.caller("shop", "admin")


def lines(*events):
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in events)


def answers(reply):
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == NDJSON
    assert reply.body.endswith(b"\n")
    return [json.loads(line) for line in reply.body.splitlines()]


# --- submission -------------------------------------------------------------------------------------------------


def test_an_event_is_accepted_and_delivered_byte_for_byte(house, api):
    data = b'{ "a" :[1.50, 1e400,-0.0],"\\u00e4":"\xc3\xa4\\/","a":12345678901234567890123 }'
    body = b'{"type":"sent.now","tenant":"shop","timestamp":"2026-02-26T11:00:00+01:00","data":%b}' % data
    reply = api.post("/v1/events", body)
    assert reply.status == 202
    assert re.fullmatch(rb'\{"id":"evt_\w{26}","deliveries":1\}', reply.body.strip())
    id = reply.json["id"]
    wait_for(lambda: house.taken.ids("/all")[id] == 1)
    (request,) = [request for request in house.taken.at("/all") if request.id == id]
    expected = b'{"id":"%b","type":"sent.now","timestamp":"2026-02-26T10:00:00Z","data":%b}' % (id.encode(), data)
    assert request.body == expected
    Webhook(SECRET).verify(request.body, request.headers)
    shown = api.get(f"/v1/events/{id}")
    assert data in shown.body
    assert shown.json["timestamp"] == "2026-02-26T10:00:00Z"


def test_an_idempotency_key_counts_as_field_and_as_header(house, api):
    name = "unix" if api is house.admin else "tcp"
    event = {"type": "keyed", "data": {"n": 1}, "tenant": "shop"}
    first = api.post("/v1/events", event, idempotency_key=f"key {name}")
    assert first.status == 202
    for again in (
        api.post("/v1/events", event, idempotency_key=f"key {name}"),
        api.post("/v1/events", {**event, "idempotency_key": f"key {name}"}),
        api.post("/v1/events", {**event, "idempotency_key": f"key {name}"}, idempotency_key=f"key {name}"),
    ):
        assert (again.status, again.json) == (202, {**first.json, "duplicate": True})
    assert api.get(f"/v1/events/{first.json['id']}").json["idempotency_key"] == f"key {name}"
    for other in ({**event, "data": 2}, {**event, "type": "other"}):
        assert is_problem(api.post("/v1/events", other, idempotency_key=f"key {name}"), 409, "idempotency_conflict")
    both = api.post("/v1/events", {**event, "idempotency_key": "a"}, idempotency_key="b")
    assert is_problem(both, 422, "invalid_event")
    assert fields_of(both) == {"idempotency_key"}
    for bad in ("", "x" * 256, "\xe4", "a\tb"):
        assert is_problem(api.post("/v1/events", event, idempotency_key=bad), 422, "invalid_field"), bad


def test_the_keys_of_two_tenants_have_nothing_to_do_with_each_other(house):
    ids = set()
    for tenant in ("one", "two"):
        key = house.caller(tenant, "submit")
        reply = key.post("/v1/events", {"type": "a", "data": tenant}, idempotency_key="shared")
        assert reply.status == 202
        assert "duplicate" not in reply.json
        ids.add(reply.json["id"])
    assert len(ids) == 2


def test_of_many_submissions_with_one_key_at_once_a_single_one_counts(house):
    replies = []
    key = house.caller("racing", "submit")

    def submit():
        replies.append(key.post("/v1/events", {"type": "a", "data": 1}, idempotency_key="race").json)

    racers = [threading.Thread(target=submit) for _ in range(12)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len({reply["id"] for reply in replies}) == 1
    assert sorted("duplicate" in reply for reply in replies) == [False] + [True] * 11
    assert len(house.admin.data("/v1/events?tenant=racing")) == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (b"\xef\xbb\xbf{}", 400, "invalid_json", None),
        (b'{"type":"a","data":NaN}', 400, "invalid_json", None),
        (b'{"type":"a","data":1} x', 400, "invalid_json", None),
        (b'{"type":"a","data":"\xff"}', 400, "invalid_json", None),
        (b'{"type":"a","data":%b}' % (b"[" * 65 + b"]" * 65), 400, "invalid_json", None),
        (b'{"type":"a","data":1}\n{"type":"a","data":1}', 400, "invalid_json", None),
        (b"[]", 422, "invalid_event", None),
        (b'{"data":1}', 422, "invalid_event", "type"),
        (b'{"type":"a"}', 422, "invalid_event", "data"),
        (b'{"type":"a b","data":1}', 422, "invalid_event", "type"),
        (b'{"type":5,"data":1}', 422, "invalid_event", "type"),
        (b'{"type":"a","data":1,"tenant":"a b"}', 422, "invalid_event", "tenant"),
        (b'{"type":"a","data":1,"timestamp":"yesterday"}', 422, "invalid_event", "timestamp"),
        (b'{"type":"a","data":1,"ordering_key":""}', 422, "invalid_event", "ordering_key"),
        (b'{"type":"a","data":1,"idempotency_key":7}', 422, "invalid_event", "idempotency_key"),
        (b'{"type":"a","data":1,"traceparent":"x"}', 422, "invalid_event", "traceparent"),
        (b'{"type":"a","data":1,"colour":"red"}', 422, "invalid_event", "colour"),
        (b'{"type":"a","data":1,"test":true}', 422, "invalid_event", "test"),
        (b'{"type":"a","data":"' + b"x" * (256 << 10) + b'"}', 413, "too_large", None),
    ],
)
def test_what_is_wrong_with_an_event_is_told_as_a_problem(house, api, body, status, code, field):
    before = house.admin.get("/v1/events?limit=1").json
    reply = api.post("/v1/events", body)
    assert is_problem(reply, status, code)
    assert fields_of(reply) == ({field} if field else set())
    line = body.replace(b"\n", b" ")
    if line:
        (said,) = answers(api.post("/v1/events", line, content_type=NDJSON))
        assert said["error"]["code"] == code
        assert said["error"].get("field") == field
        assert said["error"]["detail"]
    assert house.admin.get("/v1/events?limit=1").json == before


def test_other_types_of_body_are_refused(house, api):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/merge-patch+json"):
        reply = api.post("/v1/events", b'{"type":"a","data":1}', content_type=kind)
        assert is_problem(reply, 415, "unsupported_media_type")


def test_many_lines_get_many_answers_in_their_order_and_a_bad_one_costs_only_itself(house, api):
    good = [{"type": "many", "data": number, "tenant": "shop"} for number in range(500)]
    body = lines(*good[:250], b"", b"  ", b"\r", b"{nope", b'{"type":"many"}', *good[250:]) + b"\r\n\n"
    said = answers(api.post("/v1/events", body, content_type=NDJSON + "; charset=utf-8"))
    assert len(said) == 502
    assert [each["error"]["code"] for each in said[250:252]] == ["invalid_json", "invalid_event"]
    ids = [each["id"] for each in said[:250] + said[252:]]
    assert ids == sorted(ids)
    assert house.admin.get(f"/v1/events/{ids[-1]}").json["data"] == 499
    newest = [row["id"] for row in house.admin.get("/v1/events?limit=250&tenant=shop").json["data"]]
    assert newest == ids[:-251:-1]


def test_keys_and_duplicates_within_one_body(house, api):
    name = "unix" if api is house.admin else "tcp"
    event = {"type": "twice", "data": 1, "tenant": "shop", "idempotency_key": f"within {name}"}
    first, second, third = answers(
        api.post("/v1/events", lines(event, event, {**event, "data": 2}), content_type=NDJSON)
    )
    assert second == {**first, "duplicate": True}
    assert third["error"]["code"] == "idempotency_conflict"
    refused = api.post("/v1/events", lines(event), content_type=NDJSON, idempotency_key="x")
    assert is_problem(refused, 422, "invalid_field")


def test_a_body_of_four_mebibytes_goes_and_a_larger_one_does_not(house, api):
    event = json.dumps({"type": "large", "data": "x" * 100_000, "tenant": "shop"}).encode()
    count = (4 << 20) // (len(event) + 1)
    said = answers(api.post("/v1/events", lines(*[event] * count), content_type=NDJSON))
    assert len([each for each in said if "id" in each]) == count
    assert is_problem(api.post("/v1/events", b" " * (4 << 20) + b"  ", content_type=NDJSON), 413, "too_large")
    long_line = b'{"type":"a","data":"' + b"x" * (256 << 10) + b'"}'
    said = answers(api.post("/v1/events", lines({"type": "a", "data": 1}, long_line), content_type=NDJSON))
    assert "id" in said[0]
    assert said[1]["error"]["code"] == "too_large"


def test_an_event_belongs_to_the_tenant_of_its_key_or_to_the_one_that_is_named(house):
    key = house.caller("shop", "submit")
    for path, event, tenant in (
        ("/v1/events", {}, "shop"),
        ("/v1/events", {"tenant": "shop"}, "shop"),
        ("/v1/events?tenant=shop", {}, "shop"),
    ):
        id = key.post(path, {"type": "a", "data": 1, **event}).json["id"]
        assert house.admin.get(f"/v1/events/{id}").json["tenant"] == tenant
    for path, event, tenant in (
        ("/v1/events", {}, "default"),
        ("/v1/events", {"tenant": "x"}, "x"),
        ("/v1/events?tenant=y", {}, "y"),
    ):
        id = house.admin.post(path, {"type": "a", "data": 1, **event}).json["id"]
        assert house.admin.get(f"/v1/events/{id}").json["tenant"] == tenant
    for api, path in ((key, "/v1/events"), (house.admin, "/v1/events?tenant=y")):
        assert is_problem(api.post(path, {"type": "a", "data": 1, "tenant": "z"}), 403, "forbidden")
    assert is_problem(key.post("/v1/events?tenant=z", {"type": "a", "data": 1}), 403, "forbidden")


def test_events_over_http_are_on_disk_before_they_are_answered(tmp_path):
    served = serve(tmp_path)
    try:
        ids = [served.admin.post("/v1/events", {"type": "a", "data": number}).json["id"] for number in range(20)]
        body = lines(*[{"type": "a", "data": number} for number in range(20)])
        ids += [each["id"] for each in answers(served.admin.post("/v1/events", body, content_type=NDJSON))]
        served.running.end(9)
        served.running.start()
        assert [row["id"] for row in served.admin.data("/v1/events")][::-1] == ids
        assert served.running.end() == 0
    finally:
        served.running.close()


# --- the catalogue ----------------------------------------------------------------------------------------------

CATALOGUE = """
events.closed_catalogue = true
[event_types."booking.created"]
description = "A booking was made"
example = { booking = 7 }
schema = "booking.json"
[event_types."booking.ended"]
description = "It is over"
"""


def test_a_closed_catalogue_and_its_schemas_are_told_and_enforced(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    schema = {"type": "object", "properties": {"booking": {"type": "integer"}}, "required": ["booking"]}
    (tmp_path / "booking.json").write_text(json.dumps(schema))
    taken = Told()
    served = serve(tmp_path, "", CATALOGUE)
    try:
        for api in (served.admin, served.caller("a", "submit"), served.caller("a", "read")):
            assert api.get("/v1/event-types").json == [
                {
                    "name": "booking.created", "description": "A booking was made", "example": {"booking": 7},
                    "schema": schema,
                },
                {"name": "booking.ended", "description": "It is over"},
            ]  # fmt: skip
        post = served.caller("a", "submit").post
        assert post("/v1/events", {"type": "booking.created", "data": {"booking": 1}}).status == 202
        assert post("/v1/events", {"type": "booking.ended", "data": None}).status == 202
        unknown = post("/v1/events", {"type": "booking.lost", "data": 1})
        assert is_problem(unknown, 422, "unknown_event_type")
        for data, path in (({"booking": "x"}, "data.booking"), ({}, "data"), (5, "data")):
            wrong = post("/v1/events", {"type": "booking.created", "data": data})
            assert is_problem(wrong, 422, "invalid_event")
            assert fields_of(wrong) == {path}, wrong.body
        made = served.admin.make(taken.url("/x"), events=["booking.created"])
        tested = served.admin.post(f"/v1/webhooks/{made['id']}/test").json
        assert (tested["event_type"], tested["payload"]) == ("booking.created", {"booking": 7})
        refused = served.admin.post(f"/v1/webhooks/{made['id']}/test", {"type": "booking.lost"})
        assert is_problem(refused, 422, "invalid_field")
        assert served.running.end() == 0
    finally:
        served.running.close()
        taken.close()


# --- lists ------------------------------------------------------------------------------------------------------


def test_events_are_listed_newest_first_by_page_type_and_time(house):
    key = house.caller("listed", "admin")
    ids = []
    for number in range(20):
        event = {"type": ("a.b", "c")[number % 2], "data": number, "ordering_key": "o"}
        ids.append(key.post("/v1/events", event, idempotency_key=str(number)).json["id"])
        time.sleep(0.002)
    rows = key.data("/v1/events")
    assert [row["id"] for row in rows] == ids[::-1]
    assert all(row.keys() == EVENT for row in rows)
    assert (rows[0]["idempotency_key"], rows[0]["ordering_key"], rows[0]["test"]) == ("19", "o", False)
    for limit in (1, 7, 20):
        assert [row for page in key.pages("/v1/events", limit) for row in page] == rows
    for type in ("a.b", "c", "none"):
        assert key.data(f"/v1/events?type={type}") == [row for row in rows if row["type"] == type]
        found = [row for page in key.pages(f"/v1/events?type={type}", 3) for row in page]
        assert found == [row for row in rows if row["type"] == type]
    at = rows[10]["created_at"]
    assert key.data(f"/v1/events?since={at}") == [row for row in rows if row["created_at"] >= at]
    assert key.data(f"/v1/events?until={at}") == [row for row in rows if row["created_at"] < at]
    assert house.admin.data("/v1/events?tenant=listed&type=c") == key.data("/v1/events?type=c")
    assert key.data("/v1/events?since=1h&until=0s&type=c") == key.data("/v1/events?type=c")
    assert fields_of(key.get("/v1/events?status=failed&limit=x")) == {"status", "limit"}


def test_an_event_is_shown_with_its_data_and_its_deliveries(house):
    key = house.caller("showing", "admin")
    made = sorted([key.make(house.taken.url(f"/show/{number}"))["id"] for number in range(3)])
    raw = b'{"type":"a","data":{"b":[1.0,2]}}'
    id = key.post("/v1/events", raw).json["id"]
    wait_for(lambda: {row["status"] for row in key.get(f"/v1/events/{id}").json["deliveries"]} == {"succeeded"})
    reply = key.get(f"/v1/events/{id}")
    assert reply.json.keys() == EVENT | {"data", "deliveries", "delivery_count"}
    assert b'"data":{"b":[1.0,2]}' in reply.body
    assert reply.json["delivery_count"] == 3
    assert sorted(row["webhook_id"] for row in reply.json["deliveries"]) == made
    assert reply.json["deliveries"] == sorted(key.data(f"/v1/deliveries?event={id}"), key=lambda row: row["id"])
    for wrong in (id.replace("evt_", "dlv_"), id[:-1] + ("0" if id[-1] != "0" else "1"), "x", id.lower()):
        assert is_problem(key.get(f"/v1/events/{wrong}"), 404, "not_found")


def test_an_event_of_many_deliveries_shows_the_first_250_and_counts_all(tmp_path):
    taken = Told()
    hooks = "".join(hook(f"h{number}", taken.port, status="paused") for number in range(260))
    served = serve(tmp_path, hooks)
    try:
        id = served.admin.post("/v1/events", {"type": "a", "data": 1}).json["id"]
        shown = served.admin.get(f"/v1/events/{id}").json
        assert (shown["delivery_count"], len(shown["deliveries"])) == (260, 250)
        assert sum(len(page) for page in served.admin.pages(f"/v1/deliveries?event={id}", 100)) == 260
        assert served.running.end() == 0
    finally:
        served.running.close()
        taken.close()


def test_a_key_that_comes_back_with_the_same_value_written_otherwise_is_a_duplicate(house, api):
    event = b'{"type":"sent.now","tenant":"shop","idempotency_key":"alike-%b","data":%b}'
    who = b"unix" if api is house.admin else b"tcp"
    first = api.post("/v1/events", event % (who, b'{"booking": 7, "guest": "Ad\\u00e4"}')).json
    for data in (b'{"guest":"Ad\xc3\xa4","booking":7}', b'{"booking":7,"guest":"Ad\\u00E4"}'):
        again = api.post("/v1/events", event % (who, data))
        assert (again.status, again.json) == (202, {**first, "duplicate": True})
    for data in (b'{"booking": 7.0, "guest": "Ad\\u00e4"}', b'{"booking": 7}'):
        assert is_problem(api.post("/v1/events", event % (who, data)), 409, "idempotency_conflict")
    # what was first is what is delivered, byte for byte
    wait_for(lambda: house.taken.ids("/all")[first["id"]] == 1)
    (request,) = [request for request in house.taken.at("/all") if request.id == first["id"]]
    assert request.body.endswith(b'"data":{"booking": 7, "guest": "Ad\\u00e4"}}')


# --- the stream -------------------------------------------------------------------------------------------------


class Stream:
    """A client of the stream, as a browser would be one."""

    def __init__(self, api, query="", last=None):
        self.connection = HTTPConnection("localhost")
        self.connection.sock = api.connect()
        self.connection.sock.settimeout(10)  # before a stream of nothing says that it is alive
        headers = {} if api.key is None else {"authorization": f"Bearer {api.key}"}
        if last is not None:
            headers["Last-Event-ID"] = last
        self.connection.request("GET", f"/v1/events/stream{query}", headers=headers)
        self.answer = self.connection.getresponse()
        self.comments = 0
        if self.answer.status == 200:
            assert self.answer.headers["content-type"].startswith("text/event-stream")
            assert self.answer.readline() == b"retry: 1000\n"
            begins = rb"id: evt_[0-9A-Z]{26}\n" if last is None and "last_event_id" not in query else rb"\n"
            assert re.fullmatch(begins, self.answer.readline())

    def next(self):
        """The next message: its id, kind and data; None at the stream's end."""
        id = kind = None
        data = []
        while True:
            line = self.answer.readline()
            if not line:
                return None
            line = line.rstrip(b"\n")
            name, _, value = line.partition(b": ")
            if name == b"id":
                id = value.decode()
            elif name == b"event":
                kind = value.decode()
            elif name == b"data":
                data.append(value)
            elif line.startswith(b":"):
                self.comments += 1
            elif not line and kind is not None:
                return id, kind, json.loads(b"\n".join(data))
            else:
                assert not line, line

    def take(self, count):
        return [self.next() for _ in range(count)]

    def rest(self):
        """Until it ends."""
        found = []
        with contextlib.suppress(http.client.IncompleteRead):
            while (message := self.next()) is not None:
                found.append(message)
        return found

    def close(self):
        self.connection.close()


@pytest.fixture
def stream():
    """Opens streams that end with their test."""
    with contextlib.ExitStack() as opened:

        def open(*args, **kwargs):
            return opened.enter_context(contextlib.closing(Stream(*args, **kwargs)))

        yield open


def test_new_events_come_with_their_data_and_only_those(house, stream, api):
    submit = house.caller("streamed", "submit").post
    submit("/v1/events", {"type": "before", "data": 0})
    query = "?tenant=streamed"
    watching = stream(house.admin if api is house.admin else house.caller("streamed", "read"), query)
    body = (
        b'{"type":"now","data":{"a":\n\t[1.50,\r\n"\\u2028\\n"]},"idempotency_key":"multi %b"}' % str(id(api)).encode()
    )
    first = submit("/v1/events", body).json["id"]
    more = [submit("/v1/events", {"type": "now", "data": number}).json["id"] for number in range(20)]
    found = watching.take(21)
    assert [each[:2] for each in found] == [(each, "event") for each in [first, *more]]
    assert found[0][2]["data"] == {"a": [1.5, "\u2028\n"]}
    assert found[0][2].keys() == EVENT | {"data"}
    shown = house.admin.get(f"/v1/events/{more[0]}").json
    del shown["deliveries"], shown["delivery_count"]
    assert found[1][2] == shown


def test_types_narrow_what_comes(house, stream):
    key = house.caller("typed", "admin")
    watching = stream(key, "?types=booking.*,payment.failed")
    every = stream(key, "?types=*")
    types = [
        "booking",
        "booking.created",
        "payment.made",
        "payment.failed",
        "bookings.x",
        "booking.a.b",
        "payment.failed.x",
    ]
    for type in [*types, "payment.failed"]:
        assert key.post("/v1/events", {"type": type, "data": 1}).status == 202
    wanted = ["booking.created", "payment.failed", "booking.a.b", "payment.failed"]
    assert [each[2]["type"] for each in watching.take(4)] == wanted
    assert [each[2]["type"] for each in every.take(8)] == [*types, "payment.failed"]


def test_deliveries_come_after_each_attempt_and_when_people_act(house, stream):
    key = house.caller("moving", "admin")
    made = key.make(house.taken.url("/moving"), retry=["50ms", "1h"])
    other = key.make(house.taken.url("/standing"), retry=[], events=["none"])
    house.taken.says["/moving"] = answer(500)
    watching = stream(key, f"?include=deliveries&webhook={made['id']}")
    both = stream(key, "?include=events,deliveries")
    quiet = stream(key, f"?include=deliveries&webhook={other['id']}")
    event = key.post("/v1/events", {"type": "a", "data": 1}).json["id"]

    def last(stream, count):
        while True:
            id, kind, row = stream.next()
            assert (id, kind) == (None, "delivery")
            assert (row["event_id"], row["webhook_id"]) == (event, made["id"])
            if row["attempt_count"] >= count:
                return row

    row = last(watching, 2)
    assert (row["status"], row["response_code"], row["error"]["code"]) == ("pending", 500, "http_status")
    assert row == key.data("/v1/deliveries")[0]
    assert key.post(f"/v1/deliveries/{row['id']}/cancel").status == 200
    assert watching.next()[2]["status"] == "cancelled"
    house.taken.says.pop("/moving")
    assert key.post(f"/v1/deliveries/{row['id']}/retry").status == 202
    assert last(watching, 3)["status"] == "succeeded"
    assert both.next()[:2] == (event, "event")
    assert both.next()[1] == "delivery"
    tested = key.post(f"/v1/webhooks/{other['id']}/test").json
    assert quiet.next()[2]["id"] == tested["id"]


def test_a_test_event_that_took_its_time_is_not_missed(house, stream):
    key = house.caller("testing", "admin")
    gate = house.taken.says["/testing"] = Gate()
    made = key.make(house.taken.url("/testing"), events=["none"])
    watching = stream(key)
    asking = threading.Thread(target=key.post, args=(f"/v1/webhooks/{made['id']}/test",))
    asking.start()
    house.taken.wait_at("/testing", 1)
    key.post("/v1/events", {"type": "between", "data": 1})
    gate.open()
    asking.join()
    after = key.post("/v1/events", {"type": "after", "data": 1}).json["id"]
    found = [watching.next()]
    while found[-1][0] != after:
        found.append(watching.next())
    assert [each[2]["type"] for each in found] == ["none", "between", "after"]


def test_events_of_another_tenant_are_never_seen(house, stream):
    mine, theirs = house.caller("mine", "admin"), house.caller("theirs", "admin")
    hook = theirs.make(house.taken.url("/theirs"), events=["*"])
    watching = stream(mine, "?include=events,deliveries")
    first = mine.post("/v1/events", {"type": "a", "data": 1}).json["id"]
    for _ in range(20):
        theirs.post("/v1/events", {"type": "a", "data": "theirs"})
    theirs.post(f"/v1/webhooks/{hook['id']}/test")
    house.taken.wait_at("/theirs", 21)
    last = mine.post("/v1/events", {"type": "a", "data": 2}).json["id"]
    assert [each[0] for each in watching.take(2)] == [first, last]
    resumed = stream(mine, "?include=events,deliveries", last=first)
    assert resumed.next()[0] == last
    # whoever shows the id of an event that is not theirs learns nothing but their own events behind it
    foreign = theirs.data("/v1/events")[-1]["id"]
    behind = Stream(mine, last=foreign)
    with contextlib.closing(behind):
        if behind.answer.status == 200:
            assert behind.next()[0] == last
    for query in (f"?webhook={hook['id']}", "?tenant=theirs"):
        assert mine.get(f"/v1/events/stream{query}").status in (403, 422)


def test_a_stream_ends_when_its_key_is_revoked(house, stream):
    made = house.admin.post("/v1/keys", {"tenant": "revoked", "role": "read"}).json
    watching = stream(house.stranger(made["key"]))
    first = house.admin.post("/v1/events?tenant=revoked", {"type": "a", "data": 1}).json["id"]
    assert watching.next()[0] == first
    assert house.admin.delete(f"/v1/keys/{made['id']}").status == 204
    house.admin.post("/v1/events?tenant=revoked", {"type": "a", "data": "not for them"})
    assert watching.rest() == []


def test_a_stream_that_breaks_goes_on_where_it_was_across_a_restart(tmp_path, stream):
    served = serve(tmp_path)
    try:
        key = served.caller("a", "admin")
        watching = stream(key)
        sent = [key.post("/v1/events", {"type": "a", "data": number}).json["id"] for number in range(30)]
        seen = [each[0] for each in watching.take(10)]
        watching.close()
        sent += [key.post("/v1/events", {"type": "a", "data": number}).json["id"] for number in range(30, 450)]
        served.restart()
        sent += [key.post("/v1/events", {"type": "a", "data": number}).json["id"] for number in range(450, 460)]
        for resumed in (stream(key, last=seen[-1]), stream(key, f"?last_event_id={seen[-1]}")):
            sent.append(key.post("/v1/events", {"type": "a", "data": "new"}).json["id"])
            assert [*seen, *(each[0] for each in resumed.take(len(sent) - 10))] == sent
        served.running.end(9)
        served.running.start()
        newest = stream(key, last=sent[-1])
        sent.append(key.post("/v1/events", {"type": "a", "data": "newest"}).json["id"])
        assert newest.next()[0] == sent[-1]
        assert served.running.end() == 0
    finally:
        served.running.close()


def test_what_is_submitted_while_streams_come_and_go_is_seen_once_and_in_order(house, stream):
    key = house.caller("busy", "admin")
    sent, is_over = [], threading.Event()

    def submit():
        for number in range(300):
            sent.extend(each["id"] for each in house.running.submit(b'{"type":"a","data":%d,"tenant":"busy"}' % number))
        is_over.set()

    submitting = threading.Thread(target=submit)
    first = stream(key)
    submitting.start()
    seen = [first.next()[0]]
    while not (is_over.is_set() and len(seen) >= len(sent)):
        watching = stream(key, last=seen[-1])
        seen += [each[0] for each in watching.take(min(17, 300 - len(seen)))]
        watching.close()
    submitting.join()
    assert seen == sent


def test_wrong_parameters_of_a_stream_are_named(house):
    query = "types=a%20b&include=keys&webhook=wh_x&last_event_id=evt_x&limit=5"
    for api in (house.admin, house.caller("a", "read")):
        reply = api.get(f"/v1/events/stream?{query}")
        assert is_problem(reply, 422, "invalid_field")
        assert fields_of(reply) == {"types", "include", "webhook", "last_event_id", "limit"}
    for id in ("x", "\xe4", "evt_" + "0" * 26):
        assert is_problem(house.admin.get("/v1/events/stream", Last_Event_ID=id), 422, "invalid_field"), id


def test_streams_end_quickly_and_properly_when_the_daemon_stops(tmp_path, stream):
    served = serve(tmp_path)
    try:
        key = served.caller("a", "admin")
        watching = [stream(api, "?include=events,deliveries") for api in (key, served.admin) for _ in range(10)]
        key.post("/v1/events", {"type": "a", "data": 1})
        for each in watching:
            assert each.next()[1] == "event"
        began = time.monotonic()
        assert served.running.end() == 0
        assert time.monotonic() - began < 3
        for each in watching:
            assert each.rest() == []
    finally:
        served.running.close()


def test_a_client_that_reads_nothing_hurts_nobody(house, stream):
    key = house.caller("flood", "admin")
    deaf = []
    for _ in range(5):
        sock = key.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET /v1/events/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key.key}\r\n\r\n"
        sock.sendall(request.encode())
        deaf.append(sock)
    good = stream(key)
    sent = []
    for number in range(40):
        body = lines(*[{"type": "a", "data": f"{number}" * 20_000}] * 8)
        sent += [each["id"] for each in answers(key.post("/v1/events", body, content_type=NDJSON))]
        began = time.monotonic()
        assert key.get("/v1/webhooks").status == 200
        assert time.monotonic() - began < 0.5
    assert [each[0] for each in good.take(len(sent))] == sent
    for sock in deaf:
        sock.close()


def test_one_read_key_has_so_many_streams_and_leaves_all_others_theirs(tmp_path):
    served = serve(tmp_path)
    try:
        with contextlib.ExitStack() as opened:
            greedy, other = served.caller("greedy", "read"), served.caller("other", "read")

            def open_stream(api):
                return opened.enter_context(contextlib.closing(Stream(api)))

            open = [open_stream(greedy) for _ in range(16)]
            assert {each.answer.status for each in open} == {200}
            refused = greedy.get("/v1/events/stream")
            assert is_problem(refused, 429, "rate_limited")
            assert refused.headers["retry-after"]
            for api in (other, served.admin, served.caller("*", "read")):
                assert open_stream(api).answer.status == 200
            # by many keys, too, the half of all is what one tenant can take
            for _ in range(3):
                more = served.caller("greedy", "read")
                assert {open_stream(more).answer.status for _ in range(16)} == {200}
            assert is_problem(served.caller("greedy", "read").get("/v1/events/stream"), 429, "rate_limited")
            assert open_stream(other).answer.status == 200
            assert greedy.get("/v1/webhooks").status == 200
            text = served.admin.get("/metrics").body.decode()
            assert 'hookrelay_limits_met_total{limit="streams"} 2.0' in text
            open[0].close()

            def there_is_room():
                with contextlib.closing(Stream(greedy)) as another:
                    return another.answer.status == 200

            wait_for(there_is_room)
            assert served.running.end() == 0
            assert '"limit_met"' in served.running.log()
    finally:
        served.running.close()
