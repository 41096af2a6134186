"""Expunged payloads: afterwards their bytes are in none of the store's files, whatever the store has been through."""

import json
import random
import re

import pytest
from api_rig import is_problem
from rig import answer, hook, wait_for

TENANTS = {"one": "alpha", "two": "omega"}
"""And what is in all that they submit."""


def text_of(word: str, number: int, size: int) -> bytes:
    """A payload that is recognised by any piece of it."""
    return json.dumps(f"{word}{number}-" * (1 + size // 8)).encode()


def lines(tenant: str, word: str, numbers: range, dice: random.Random) -> list[bytes]:
    sizes = (10, 300, 2000, 9000)
    return [
        b'{"type":"a.b","tenant":"%b","idempotency_key":"key-%b-%d","ordering_key":"order-%b-%d","data":%b}'
        % (tenant.encode(), word.encode(), number, word.encode(), number, text_of(word, number, dice.choice(sizes)))
        for number in numbers
    ]


def traces(at, word: str) -> dict[str, int]:
    """How often the word stands in each of the store's files."""
    found = {path.name: len(re.findall(word.encode(), path.read_bytes())) for path in at.glob("h.db*")}
    return {name: count for name, count in found.items() if count}


def test_a_purged_tenant_is_in_none_of_the_files_and_the_history_tells_that_it_was(served, told):
    dice = random.Random(7)  # noqa: S311 -- sample data
    house = served(settings='store.retention = "1m"\nevents.idempotency_window = "1s"\n')
    told.says["/bad"] = lambda request: answer(500, b"no: " + request.body)
    told.says["/good"] = lambda request: answer(200, b"yes: " + request.body)
    for tenant in TENANTS:
        house.admin.make(told.url("/good"), tenant=tenant)
        house.admin.make(told.url("/bad"), tenant=tenant, retry=["1h"])
    both = zip(*(lines(tenant, word, range(150), dice) for tenant, word in TENANTS.items()), strict=True)
    mixed = [line for pair in both for line in pair]
    dice.shuffle(mixed)
    answers = house.running.submit(*mixed)
    assert all(each.get("deliveries") == 2 for each in answers), answers[:3]
    succeeded = 'hookrelay_attempts_total{outcome="success"}'
    wait_for(lambda: house.running.metric(succeeded) == 300, 60, house.running.log)
    wait_for(lambda: house.running.metric('hookrelay_attempts_total{outcome="http_status"}') == 300, 60)
    assert traces(house.running.at, "alpha")
    assert traces(house.running.at, "omega")

    counted = house.admin.post("/v1/events/purge", {"tenant": "one", "dry_run": True})
    assert counted.json == {"events": 150, "cancelled": 0}
    assert traces(house.running.at, "alpha")
    done = house.admin.post("/v1/events/purge", {"tenant": "one"})
    assert (done.status, done.json) == (200, {"events": 150, "cancelled": 150}), done.body
    assert not traces(house.running.at, "alpha")
    assert traces(house.running.at, "omega")

    rows = house.admin.get("/v1/deliveries?tenant=one&limit=250").json["data"]
    assert {row["status"] for row in rows} == {"succeeded", "cancelled"}
    shown = house.admin.get(f"/v1/deliveries/{rows[0]['id']}").json
    assert shown["payload"] is None
    assert shown["purged_at"]
    event = house.admin.get(f"/v1/events/{rows[0]['event_id']}").json
    assert (event["data"], event["idempotency_key"], event["ordering_key"]) == (None, None, None)
    assert event["purged_at"] == shown["purged_at"]
    assert is_problem(house.admin.post(f"/v1/deliveries/{rows[0]['id']}/retry"), 409, "conflict")
    replayed = house.admin.post(
        f"/v1/webhooks/{rows[0]['webhook_id']}/replay", {"since": "1h", "status": ["succeeded", "cancelled"]}
    )
    assert replayed.json == {"count": 0}
    kept = house.admin.get("/v1/events?tenant=two&limit=1").json["data"][0]
    assert "purged_at" not in kept
    assert house.admin.get(f"/v1/events/{kept['id']}").json["data"].startswith("omega")
    assert house.running.end() == 0
    assert not traces(house.running.at, "alpha")


def test_one_event_is_purged_while_others_are_delivered_and_a_stranger_may_not(served, told):
    house = served(hook("one", told.port))
    dice = random.Random(1)  # noqa: S311 -- sample data
    first, second = (house.running.submit(line)[0]["id"] for line in lines("default", "gamma", range(2), dice))
    house.running.settled()
    stranger = house.caller("acme", "admin")
    assert is_problem(stranger.post("/v1/events/purge", {"id": first}), 404, "not_found")
    assert is_problem(stranger.post("/v1/events/purge", {"tenant": "default"}), 403, "forbidden")
    assert is_problem(house.caller("default", "manage").post("/v1/events/purge", {"id": first}), 403, "forbidden")
    assert stranger.post("/v1/events/purge", {}).json == {"events": 0, "cancelled": 0}
    assert house.caller("default", "admin").post("/v1/events/purge", {"id": first}).json["events"] == 1
    assert not traces(house.running.at, "gamma0-")
    assert traces(house.running.at, "gamma1-")
    assert house.admin.get(f"/v1/events/{second}").json["data"].startswith("gamma1")
    assert house.running.end() == 0


@pytest.mark.parametrize(
    ("wish", "fields"),
    [
        ({}, {"tenant"}),
        ({"id": 5, "colour": 1}, {"id", "colour"}),
        ({"tenant": "no tenant", "before": "soon", "dry_run": 1}, {"tenant", "before", "dry_run"}),
        ({"id": "evt_1", "tenant": "a"}, {"id"}),
    ],
)
def test_a_wish_that_is_not_right_purges_nothing_and_names_every_mistake(served, wish, fields):
    house = served()
    reply = house.admin.post("/v1/events/purge", wish)
    assert is_problem(reply, 422, "invalid_field")
    assert {error["field"] for error in reply.json["errors"]} == fields
