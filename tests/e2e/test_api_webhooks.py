"""Every row of the contract's §4 about webhooks, over the Unix socket and over TCP, against the daemon itself."""

import contextlib
import itertools
import json
import re
import subprocess
import threading
import time

import pytest
from api_rig import Gate, Told, fields_of, is_problem, serve
from rig import SECRET, answer, hook, wait_for
from standardwebhooks import Webhook, WebhookVerificationError

KEYS = {
    "id", "tenant", "url", "events", "description", "status", "disabled_reason", "rate_limit", "max_in_flight",
    "timeout", "retry", "headers", "ordered", "metadata", "secret_hint", "source", "created_at", "updated_at",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
OTHER = "whsec_" + "QUJD" * 11
NOBODY = "wh_00000000000000000000000000"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A daemon with one webhook of a file, and the receiver that all webhooks of this module call."""
    taken = Told()
    hooks = hook("filed", taken.port, events=["filed"]) + hook("gone", taken.port, events=["gone"], retry=["100ms"])
    settings = 'api.key_prefix = "otesse_live_sk_"\n'
    served = serve(tmp_path_factory.mktemp("webhooks"), hooks, settings)
    served.taken = taken
    yield served
    with contextlib.closing(served.running):
        assert served.running.end() == 0
        assert "request_failed" not in served.running.log()
    taken.close()


@pytest.fixture(scope="module")
def manager(house):
    """A customer's key over TCP."""
    return house.caller("otesse", "manage")


@pytest.fixture(params=["unix", "tcp"])
def api(request, house, manager):
    return house.admin if request.param == "unix" else manager


def send(house, tenant, type, data=1, count=1):
    """Submit events; their ids."""
    lines = [json.dumps({"type": type, "data": data, "tenant": tenant}).encode()] * count
    answers = house.running.submit(*lines)
    assert all("id" in said for said in answers), answers
    return [said["id"] for said in answers]


def settled(api, webhook, count, within_s=20):
    """The webhook's deliveries, newest first, once `count` of them have ended."""
    path = f"/v1/webhooks/{webhook}/deliveries?limit=250"

    def ended():
        return [row for row in api.data(path) if row["status"] not in ("pending", "held")]

    wait_for(lambda: len(ended()) >= count, within_s)
    return ended()


# --- the example ------------------------------------------------------------------------------------------------


def test_the_example_of_the_request_works_as_it_stands(house, manager):
    command = """curl -X POST http://127.0.0.1:8787/v1/webhooks -H "Authorization: Bearer otesse_live_sk_..." -H "Content-Type: application/json" \\
       -d '{"url": "https://yourapp.com/webhooks/otesse", "events": ["booking.created", "booking.completed", "payment.succeeded", "payment.failed"],
            "description": "Production booking and payment notifications"}'"""  # noqa: E501 -- as it was written
    assert re.fullmatch(r"otesse_live_sk_[A-Za-z0-9]{32}", manager.key)
    own = command.replace("127.0.0.1:8787", f"127.0.0.1:{house.port}").replace("otesse_live_sk_...", manager.key)
    done = subprocess.run(["/bin/sh", "-c", own], capture_output=True, timeout=20)
    assert done.returncode == 0
    made = json.loads(done.stdout)
    assert re.fullmatch(r"wh_[0-9A-HJKMNP-TV-Z]{26}", made["id"])
    assert made["url"] == "https://yourapp.com/webhooks/otesse"
    assert made["events"] == ["booking.created", "booking.completed", "payment.succeeded", "payment.failed"]
    assert made["description"] == "Production booking and payment notifications"
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made["secret"])
    assert (made["status"], made["tenant"], made["source"]) == ("active", "otesse", "api")
    assert TIME.fullmatch(made["created_at"])
    assert made.keys() == KEYS | {"secret"}

    path = f"/v1/webhooks/{made['id']}"
    secret = made.pop("secret")
    assert made in manager.get("/v1/webhooks?limit=250").json["data"]
    assert made["secret_hint"] == secret[-4:]
    changed = manager.patch(path, {"url": house.taken.url("/example"), "retry": []})
    assert (changed.status, changed.json["url"]) == (200, house.taken.url("/example"))

    tried = manager.post(path + "/test")
    assert (tried.status, tried.json["test"], tried.json["status"]) == (200, True, "succeeded")
    (request,) = house.taken.wait_at("/example", 1)
    assert json.loads(request.body)["test"] is True
    house.taken.says["/example"] = answer(500, b"out of order")
    send(house, "otesse", "payment.failed", {"amount": 5})
    failed, good = settled(manager, made["id"], 2)
    assert (good["status"], good["response_code"], good["error"]) == ("succeeded", 200, None)
    assert good["response_time_ms"] > 0
    assert (failed["status"], failed["response_code"], failed["error"]["code"]) == ("failed", 500, "http_status")
    assert failed["error"]["detail"]
    assert failed["response_time_ms"] > 0
    assert manager.delete(path).status == 204
    assert is_problem(manager.get(path), 404, "not_found")


# --- making and showing -----------------------------------------------------------------------------------------


