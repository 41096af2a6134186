"""Event types, patterns and tenants as the contract (§1, §4) has them, by every way in and out."""

import contextlib
import json
from urllib.parse import quote

import pytest
from api_rig import Told, fields_of, is_problem, serve
from rig import hook, wait_for

TENANT = "urn:acme@shop.example_1-a"
TYPES = ["booking.created", "orders/create", "invoice:paid", "trial.will-end", "a/b:c.d-e"]
CATALOGUE = "".join(f'event_types."{each}" = {{ description = "Of {each}" }}\n' for each in TYPES)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    taken = Told()
    webhooks = hook("file", taken.port, tenant=TENANT, events=["orders/*", "*.created", "a/*.d-e", "trial.will-end"])
    served = serve(tmp_path_factory.mktemp("names"), webhooks, CATALOGUE)
    served.taken = taken
    yield served
    with contextlib.closing(served.running):
        assert served.running.end() == 0
        assert "request_failed" not in served.running.log()
    taken.close()


def came(house, path, count):
    wait_for(lambda: len(house.taken.at(path)) == count)
    return sorted(json.loads(request.body)["type"] for request in house.taken.at(path))


def test_every_kind_of_type_and_tenant_goes_from_the_socket_through_patterns_to_history(house):
    said = house.running.submit(
        *(json.dumps({"type": each, "data": 1, "tenant": TENANT}).encode() + b"\n" for each in TYPES)
    )
    assert [each["deliveries"] for each in said] == [1, 1, 0, 1, 1]
    assert came(house, "/file", 4) == ["a/b:c.d-e", "booking.created", "orders/create", "trial.will-end"]
    reader = house.caller(TENANT, "read")
    for each in TYPES:
        (row,) = reader.data(f"/v1/events?type={quote(each, safe='')}")
        assert (row["type"], row["tenant"]) == (each, TENANT)
    hooked = reader.data("/v1/webhooks")[0]["id"]
    (row,) = reader.data(f"/v1/webhooks/{hooked}/deliveries?type=orders/create")
    assert row["event_type"] == "orders/create"
    assert {each["name"] for each in reader.get("/v1/event-types").json} == set(TYPES)


def test_over_the_api_patterns_are_made_changed_tested_and_refused_with_what_would_be_right(house):
    admin = house.caller("shop:2", "admin")
    made = admin.make(house.taken.url("/api"), events=["invoice:*"])
    at = f"/v1/webhooks/{made['id']}"
    assert admin.post("/v1/events", {"type": "invoice:paid", "data": 1}).json["deliveries"] == 1
    assert admin.post("/v1/events", {"type": "invoice.paid", "data": 1}).json["deliveries"] == 0
    assert admin.post(f"{at}/test").json["event_type"] == "invoice:test"
    assert admin.patch(at, {"events": ["a.*.b", "*.*/x"]}).json["events"] == ["a.*.b", "*.*/x"]
    counts = {
        each: admin.post("/v1/events", {"type": each, "data": 1}).json["deliveries"]
        for each in ("a.x/y.b", "a.b", "q.r/x", "q/r/x", "q.r/s/x")
    }
    assert counts == {"a.x/y.b": 1, "a.b": 0, "q.r/x": 1, "q/r/x": 0, "q.r/s/x": 1}
    for wrong in ("book*", "a.*b", "**", "a..b", "*.", "ä"):
        refused = admin.patch(at, {"events": [wrong]})
        assert is_problem(refused, 422, "invalid_field")
        assert fields_of(refused) == {"events.0"}
        assert '"*.created"' in refused.json["errors"][0]["detail"]


def test_a_stream_takes_patterns_too(house):
    reader = house.caller("streaming", "read")
    assert is_problem(reader.get("/v1/events/stream?types=a*"), 422, "invalid_field")
    submit = house.caller("streaming", "submit")
    with contextlib.closing(reader.connect()) as sock:
        sock.settimeout(20)
        head = "GET /v1/events/stream?types=*/create,invoice:* HTTP/1.1\r\nHost: localhost\r\n"
        sock.sendall(f"{head}Authorization: Bearer {reader.key}\r\n\r\n".encode())
        seen = sock.recv(65536)
        assert seen.startswith(b"HTTP/1.1 200")
        for each in ("orders.create", "orders/create", "invoice:paid"):
            assert submit.post("/v1/events", {"type": each, "data": 1}).status == 202
        while b"invoice:paid" not in seen:
            seen += sock.recv(65536)
    assert b'"orders/create"' in seen
    assert b'"orders.create"' not in seen


def test_the_operators_tenant_is_named_by_no_key_link_or_submission(house):
    for path, wish in (
        ("/v1/keys", {"tenant": "hookrelay", "role": "read"}),
        ("/v1/portal-links", {"tenant": "hookrelay", "role": "read"}),
    ):
        refused = house.admin.post(path, wish)
        assert is_problem(refused, 422, "invalid_field")
        assert refused.json["errors"] == [
            {"field": "tenant", "detail": "hookrelay is the operators' own tenant: name another one"}
        ]
    event = {"type": "booking.created", "data": 1, "tenant": "hookrelay"}
    assert is_problem(house.admin.post("/v1/events", event), 422, "invalid_event")
    (said,) = house.running.submit(json.dumps(event).encode() + b"\n")
    assert (said["error"]["code"], said["error"]["field"]) == ("invalid_event", "tenant")
    for role in ("admin", "submit"):
        key = house.caller("a", role)
        assert key.get("/v1/webhooks?tenant=hookrelay").status == 403
        assert key.post("/v1/events", event).status in (403, 422)
    assert is_problem(
        house.caller("a", "admin").post(
            "/v1/webhooks", {"url": house.taken.url("/x"), "events": ["*"], "tenant": "hookrelay"}
        ),
        403,
        "forbidden",
    )
    # operators may have webhooks of their own
    assert house.admin.make(house.taken.url("/ops"), tenant="hookrelay")["tenant"] == "hookrelay"