def test_a_webhook_is_made_with_every_field_and_shown_without_its_secrets(house, api):
    said = {
        "url": house.taken.url("/full"), "events": ["a.b", "c.*"], "description": "Ä description", "secret": OTHER,
        "rate_limit": "10/s burst 50", "max_in_flight": 3, "timeout": "1500ms", "retry": ["1s", "2m"],
        "headers": {"X-Token": "hidden-value"}, "ordered": True, "metadata": {"a": {"b": [1, None, "ü"]}},
    }  # fmt: skip
    reply = api.post("/v1/webhooks", said)
    made = reply.json
    assert reply.status == 201
    assert reply.headers["location"] == f"/v1/webhooks/{made['id']}"
    assert made.keys() == KEYS | {"secret"}
    assert made["headers"] == {"X-Token": "***"}
    assert {name: made[name] for name in said if name != "headers"} == {
        name: value for name, value in said.items() if name != "headers"
    }
    del made["secret"]
    shown = api.get(reply.headers["location"])
    assert shown.json == made
    assert shown.headers["etag"] == reply.headers["etag"]
    listed = api.get("/v1/webhooks?limit=250")
    assert made in listed.json["data"]
    for text in (shown.body, listed.body):
        assert b"hidden-value" not in text
        assert OTHER[6:].encode() not in text
    assert api.get(f"/v1/webhooks/{made['id']}/deliveries").json == {"data": [], "next_cursor": None}
    assert api.delete(f"/v1/webhooks/{made['id']}").status == 204


def test_a_webhook_that_says_little_gets_the_defaults(house, api):
    made = api.make(house.taken.url("/little"))
    assert (made["max_in_flight"], made["timeout"], made["rate_limit"]) == (8, "30s", None)
    assert made["retry"] == ["5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"]
    assert (made["description"], made["headers"], made["ordered"], made["metadata"]) == ("", {}, False, {})
    assert made["tenant"] == ("default" if api is house.admin else "otesse")
    assert (made["status"], made["disabled_reason"]) == ("active", None)
    again = api.make(house.taken.url("/little"))
    assert again["id"] > made["id"]
    assert again["secret"] != made["secret"]
    for each in (made, again):
        assert api.delete(f"/v1/webhooks/{each['id']}").status == 204


def test_every_wrong_field_of_a_new_webhook_is_named_and_none_is_made(house, api):
    before = api.get("/v1/webhooks?limit=250").json
    wrong = {
        "url": "ftp://x", "events": ["a b"], "description": 5, "tenant": 7, "secret": "short", "rate_limit": "fast",
        "max_in_flight": 0, "timeout": "1y", "retry": ["soon"], "headers": {"host": "x"}, "ordered": "yes",
        "metadata": [], "colour": "red",
    }  # fmt: skip
    reply = api.post("/v1/webhooks", wrong)
    assert is_problem(reply, 422, "invalid_field")
    assert fields_of(reply) == {*(wrong.keys() - {"events", "retry", "headers"}), "events.0", "retry.0", "headers.host"}
    assert is_problem(empty := api.post("/v1/webhooks"), 422, "invalid_field")
    assert fields_of(empty) == {"url", "events"}
    for url in ("http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "http://u:p@example.com/", "x"):
        refused = api.post("/v1/webhooks", {"url": url, "events": ["*"]})
        assert is_problem(refused, 422, "invalid_field"), url
        assert fields_of(refused) == {"url"}
    assert api.get("/v1/webhooks?limit=250").json == before


def test_webhooks_are_listed_by_id_by_page_by_status_and_by_text(house):
    api = house.caller("lists", "manage")
    made = [api.make(house.taken.url(f"/list/{number}"), description=f"Number {number}") for number in range(7)]
    for each in made:
        del each["secret"]
    assert api.data("/v1/webhooks") == made
    for limit in (1, 3, 7, 250):
        found = list(api.pages("/v1/webhooks", limit))
        assert [row for page in found for row in page] == made
        assert all(len(page) == limit for page in found[:-1])
    paused = api.patch(f"/v1/webhooks/{made[2]['id']}", {"status": "paused"}).json
    assert api.data("/v1/webhooks?status=paused") == [paused]
    assert len(api.data("/v1/webhooks?status=active")) == 6
    assert api.data("/v1/webhooks?status=disabled") == []
    assert api.data("/v1/webhooks?q=nUMBER%203") == api.data("/v1/webhooks?q=list/3") == [made[3]]
    assert api.data(f"/v1/webhooks?q={made[4]['id']}") == [made[4]]
    assert house.admin.data("/v1/webhooks?tenant=lists&status=active") == api.data("/v1/webhooks?status=active")
    assert house.admin.data("/v1/webhooks?tenant=nobody") == []
    assert is_problem(api.get("/v1/webhooks?status=happy"), 422, "invalid_field")


def test_an_administrator_makes_a_webhook_for_a_tenant_by_field_or_by_parameter(house):
    for path, more in (("/v1/webhooks?tenant=named", {}), ("/v1/webhooks", {"tenant": "named"})):
        reply = house.admin.post(path, {"url": house.taken.url("/n"), "events": ["*"], **more})
        assert (reply.status, reply.json["tenant"]) == (201, "named")
    both = house.admin.post("/v1/webhooks?tenant=a", {"url": "https://x.example/", "events": ["*"], "tenant": "b"})
    assert is_problem(both, 422, "invalid_field")
    assert fields_of(both) == {"tenant"}


# --- changing ---------------------------------------------------------------------------------------------------


def test_a_merge_patch_changes_what_it_names_and_null_sets_back(house, api):
    made = api.make(
        house.taken.url("/patch"), description="old", rate_limit="5/s", timeout="5s", max_in_flight=2, retry=["1s"],
        metadata={"keep": 1, "drop": 2, "deep": {"a": 1, "b": 2}}, ordered=True,
    )  # fmt: skip
    del made["secret"]
    path = f"/v1/webhooks/{made['id']}"
    reply = api.patch(
        path, {"metadata": {"drop": None, "deep": {"b": None, "c": 3}, "new": [None]}, "description": None}
    )
    assert reply.status == 200
    expected = {**made, "description": "", "metadata": {"keep": 1, "deep": {"a": 1, "c": 3}, "new": [None]}}
    assert reply.json == {**expected, "updated_at": reply.json["updated_at"]}
    assert reply.json["updated_at"] >= made["updated_at"]
    reply = api.patch(
        path,
        {"rate_limit": None, "timeout": None, "max_in_flight": None, "retry": None, "ordered": None, "metadata": None},
        content_type="application/merge-patch+json",
    )
    changed = reply.json
    assert (changed["rate_limit"], changed["timeout"], changed["max_in_flight"]) == (None, "30s", 8)
    assert (len(changed["retry"]), changed["ordered"], changed["metadata"]) == (9, False, {})
    reply = api.patch(path, {"events": ["x.*"], "retry": "exponential(1s, 2, 1m, 3)", "url": house.taken.url("/other")})
    assert reply.json["events"] == ["x.*"]
    assert reply.json["retry"] == "exponential(1s, 2, 1m, 3)"
    assert api.get(path).json == reply.json
    assert api.delete(path).status == 204


def test_a_wrong_patch_names_every_field_and_changes_nothing(house, api):
    made = api.make(house.taken.url("/wrong"))
    path = f"/v1/webhooks/{made['id']}"
    before = api.get(path).json
    wrong = {
        "url": None, "events": [], "description": 5, "tenant": "else", "secret": OTHER, "timeout": 3, "colour": 1,
        "status": "disabled", "held": "burn", "id": "wh_x",
    }  # fmt: skip
    reply = api.patch(path, wrong)
    assert is_problem(reply, 422, "invalid_field")
    assert fields_of(reply) == wrong.keys()
    lone = api.patch(path, {"held": "discard"})
    assert is_problem(lone, 422, "invalid_field")
    assert fields_of(lone) == {"held"}
    assert is_problem(api.patch(path, b"[]"), 422, "invalid_field")
    assert is_problem(api.patch(path, b"{}", content_type="text/plain"), 415, "unsupported_media_type")
    assert is_problem(api.patch(f"/v1/webhooks/{NOBODY}", {}), 404, "not_found")
    assert api.get(path).json == before
    assert api.delete(path).status == 204


def test_headers_reach_the_receiver_and_three_stars_keep_their_value(house, api):
    tenant = "default" if api is house.admin else "otesse"
    where = f"/headers/{tenant}"
    made = api.make(house.taken.url(where), events=[f"headers.{tenant}"], headers={"X-A": "one", "X-B": "two"})
    path = f"/v1/webhooks/{made['id']}"
    changed = api.patch(path, {"headers": {"x-a": "***", "X-B": None, "X-C": "three"}}).json
    assert changed["headers"] == {"X-A": "***", "X-C": "***"}
    send(house, tenant, f"headers.{tenant}")
    (request,) = house.taken.wait_at(where, 1)
    fields = {name.lower(): value for name, value in request.headers.items()}
    assert (fields["x-a"], fields.get("x-b"), fields["x-c"]) == ("one", None, "three")
    assert api.delete(path).status == 204


def test_paused_holds_and_active_delivers_what_was_held(house, api):
    tenant = "default" if api is house.admin else "otesse"
    where, kind = f"/pause/{tenant}", f"pause.{tenant}"
    made = api.make(house.taken.url(where), events=[kind])
    path = f"/v1/webhooks/{made['id']}"
    assert api.patch(path, {"status": "paused"}).json["status"] == "paused"
    held_before = house.running.metric("hookrelay_held_deliveries")
    ids = send(house, tenant, kind, count=5)
    rows = api.data(path + "/deliveries?status=held")
    assert [row["event_id"] for row in rows] == ids[::-1]
    assert {(row["status"], row["next_attempt_at"], row["attempt_count"]) for row in rows} == {("held", None, 0)}
    assert api.data(path + "/deliveries?status=pending") == []
    assert house.running.metric("hookrelay_held_deliveries") == held_before + 5
    assert api.get(path + "?include=waiting").json["waiting"]["held"] == 5
    active = api.patch(path, {"status": "active", "held": "deliver"}).json
    assert (active["status"], active["disabled_reason"]) == ("active", None)
    house.taken.wait_at(where, 5)
    assert {row["status"] for row in settled(api, made["id"], 5)} == {"succeeded"}
    assert house.taken.ids(where) == dict.fromkeys(ids, 1)
    assert house.running.metric("hookrelay_held_deliveries") == held_before
    assert api.delete(path).status == 204


def test_discard_cancels_what_was_held_and_later_events_arrive(house, api):
    tenant = "default" if api is house.admin else "otesse"
    where, kind = f"/discard/{tenant}", f"discard.{tenant}"
    made = api.make(house.taken.url(where), events=[kind])
    path = f"/v1/webhooks/{made['id']}"
    api.patch(path, {"status": "paused"})
    send(house, tenant, kind, count=700)
    held_before = house.running.metric("hookrelay_held_deliveries")
    cancelled_before = house.running.metric('hookrelay_deliveries_total{result="cancelled"}')
    reply = api.patch(path, {"status": "active", "held": "discard"})
    assert (reply.status, reply.json["status"]) == (200, "active")
    (last,) = send(house, tenant, kind)
    house.taken.wait_at(where, 1)
    assert house.taken.ids(where) == {last: 1}
    rows = [row for page in api.pages(path + "/deliveries?status=cancelled", 250) for row in page]
    assert len(rows) == 700
    assert all(row["completed_at"] and row["next_attempt_at"] is None for row in rows)
    assert house.running.metric("hookrelay_held_deliveries") == held_before - 700
    assert house.running.metric('hookrelay_deliveries_total{result="cancelled"}') == cancelled_before + 700
    assert api.delete(path).status == 204


def test_deleting_cancels_what_waits_and_keeps_the_history(house, api):
    tenant = "default" if api is house.admin else "otesse"
    where, kind = f"/delete/{tenant}", f"delete.{tenant}"
    made = api.make(house.taken.url(where), events=[kind], retry=["1h"])
    path = f"/v1/webhooks/{made['id']}"
    send(house, tenant, kind)
    settled(api, made["id"], 1)
    house.taken.says[where] = answer(500)
    send(house, tenant, kind)
    house.taken.wait_at(where, 2)
    wait_for(lambda: api.data(path + "/deliveries")[0]["attempt_count"] == 1)
    pending = api.data(path + "/deliveries")
    assert [row["status"] for row in pending] == ["pending", "succeeded"]
    reply = api.delete(path)
    assert (reply.status, reply.body) == (204, b"")
    for gone in (api.get(path), api.delete(path), api.post(path + "/test")):
        assert is_problem(gone, 404, "not_found")
    assert house.running.submit(json.dumps({"type": kind, "data": 1, "tenant": tenant}).encode())[0]["deliveries"] == 0
    wait_for(lambda: api.get(f"/v1/deliveries/{pending[0]['id']}").json["status"] == "cancelled")
    rows = {row["id"]: row["status"] for row in api.get("/v1/deliveries?limit=250").json["data"]}
    assert {row["id"] for row in api.data(path + "/deliveries")} == {
        row["id"] for row in api.data(f"/v1/deliveries?webhook={path.rpartition(chr(47))[2]}")
    }
    assert [rows[row["id"]] for row in pending] == ["cancelled", "succeeded"]
    shown = api.get(f"/v1/deliveries/{pending[0]['id']}").json
    assert (shown["next_attempt_at"], len(shown["attempts"]), shown["webhook_id"]) == (None, 1, made["id"])
    assert len(house.taken.at(where)) == 2
    assert house.running.metric("hookrelay_pending_deliveries") == 0


def test_what_is_in_flight_when_its_webhook_is_deleted_goes_on_to_its_end(house):
    api = house.caller("flying", "manage")
    gate = house.taken.says["/flying"] = Gate()
    made = api.make(house.taken.url("/flying"), max_in_flight=1)
    send(house, "flying", "a", count=3)
    house.taken.wait_at("/flying", 1)
    rows = api.data(f"/v1/webhooks/{made['id']}/deliveries")[::-1]
    assert api.delete(f"/v1/webhooks/{made['id']}").status == 204
    gate.open()
    wait_for(lambda: {row["status"] for row in api.data("/v1/deliveries")} == {"succeeded", "cancelled"})
    assert [api.get(f"/v1/deliveries/{row['id']}").json["status"] for row in rows] == [
        "succeeded", "cancelled", "cancelled",
    ]  # fmt: skip
    assert len(house.taken.at("/flying")) == 1
    wait_for(lambda: house.running.metric("hookrelay_pending_deliveries") == 0)


def test_etags_guard_against_changes_that_nobody_saw(house, api):
    made = api.post("/v1/webhooks", {"url": house.taken.url("/etag"), "events": ["*"]})
    path = made.headers["location"]
    tag = made.headers["etag"]
    assert re.fullmatch(r'"[^"]+"', tag)
    for known in (tag, f'"x", {tag}'):
        same = api.get(path, if_none_match=known)
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    assert api.get(path, if_none_match='"x"').status == 200
    changed = api.patch(path, {"description": "new"}, if_match=tag)
    assert changed.status == 200
    new = changed.headers["etag"]
    assert new != tag
    assert api.get(path, if_none_match=tag).headers["etag"] == new
    assert is_problem(api.patch(path, {"description": "newer"}, if_match=tag), 412, "precondition_failed")
    assert is_problem(api.post(path + "/rotate-secret", {}, if_match=tag), 412, "precondition_failed")
    assert is_problem(api.delete(path, if_match=tag), 412, "precondition_failed")
    assert api.get(path).json == changed.json
    assert api.patch(path, {"description": "newest"}, if_match="*").status == 200
    paused = api.patch(path, {"status": "paused"})
    assert paused.headers["etag"] not in (tag, new)
    assert api.delete(path, if_match=paused.headers["etag"]).status == 204


def test_of_many_changes_with_one_etag_a_single_one_is_made(house, manager):
    made = manager.post("/v1/webhooks", {"url": house.taken.url("/race"), "events": ["*"]})
    path, tag = made.headers["location"], made.headers["etag"]
    replies = []

    def change(number):
        replies.append(manager.patch(path, {"description": str(number)}, if_match=tag).status)

    racers = [threading.Thread(target=change, args=(number,)) for number in range(12)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(replies) == [200] + [412] * 11
    assert manager.delete(path).status == 204


def test_an_idempotency_key_makes_one_webhook(house, api):
    wish = {"url": house.taken.url("/idempotent"), "events": ["*"]}
    key = f"key of {'unix' if api is house.admin else 'tcp'}"
    first = api.post("/v1/webhooks", wish, idempotency_key=key)
    again = api.post("/v1/webhooks", wish, idempotency_key=key)
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert again.headers["location"] == first.headers["location"]
    other = api.post("/v1/webhooks", {**wish, "description": "x"}, idempotency_key=key)
    assert is_problem(other, 409, "idempotency_conflict")
    assert api.post("/v1/webhooks", wish, idempotency_key=key + "2").json["id"] != first.json["id"]
    assert (
        house.caller("third", "manage").post("/v1/webhooks", wish, idempotency_key=key).json["id"] != first.json["id"]
    )
    for bad in ("", "x" * 256, "\xe4"):
        assert is_problem(api.post("/v1/webhooks", wish, idempotency_key=bad), 422, "invalid_field")
    assert api.patch(first.headers["location"], {"description": "y"}).status == 200
    later = api.post("/v1/webhooks", wish, idempotency_key=key)
    assert (later.status, later.json["id"], later.json["description"]) == (201, first.json["id"], "y")
    assert api.delete(first.headers["location"]).status == 204
    gone = api.post("/v1/webhooks", wish, idempotency_key=key)
    assert is_problem(gone, 409, "idempotency_conflict")


def test_the_same_idempotency_key_at_the_same_time_makes_one_webhook(house, manager):
    wish = {"url": house.taken.url("/at-once"), "events": ["*"], "description": "at once"}
    replies = []
    racers = [
        threading.Thread(target=lambda: replies.append(manager.post("/v1/webhooks", wish, idempotency_key="race").json))
        for _ in range(12)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [reply.get("id") or reply["detail"] for reply in replies] == [replies[0]["id"]] * 12
    assert len(manager.data("/v1/webhooks?q=at%20once&limit=250")) == 1


# --- webhooks of files ------------------------------------------------------------------------------------------


def test_a_webhook_of_a_file_cannot_be_changed_over_the_api_and_nothing_of_it_is(house):
    api = house.admin
    filed = house.running.webhook("filed")
    path = f"/v1/webhooks/{filed['id']}"
    tag = api.get(path).headers["etag"]
    for reply in (
        api.patch(path, {"description": "mine"}),
        api.patch(path, {"status": "paused"}),
        api.patch(path, {"status": "active"}),
        api.patch(path, {}),
        api.delete(path),
        api.post(path + "/rotate-secret", {}),
    ):
        assert is_problem(reply, 409, "file_managed")
        assert "hooks.toml" in reply.json["detail"]
    assert api.get(path).json == filed
    assert api.get(path, if_none_match=tag).status == 304
    send(house, "default", "filed")
    (request,) = house.taken.wait_at("/filed", 1)
    Webhook(SECRET).verify(request.body, request.headers)


def test_a_disabled_webhook_of_a_file_can_be_made_active_again(house):
    api = house.admin
    path = f"/v1/webhooks/{house.running.webhook('gone')['id']}"
    house.taken.says["/gone"] = answer(410)
    send(house, "default", "gone", count=1)
    wait_for(lambda: api.get(path).json["status"] == "disabled")
    shown = api.get(path).json
    assert shown["disabled_reason"] == "gone"
    send(house, "default", "gone", count=2)
    house.taken.says.pop("/gone")
    assert is_problem(api.patch(path, {"status": "active", "description": "x"}), 409, "file_managed")
    active = api.patch(path, {"status": "active", "held": "deliver"}, if_match=api.get(path).headers["etag"])
    assert (active.json["status"], active.json["disabled_reason"]) == ("active", None)
    assert {row["status"] for row in settled(api, shown["id"], 3)} == {"succeeded"}


# --- secrets ----------------------------------------------------------------------------------------------------


def verifies(secret, request):
    try:
        Webhook(secret).verify(request.body, request.headers)
    except WebhookVerificationError:
        return False
    return True


def test_after_a_rotation_both_secrets_sign_until_the_overlap_ends(house, api):
    tenant = "default" if api is house.admin else "otesse"
    where, kind = f"/rotate/{tenant}", f"rotate.{tenant}"
    made = api.make(house.taken.url(where), events=[kind])
    path = f"/v1/webhooks/{made['id']}"
    reply = api.post(path + "/rotate-secret", {"overlap": "1500ms"})
    rotated = reply.json
    ends = time.monotonic() + 1.5
    assert reply.status == 200
    assert rotated.keys() == KEYS | {"secret", "previous_secret_until"}
    assert rotated["secret"] != made["secret"]
    assert rotated["secret_hint"] == rotated["secret"][-4:]
    assert TIME.fullmatch(rotated["previous_secret_until"])
    send(house, tenant, kind)
    both = house.taken.wait_at(where, 1)[0]
    assert time.monotonic() < ends
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    assert verifies(rotated["secret"], both)
    assert verifies(made["secret"], both)

    def signs_alone():
        count = len(house.taken.at(where))
        send(house, tenant, kind)
        last = house.taken.wait_at(where, count + 1)[-1]
        assert verifies(rotated["secret"], last)
        return not verifies(made["secret"], last)

    wait_for(signs_alone, 5)
    assert time.monotonic() >= ends - 0.2
    last = house.taken.at(where)[-1]
    assert len(last.headers["webhook-signature"].split(" ")) == 1
    assert api.get(path).json["secret_hint"] == rotated["secret"][-4:]
    assert api.delete(path).status == 204


def test_a_rotation_without_overlap_or_with_a_secret_of_ones_own(house, api):
    tenant = "default" if api is house.admin else "otesse"
    where, kind = f"/own/{tenant}", f"own.{tenant}"
    made = api.make(house.taken.url(where), events=[kind])
    path = f"/v1/webhooks/{made['id']}/rotate-secret"
    rotated = api.post(path, {"overlap": "0s", "secret": OTHER}).json
    assert (rotated["secret"], rotated["previous_secret_until"], rotated["secret_hint"]) == (OTHER, None, OTHER[-4:])
    send(house, tenant, kind)
    (request,) = house.taken.wait_at(where, 1)
    assert verifies(OTHER, request)
    assert not verifies(made["secret"], request)
    default = api.post(path).json
    assert default["previous_secret_until"] is not None
    reply = api.post(path, {"overlap": "31d", "secret": "no", "colour": 1})
    assert is_problem(reply, 422, "invalid_field")
    assert fields_of(reply) == {"overlap", "secret", "colour"}
    assert api.delete(f"/v1/webhooks/{made['id']}").status == 204


# --- test events ------------------------------------------------------------------------------------------------


def counted(house):
    """The figures that a test event may not touch."""
    lines = house.running.get("/metrics").body.decode().splitlines()
    names = (
        "deliveries_total",
        "pending",
        "held",
        "attempts_total",
        "webhook_up",
        "webhooks",
        "events_total",
        "delivery",
    )
    return [line for line in lines if line.startswith(tuple(f"hookrelay_{name}" for name in names))]


def test_a_test_event_is_one_attempt_answered_with_the_whole_exchange(house, api):
    tenant = "default" if api is house.admin else "otesse"
    where = f"/test/{tenant}"
    made = api.make(house.taken.url(where), events=["order.*"], headers={"X-Own": "hidden-value"})
    path = f"/v1/webhooks/{made['id']}"
    before = counted(house)
    house.taken.says[where] = answer(200, b"thanks", "x-seen: yes")
    reply = api.post(path + "/test", b'{"type":"order.paid","data":{"b": 1.50,"a":[ ]}}')
    assert reply.status == 200
    shown = reply.json
    (request,) = house.taken.wait_at(where, 1)
    pattern = (
        rb'\{"id":"(evt_\w{26})","type":"order.paid","timestamp":"[^"]+","test":true,"data":\{"b": 1.50,"a":\[ \]\}\}'
    )
    assert re.fullmatch(pattern, request.body)[1].decode() == shown["event_id"]
    assert verifies(made["secret"], request)
    assert (shown["test"], shown["status"], shown["attempt_count"]) == (True, "succeeded", 1)
    (attempt,) = shown["attempts"]
    assert (attempt["number"], attempt["response_code"], attempt["response_body"]) == (1, 200, "thanks")
    assert attempt["response_headers"]["x-seen"] == "yes"
    assert attempt["remote_address"] == f"127.0.0.1:{house.taken.port}"
    assert attempt["request_headers"]["webhook-id"] == shown["event_id"]
    assert b"hidden-value" not in reply.body
    assert shown["payload"] == {"b": 1.5, "a": []}
    assert api.get(f"/v1/deliveries/{shown['id']}").json == shown
    for code in (404, 503, 410):
        house.taken.says[where] = answer(code, b"no", "Retry-After: 3600")
        failed = api.post(path + "/test", {}).json
        assert (failed["status"], failed["response_code"], failed["error"]["code"]) == ("failed", code, "http_status")
        assert (len(failed["attempts"]), failed["next_attempt_at"]) == (1, None)
    assert failed["event_type"].startswith("order.")
    assert len(house.taken.at(where)) == 4
    assert api.get(path).json["status"] == "active"
    assert counted(house) == before
    house.taken.says.pop(where)
    send(house, tenant, "order.new")
    house.taken.wait_at(where, 5, 5)  # neither held nor slowed by what tests were told
    refused = api.post(path + "/test", {"type": "not a type", "colour": 1})
    assert is_problem(refused, 422, "invalid_field")
    assert fields_of(refused) == {"type", "colour"}
    assert is_problem(api.post(f"/v1/webhooks/{NOBODY}/test"), 404, "not_found")
    assert api.delete(path).status == 204


def test_a_test_event_goes_to_paused_disabled_and_file_webhooks_too(house):
    api = house.admin
    made = api.make(house.taken.url("/idle"), events=["idle"])
    path = f"/v1/webhooks/{made['id']}"
    assert api.patch(path, {"status": "paused"}).status == 200
    send(house, "default", "idle")
    assert api.post(path + "/test").json["status"] == "succeeded"
    assert api.get(path).json["status"] == "paused"
    api.patch(path, {"status": "active", "held": "discard"})
    house.taken.says["/idle"] = answer(410)
    send(house, "default", "idle")
    wait_for(lambda: api.get(path).json["status"] == "disabled")
    assert api.post(path + "/test").json["response_code"] == 410
    house.taken.says.pop("/idle")
    assert api.post(path + "/test").json["status"] == "succeeded"
    assert (api.get(path).json["status"], api.get(path).json["disabled_reason"]) == ("disabled", "gone")
    assert [row["status"] for row in api.data(path + "/deliveries?status=held")] == ["held"]
    filed = api.post(f"/v1/webhooks/{house.running.webhook('filed')['id']}/test")
    assert (filed.json["status"], filed.json["test"], filed.json["event_type"]) == ("succeeded", True, "filed")
    assert api.delete(path).status == 204
    assert len(house.taken.at("/idle")) == 4


def test_a_test_event_obeys_the_egress_guard(tmp_path):
    taken = Told()
    served = serve(tmp_path)
    try:
        made = served.admin.make(taken.url("/x"))
        config = served.running.config
        config.write_text(config.read_text().replace("127.0.0.1/32", "127.0.0.2/32"))
        assert served.admin.post("/-/reload").status == 200
        shown = served.admin.post(f"/v1/webhooks/{made['id']}/test").json
        assert (shown["status"], shown["error"]["code"]) == ("failed", "egress_blocked")
        assert taken.connections == 0
        another = served.admin.post("/v1/webhooks", {"url": taken.url("/y"), "events": ["*"]})
        assert is_problem(another, 422, "invalid_field")
        assert served.running.end() == 0
    finally:
        served.running.close()
        taken.close()


def test_a_test_event_obeys_the_rate_limit_and_is_spent_on_it(house, manager):
    made = manager.make(house.taken.url("/rated"), rate_limit="6/m", events=["rated"])
    path = f"/v1/webhooks/{made['id']}/test"
    assert manager.post(path).json["status"] == "succeeded"
    began = time.monotonic()
    refused = manager.post(path)
    assert is_problem(refused, 429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert time.monotonic() - began < 6
    send(house, "otesse", "rated")
    wait_for(lambda: manager.get(f"/v1/webhooks/{made['id']}?include=waiting").json["waiting"]["why"] == "rate_limit")
    waiting = manager.get(f"/v1/webhooks/{made['id']}?include=waiting").json["waiting"]
    assert (waiting["pending"], waiting["held"]) == (1, 0)
    assert TIME.fullmatch(waiting["until"])
    assert len(house.taken.at("/rated")) == 1
    assert manager.delete(f"/v1/webhooks/{made['id']}").status == 204


def test_a_test_event_waits_for_a_place_in_flight_and_takes_one(house, manager):
    gate = house.taken.says["/full-house"] = Gate()
    made = manager.make(house.taken.url("/full-house"), max_in_flight=1, events=["full"])
    send(house, "otesse", "full", count=3)
    house.taken.wait_at("/full-house", 1)
    replies = []
    path = f"/v1/webhooks/{made['id']}/test"
    asking = threading.Thread(target=lambda: replies.append(manager.post(path)))
    asking.start()
    time.sleep(0.3)  # long enough for what must not happen
    assert len(house.taken.at("/full-house")) == 1
    gate.open()
    asking.join(20)
    assert replies[0].json["status"] == "succeeded"
    house.taken.wait_at("/full-house", 4)
    assert gate.most == 1
    assert len(settled(manager, made["id"], 4)) == 4
    assert manager.delete(f"/v1/webhooks/{made['id']}").status == 204


def test_a_test_event_ends_with_the_webhooks_timeout(house, manager):
    gate = house.taken.says["/slow"] = Gate()
    made = manager.make(house.taken.url("/slow"), timeout="300ms", events=["slow"])
    began = time.monotonic()
    shown = manager.post(f"/v1/webhooks/{made['id']}/test").json
    assert (shown["status"], shown["error"]["code"]) == ("failed", "timeout")
    assert 0.3 <= time.monotonic() - began < 2
    gate.open()
    assert manager.delete(f"/v1/webhooks/{made['id']}").status == 204


# --- what is in force -------------------------------------------------------------------------------------------


def test_a_patched_rate_limit_is_the_rate_from_then_on(house, manager):
    came = []

    def script(request):
        came.append(time.monotonic())
        return answer()

    house.taken.says["/speed"] = script
    made = manager.make(house.taken.url("/speed"), rate_limit="1/m", events=["speed"])
    path = f"/v1/webhooks/{made['id']}"
    send(house, "otesse", "speed", count=16)
    house.taken.wait_at("/speed", 1)
    assert manager.patch(path, {"rate_limit": "10/s burst 1"}).status == 200
    wait_for(lambda: len(came) == 16, 10)
    steps = sorted(later - earlier for earlier, later in itertools.pairwise(came[2:]))
    assert 0.05 < steps[len(steps) // 2] < 0.2
    assert came[-1] - came[2] >= 1.2
    send(house, "otesse", "speed", count=20)
    assert manager.patch(path, {"rate_limit": None}).status == 200
    began = time.monotonic()
    wait_for(lambda: len(came) == 36, 10)
    assert time.monotonic() - began < 1.5
    assert manager.delete(path).status == 204


def test_a_patched_max_in_flight_timeout_and_url_are_in_force_at_once(house, manager):
    gate = house.taken.says["/forced"] = Gate()
    made = manager.make(house.taken.url("/forced"), max_in_flight=1, events=["forced"], retry=["10ms"] * 5)
    path = f"/v1/webhooks/{made['id']}"
    send(house, "otesse", "forced", count=8)
    house.taken.wait_at("/forced", 1)
    assert manager.patch(path, {"max_in_flight": 4}).status == 200
    gate.open()
    wait_for(lambda: not manager.get(path + "/deliveries?status=pending").json["data"])
    held = house.taken.says["/forced"] = Gate()
    send(house, "otesse", "forced", count=8)
    wait_for(lambda: held.now == 4)
    assert manager.patch(path, {"timeout": "200ms", "url": house.taken.url("/moved")}).status == 200
    held.open()
    rows = settled(manager, made["id"], 16)
    assert {row["status"] for row in rows} == {"succeeded"}
    assert house.taken.wait_at("/moved", 4)
    assert held.most == 4
    assert manager.delete(path).status == 204


# --- restarts ---------------------------------------------------------------------------------------------------


def test_all_that_was_said_over_the_api_survives_a_restart(tmp_path):
    taken = Told()
    served = serve(tmp_path)
    try:
        api = served.caller("acme", "admin")
        first = api.make(
            taken.url("/first"), description="kept", rate_limit="100/s", max_in_flight=2, timeout="5s", retry=["1s"],
            headers={"X-Own": "kept-value"}, metadata={"a": [1]}, ordered=True, events=["first"],
        )  # fmt: skip
        second = api.make(taken.url("/second"), events=["second"])
        third = api.make(taken.url("/third"), events=["*"])
        api.patch(f"/v1/webhooks/{second['id']}", {"status": "paused"})
        rotated = api.post(f"/v1/webhooks/{first['id']}/rotate-secret", {"overlap": "1h"}).json
        assert api.delete(f"/v1/webhooks/{third['id']}").status == 204
        line = b'{"type":"second","data":2,"tenant":"acme"}'
        (said,) = served.running.submit(line)
        wish = {"url": taken.url("/first"), "events": ["no"]}
        keyed = api.post("/v1/webhooks", wish, idempotency_key="before").json
        before = api.get("/v1/webhooks")
        tags = [api.get(f"/v1/webhooks/{each['id']}").headers["etag"] for each in (first, second)]
        served.restart()
        assert api.get("/v1/webhooks").json == before.json
        assert [api.get(f"/v1/webhooks/{each['id']}").headers["etag"] for each in (first, second)] == tags
        assert api.post("/v1/webhooks", wish, idempotency_key="before").json == keyed
        assert [row["status"] for row in api.data(f"/v1/webhooks/{second['id']}/deliveries")] == ["held"]
        served.running.submit(b'{"type":"first","data":1,"tenant":"acme"}')
        (request,) = taken.wait_at("/first", 1)
        assert verifies(first["secret"], request)
        assert verifies(rotated["secret"], request)
        assert {name.lower(): value for name, value in request.headers.items()}["x-own"] == "kept-value"
        api.patch(f"/v1/webhooks/{second['id']}", {"status": "active"})
        taken.wait_at("/second", 1)
        assert taken.ids("/second") == {said["id"]: 1}
        # overlaps that end while no daemon runs are over at the next start
        last = api.post(f"/v1/webhooks/{first['id']}/rotate-secret", {"overlap": "100ms"}).json
        served.restart()
        wait_for(lambda: count_signatures(served, taken) == 1, 5)
        assert verifies(last["secret"], taken.at("/first")[-1])
        assert served.running.end() == 0
    finally:
        served.running.close()
        taken.close()


def count_signatures(served, taken):
    count = len(taken.at("/first"))
    served.running.submit(b'{"type":"first","data":1,"tenant":"acme"}')
    return len(taken.wait_at("/first", count + 1)[-1].headers["webhook-signature"].split(" "))


def test_a_rotation_and_a_deletion_survive_kill_9(tmp_path):
    taken = Told()
    served = serve(tmp_path)
    try:
        made, gone = (served.admin.make(taken.url(path), events=["a"]) for path in ("/kept", "/deleted"))
        rotated = served.admin.post(f"/v1/webhooks/{made['id']}/rotate-secret", {"overlap": "0s"}).json
        assert served.admin.delete(f"/v1/webhooks/{gone['id']}").status == 204
        served.running.end(9)
        served.running.start()
        assert [row["id"] for row in served.admin.data("/v1/webhooks")] == [made["id"]]
        served.running.submit(b'{"type":"a","data":1}')
        (request,) = taken.wait_at("/kept", 1)
        assert verifies(rotated["secret"], request)
        assert not verifies(made["secret"], request)
        assert taken.at("/deleted") == []
        assert served.running.end() == 0
    finally:
        served.running.close()
        taken.close()
