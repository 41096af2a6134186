"""The history over the API, and what people ask of deliveries: once more, all of them once more, or none any more."""

import contextlib
import itertools
import json
import re
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from api_rig import Gate, Told, fields_of, is_problem, serve
from rig import answer, wait_for

LATER = ["1h"]
"""A schedule whose first retry no test lives to see."""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    taken = Told()
    served = serve(tmp_path_factory.mktemp("deliveries"))
    served.taken = taken
    yield served
    with contextlib.closing(served.running):
        # whatever was asked for: nothing is left over
        wait_for(lambda: served.running.metric("hookrelay_in_flight_attempts") == 0)
        assert served.running.end() == 0
        assert "request_failed" not in served.running.log()
    taken.close()


class Shop:
    """A tenant with one webhook at a path of its own."""

    def __init__(self, house, name, **fields):
        self.house, self.name, self.path = house, name, f"/{name}"
        self.api = house.caller(name, "manage")
        self.admin = house.admin
        self.hook = self.api.make(house.taken.url(self.path), **fields)
        self.at = f"/v1/webhooks/{self.hook['id']}"

    def answers(self, said):
        self.house.taken.says[self.path] = said
        return said

    def send(self, *data, type="a", **fields):
        """Submit events of these data; their ids."""
        lines = [json.dumps({"type": type, "data": each, "tenant": self.name, **fields}).encode() for each in data]
        said = self.house.running.submit(*lines)
        assert all("id" in each for each in said), said
        return [each["id"] for each in said]

    def rows(self, query="limit=250"):
        """Deliveries, oldest first."""
        return self.api.data(f"{self.at}/deliveries?{query}")[::-1]

    def statuses(self):
        return [row["status"] for row in self.rows()]

    def wait(self, *statuses, within_s=20):
        """Until these are the statuses of all deliveries, oldest first."""
        wait_for(lambda: self.statuses() == list(statuses), within_s, lambda: str(self.rows()))
        return self.rows()

    def came(self):
        """The data of what the receiver got, in order."""
        return [json.loads(request.body)["data"] for request in self.house.taken.at(self.path)]

    def one(self, id):
        return self.api.get(f"/v1/deliveries/{id}").json

    def retry(self, id):
        return self.api.post(f"/v1/deliveries/{id}/retry")

    def cancel(self, id):
        return self.api.post(f"/v1/deliveries/{id}/cancel")

    def replay(self, **wish):
        return self.api.post(f"{self.at}/replay", {"since": "1h", **wish})

    def waiting(self):
        waiting = self.api.get(f"{self.at}?include=waiting").json["waiting"]
        return waiting["pending"], waiting["held"]


@pytest.fixture
def shop(house, request):
    """A shop of this test's own, whose webhook tries once."""
    return Shop(house, re.sub(r"\W", "_", request.node.name.removeprefix("test_"))[:60], retry=[])


def in_order(house, name, **fields):
    return Shop(house, name, ordered=True, **{"retry": [], **fields})


# --- lists ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(house):
    """Deliveries of every status, two types and several codes; `first` and `last` enclose the middle ones in time."""
    shop = Shop(house, "mixed", retry=LATER)
    dead = Shop(house, "mixed", retry=[])
    dead.at, dead.path = f"/v1/webhooks/{dead.hook['id']}", "/mixed"
    idle = house.admin.post(
        "/v1/webhooks?tenant=mixed", {"url": house.taken.url("/idle"), "events": ["idle"], "description": "idle"}
    ).json
    house.admin.patch(f"/v1/webhooks/{idle['id']}", {"status": "paused"})
    said = itertools.cycle([answer(200), answer(404), answer(500), answer(204)])
    lock = threading.Lock()

    def script(request):
        with lock:
            return next(said)

    shop.answers(script)
    shop.events = []
    for number in range(14):
        if number == 12:  # which of the two webhooks has got which answer is chance: two deliveries wait for sure
            shop.answers(lambda request: answer(500))
        shop.events += shop.send(number, type=("a.b", "c.d", "idle")[number % 3])
        wait_for(lambda: all(row["attempt_count"] for row in shop.rows() + dead.rows()))
        time.sleep(0.002)
    cancelled = next(row for row in shop.rows() if row["status"] == "pending")
    assert shop.cancel(cancelled["id"]).status == 200
    shop.idle = idle["id"]
    return shop


def chosen(rows, status=None, type=None, code=None, webhook=None, event=None):
    return [
        row
        for row in rows
        if status in (None, row["status"])
        and type in (None, row["event_type"])
        and code in (None, row["response_code"])
        and webhook in (None, row["webhook_id"])
        and event in (None, row["event_id"])
    ]


def test_each_filter_and_all_together_let_through_what_they_say(mixed):
    rows = mixed.api.data("/v1/deliveries?limit=250")
    assert len(rows) == 32
    assert {row["status"] for row in rows} == {"pending", "held", "succeeded", "failed", "cancelled"}
    hook, event = mixed.hook["id"], mixed.events[2]
    for status, type, code in itertools.product(
        (None, "pending", "held", "succeeded", "failed", "cancelled"),
        (None, "a.b", "idle", "no.such"),
        (None, 200, 404),
    ):
        given = {"status": status, "type": type, "response_code": code}
        query = "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
        expected = chosen(rows, status, type, code)
        assert mixed.api.data(f"/v1/deliveries?limit=250&{query}") == expected, query
        own = chosen(expected, webhook=hook)
        assert mixed.api.data(f"{mixed.at}/deliveries?limit=250&{query}") == own, query
        assert mixed.api.data(f"/v1/deliveries?limit=250&webhook={hook}&{query}") == own, query
        of_event = chosen(expected, event=event)
        assert mixed.api.data(f"/v1/deliveries?limit=250&event={event}&{query}") == of_event, query
        assert mixed.admin.data(f"/v1/deliveries?limit=250&tenant=mixed&{query}") == expected, query
    both = mixed.api.data(f"/v1/deliveries?webhook={mixed.idle}&event={event}")
    assert both == chosen(rows, webhook=mixed.idle, event=event) != []
    assert mixed.api.data(f"/v1/deliveries?webhook={hook}&event={mixed.events[0]}&status=held") == []


def test_since_includes_and_until_excludes_their_moment(mixed):
    rows = mixed.api.data("/v1/deliveries?limit=250")
    times = sorted({row["created_at"] for row in rows})
    assert len(times) == 14
    for since, until in (
        (times[3], None),
        (None, times[3]),
        (times[3], times[8]),
        (times[8], times[3]),
        (times[5],) * 2,
    ):
        query = "".join(f"&{name}={at}" for name, at in (("since", since), ("until", until)) if at)
        expected = [row for row in rows if (since or "") <= row["created_at"] < (until or "3")]
        assert mixed.api.data(f"/v1/deliveries?limit=250{query}") == expected
        own = chosen(expected, webhook=mixed.hook["id"])
        assert mixed.api.data(f"{mixed.at}/deliveries?limit=250{query}") == own
        failed = mixed.api.data(f"/v1/deliveries?limit=250&status=failed{query}")
        assert failed == chosen(expected, status="failed")
    assert mixed.api.data("/v1/deliveries?limit=250&since=1h") == rows
    assert mixed.api.data("/v1/deliveries?limit=250&until=1h") == []
    zoned = datetime.fromisoformat(times[3]).astimezone(timezone(timedelta(hours=2))).isoformat().replace("+", "%2B")
    assert mixed.api.data(f"/v1/deliveries?limit=250&since={zoned}") == mixed.api.data(
        f"/v1/deliveries?limit=250&since={times[3]}"
    )


def test_wrong_parameters_are_named_all_at_once(mixed):
    query = "limit=0&status=lost&since=yesterday&until=x&response_code=99&webhook=wh_x&event=evt_x&colour=1&cursor=zz"
    reply = mixed.api.get(f"/v1/deliveries?{query}")
    assert is_problem(reply, 422, "invalid_field")
    assert fields_of(reply) == {each.partition("=")[0] for each in query.split("&")}
    assert fields_of(mixed.api.get("/v1/deliveries?limit=1&limit=2")) == {"limit"}
    cursor = mixed.api.get("/v1/deliveries?limit=1").json["next_cursor"]
    for path in (f"{mixed.at}/deliveries", "/v1/events", "/v1/webhooks"):
        assert fields_of(mixed.api.get(f"{path}?cursor={cursor}")) == {"cursor"}


@pytest.mark.parametrize(
    "query", ["", "?status=succeeded", "?status=failed", "?type=a.b", "?webhook={id}&status=pending"]
)
def test_pages_of_any_size_hold_each_delivery_once(mixed, query):
    path = "/v1/deliveries" + query.replace("{id}", mixed.hook["id"])
    whole = mixed.api.data(f"{path}{'&' if query else '?'}limit=250")
    assert whole
    for limit in (1, 2, 5, len(whole), 250):
        found = list(mixed.api.pages(path, limit))
        assert [row for page in found for row in page] == whole
        assert all(len(page) <= limit for page in found)


@pytest.mark.parametrize("of", ["webhook", "tenant", "all", "events"])
def test_what_is_added_between_two_pages_is_neither_missed_nor_shown_twice(house, of):
    shop = Shop(house, f"paging_{of}", retry=[])
    first = shop.send(*range(25))
    shop.wait(*["succeeded"] * 25)
    path = {
        "webhook": f"{shop.at}/deliveries",
        "tenant": "/v1/deliveries",
        "all": "/v1/deliveries",
        "events": "/v1/events",
    }
    api = shop.admin if of == "all" else shop.api
    seen = []
    for page in api.pages(path[of], 7):
        seen += [row["id" if of == "events" else "event_id"] for row in page if row["tenant"] == shop.name]
        if len(seen) < 25:
            shop.send(*range(3))
    assert seen == first[::-1]
    again = [row for page in api.pages(path[of], 250) for row in page if row["tenant"] == shop.name]
    assert len(again) > 25


def test_a_list_of_hundreds_of_pages_holds_each_once_and_every_page_comes_quickly(house):
    shop = Shop(house, "long", retry=[])
    ids = shop.send(*range(1500))
    wait_for(lambda: not shop.api.get(f"{shop.at}/deliveries?status=pending").json["data"])
    for path in (f"{shop.at}/deliveries", "/v1/deliveries?type=a", "/v1/deliveries?status=succeeded"):
        seen, worst = [], 0.0
        began = time.monotonic()
        for page in shop.api.pages(path, 5):
            worst = max(worst, time.monotonic() - began)
            seen += [row["event_id"] for row in page]
            began = time.monotonic()
        assert seen == ids[::-1]
        assert worst < 0.5
    # a filter that hardly ever matches goes through it all as well, in pages that may be empty
    shop.answers(answer(404))
    (odd,) = shop.send("odd")
    wait_for(lambda: shop.rows("status=failed"))
    assert [
        row["event_id"] for page in shop.api.pages(f"{shop.at}/deliveries?response_code=404", 5) for row in page
    ] == [odd]


# --- one delivery -----------------------------------------------------------------------------------------------


def test_a_delivery_is_shown_with_payload_and_attempts_and_no_secret_header(house, shop):
    shop.api.patch(shop.at, {"headers": {"X-Own": "hidden-value"}})
    shop.send({"n": [1, "ü"]})
    (row,) = shop.wait("succeeded")
    reply = shop.api.get(f"/v1/deliveries/{row['id']}")
    assert reply.json == {**row, "payload": {"n": [1, "ü"]}, "attempts": reply.json["attempts"]}
    (attempt,) = reply.json["attempts"]
    headers = attempt["request_headers"]
    assert headers["webhook-id"] == row["event_id"]
    assert b"hidden-value" not in reply.body
    sent = house.taken.at(shop.path)[0].headers["webhook-signature"]
    assert sent.encode() not in reply.body
    assert attempt["duration_ms"] == row["response_time_ms"]


# --- once more --------------------------------------------------------------------------------------------------


def test_a_failed_delivery_that_is_retried_gets_one_attempt_and_fails_again(shop):
    shop.api.patch(shop.at, {"retry": ["10ms", "10ms"]})
    shop.answers(answer(500))
    shop.send(1)
    (row,) = shop.wait("failed")
    assert row["attempt_count"] == 3
    reply = shop.retry(row["id"])
    assert (reply.status, reply.json["id"]) == (202, row["id"])
    assert reply.json["status"] == "pending"
    assert (reply.json["completed_at"], reply.json["error"]) != (row["completed_at"], None)
    wait_for(lambda: shop.one(row["id"])["attempt_count"] == 4)
    (row,) = shop.wait("failed")
    assert len(shop.came()) == 4
    shop.answers(answer())
    assert shop.retry(row["id"]).status == 202
    (row,) = shop.wait("succeeded")
    assert (row["attempt_count"], row["error"], row["response_code"]) == (5, None, 200)
    attempts = shop.one(row["id"])["attempts"]
    assert [attempt["number"] for attempt in attempts] == [1, 2, 3, 4, 5]
    assert [attempt["response_code"] for attempt in attempts] == [500] * 4 + [200]
    assert [request.headers["webhook-attempt"] for request in shop.house.taken.at(shop.path)] == list("12345")
    assert len({request.headers["webhook-id"] for request in shop.house.taken.at(shop.path)}) == 1
    assert shop.waiting() == (0, 0)


def test_a_success_that_is_retried_keeps_its_first_attempt_in_the_history(shop):
    shop.answers(answer(201, b"first", "x-first: yes"))
    shop.send(1)
    (row,) = shop.wait("succeeded")
    (first,) = shop.one(row["id"])["attempts"]
    assert (first["response_body"], first["response_headers"]["x-first"]) == ("first", "yes")
    for count, said in ((2, answer(500, b"second")), (3, answer(200, b"third")), (4, answer(202, b"fourth"))):
        shop.answers(said)
        assert shop.retry(row["id"]).status == 202
        wait_for(lambda count=count: shop.one(row["id"])["attempt_count"] == count)
        wait_for(lambda: shop.one(row["id"])["status"] != "pending")
        shown = shop.one(row["id"])
        assert shown["status"] == ("failed" if count == 2 else "succeeded")
        assert shown["attempts"][0] == first
        assert [attempt["number"] for attempt in shown["attempts"]] == list(range(1, count + 1))
    bodies = [attempt["response_body"] for attempt in shown["attempts"]]
    assert bodies == ["first", "second", "third", "fourth"]
    assert len({attempt["id"] for attempt in shown["attempts"]}) == 4


def test_a_pending_delivery_that_is_retried_goes_now_and_keeps_its_schedule(shop):
    shop.api.patch(shop.at, {"retry": ["1h", "2h"]})
    shop.answers(answer(500))
    shop.send(1)
    wait_for(lambda: shop.rows()[0]["attempt_count"] == 1)
    (row,) = shop.rows()
    assert shop.waiting() == (1, 0)
    assert shop.retry(row["id"]).status == 202
    wait_for(lambda: shop.rows()[0]["attempt_count"] == 2)
    (row,) = shop.rows()
    assert row["status"] == "pending"
    in_s = (datetime.fromisoformat(row["next_attempt_at"]) - datetime.now(UTC)).total_seconds()
    assert 6000 < in_s < 8400
    shop.answers(answer())
    assert shop.retry(row["id"]).status == 202
    shop.wait("succeeded")
    assert shop.waiting() == (0, 0)


def test_a_cancelled_delivery_can_be_retried_and_a_test_cannot(shop):
    shop.api.patch(shop.at, {"status": "paused"})
    shop.send("cancelled")
    (row,) = shop.wait("held")
    assert shop.cancel(row["id"]).json["status"] == "cancelled"
    shop.api.patch(shop.at, {"status": "active"})
    assert shop.came() == []
    assert shop.retry(row["id"]).json["status"] in ("pending", "succeeded")  # it may be over before its answer is made
    shop.wait("succeeded")
    assert shop.came() == ["cancelled"]
    tested = shop.api.post(f"{shop.at}/test").json
    assert is_problem(shop.retry(tested["id"]), 409, "conflict")
    assert shop.one(tested["id"]) == tested
    for path in ("retry", "cancel"):
        assert is_problem(shop.api.post(f"/v1/deliveries/dlv_x/{path}"), 404, "not_found")


def test_what_is_retried_for_a_paused_webhook_is_held_and_for_a_deleted_one_refused(shop):
    shop.answers(answer(500))
    shop.send(1)
    (row,) = shop.wait("failed")
    shop.api.patch(shop.at, {"status": "paused"})
    assert shop.retry(row["id"]).json["status"] == "held"
    assert shop.waiting() == (0, 1)
    assert shop.retry(row["id"]).json["status"] == "held"
    assert shop.waiting() == (0, 1)
    shop.answers(answer())
    shop.api.patch(shop.at, {"status": "active"})
    shop.wait("succeeded")
    shop.answers(answer(500))
    shop.send(2)
    row = shop.wait("succeeded", "failed")[1]
    assert shop.api.delete(shop.at).status == 204
    assert is_problem(shop.retry(row["id"]), 409, "conflict")
    assert shop.one(row["id"])["status"] == "failed"


def test_retries_by_hand_never_disable_a_webhook(tmp_path):
    taken = Told()
    served = serve(tmp_path, "", 'delivery.disable_after = "1s"\n')
    try:
        taken.says["/x"] = answer(500)
        made = served.admin.make(taken.url("/x"), retry=[])
        served.running.submit(b'{"type":"a","data":1}')
        path = f"/v1/webhooks/{made['id']}"
        wait_for(lambda: served.admin.data(f"{path}/deliveries?status=failed"))
        id = served.admin.data(f"{path}/deliveries")[0]["id"]
        began, count = time.monotonic(), 1
        while count < 14 or time.monotonic() - began < 1.5:
            count += 1
            assert served.admin.post(f"/v1/deliveries/{id}/retry").status == 202
            wait_for(lambda count=count: served.admin.get(f"/v1/deliveries/{id}").json["attempt_count"] == count)
            wait_for(lambda: served.admin.get(f"/v1/deliveries/{id}").json["status"] == "failed")
            time.sleep(0.05)
        assert served.admin.get(path).json["status"] == "active"
        assert served.running.end() == 0
    finally:
        served.running.close()
        taken.close()


def test_many_retries_at_once_make_no_more_than_one_attempt_each(shop):
    gate = shop.answers(Gate())
    shop.api.patch(shop.at, {"max_in_flight": 1})
    shop.answers(answer(500))
    shop.send(1)
    (row,) = shop.wait("failed")
    shop.answers(gate)
    replies = []
    askers = [threading.Thread(target=lambda: replies.append(shop.retry(row["id"]).status)) for _ in range(10)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert set(replies) == {202}
    gate.open()
    shop.wait("succeeded")
    assert (len(shop.came()), gate.most) == (2, 1)
    assert shop.waiting() == (0, 0)


# --- none any more ----------------------------------------------------------------------------------------------


def test_what_waits_is_cancelled_and_what_has_ended_is_not(shop):
    shop.api.patch(shop.at, {"retry": LATER})
    shop.answers(answer(500))
    shop.send(1)
    wait_for(lambda: shop.rows()[0]["attempt_count"] == 1)
    (row,) = shop.rows()
    reply = shop.cancel(row["id"])
    assert (reply.status, reply.json["status"], reply.json["next_attempt_at"]) == (200, "cancelled", None)
    assert reply.json["completed_at"] is not None
    assert reply.json["error"]["code"] == "http_status"
    assert is_problem(shop.cancel(row["id"]), 409, "conflict")
    assert shop.waiting() == (0, 0)
    shop.answers(answer())
    shop.send(2)
    row = shop.wait("cancelled", "succeeded")[1]
    assert is_problem(shop.cancel(row["id"]), 409, "conflict")
    assert shop.came() == [1, 2]


def test_of_deliveries_in_memory_and_in_the_store_the_cancelled_ones_do_not_go(shop):
    shop.api.patch(shop.at, {"max_in_flight": 1})
    gate = shop.answers(Gate())
    shop.send(*range(800))
    shop.house.taken.wait_at(shop.path, 1)
    rows = [row for page in shop.api.pages(f"{shop.at}/deliveries", 250) for row in page][::-1]
    called_off = [1, 2, 100, 300, 512, 513, 600, 799]
    for number in called_off:
        assert shop.cancel(rows[number]["id"]).status == 200
    assert shop.waiting() == (792, 0)
    gate.open()
    wait_for(lambda: shop.waiting() == (0, 0))
    assert shop.came() == [number for number in range(800) if number not in called_off]
    assert gate.most == 1


@pytest.mark.parametrize("code", [200, 500])
def test_what_is_in_flight_when_it_is_cancelled_ends_cancelled_with_its_attempt_in_the_history(house, code):
    shop = Shop(house, f"flying_{code}", retry=LATER)
    gate = shop.answers(Gate(answer(code, b"too late")))
    shop.send(1)
    shop.house.taken.wait_at(shop.path, 1)
    (row,) = shop.rows()
    assert shop.cancel(row["id"]).json["status"] == "cancelled"
    gate.open()
    wait_for(lambda: not house.running.metric("hookrelay_in_flight_attempts"))
    wait_for(lambda: shop.one(row["id"])["attempts"], 5)
    (attempt,) = shop.one(row["id"])["attempts"]
    assert (attempt["response_code"], attempt["response_body"]) == (code, "too late")
    shop.wait("cancelled")
    assert is_problem(shop.cancel(row["id"]), 409, "conflict")
    assert len(shop.came()) == 1


def test_what_was_cancelled_in_flight_does_not_count_as_pending_until_its_next_attempt_would_be_due(house):
    shop = Shop(house, "flying_away", retry=LATER)
    gate = shop.answers(Gate(answer(500)))
    shop.send(1)
    shop.house.taken.wait_at(shop.path, 1)
    assert shop.cancel(shop.rows()[0]["id"]).status == 200
    gate.open()
    wait_for(lambda: not house.running.metric("hookrelay_in_flight_attempts"))
    wait_for(lambda: shop.waiting() == (0, 0), 5, lambda: f"{shop.waiting()}: it still counts as pending")


@pytest.mark.parametrize("code", [200, 500])
def test_what_is_cancelled_in_flight_and_retried_at_once_ends_well(house, code):
    shop = Shop(house, f"wavering_{code}", retry=[])
    gate = shop.answers(Gate(answer(code)))
    shop.send(1)
    shop.house.taken.wait_at(shop.path, 1)
    (row,) = shop.rows()
    assert shop.cancel(row["id"]).status == 200
    assert shop.retry(row["id"]).json["status"] == "pending"
    gate.open()
    wait_for(lambda: shop.waiting() == (0, 0), 5, lambda: str(shop.waiting()))
    (row,) = shop.wait("succeeded" if code == 200 else "failed")
    attempts = shop.one(row["id"])["attempts"]
    assert [attempt["number"] for attempt in attempts] == list(range(1, len(shop.came()) + 1))
    assert row["attempt_count"] == len(attempts)
    assert gate.most == 1


def test_a_delivery_cancelled_in_flight_is_counted_once(house):
    shop = Shop(house, "counted_once", retry=[])
    names = [f'hookrelay_deliveries_total{{result="{result}"}}' for result in ("succeeded", "failed", "cancelled")]
    gate = shop.answers(Gate())
    shop.send(1)
    shop.house.taken.wait_at(shop.path, 1)
    before = [house.running.metric(name) for name in names]
    assert shop.cancel(shop.rows()[0]["id"]).status == 200
    gate.open()
    wait_for(lambda: not house.running.metric("hookrelay_in_flight_attempts"))
    wait_for(lambda: shop.waiting() == (0, 0))
    after = [house.running.metric(name) for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [0, 0, 1]


def test_when_the_first_of_a_chain_is_cancelled_the_next_goes(house):
    shop = in_order(house, "chain", retry=LATER)
    shop.answers(lambda request: answer(500 if json.loads(request.body)["data"] == 0 else 200))
    shop.send(*range(4))
    wait_for(lambda: shop.rows()[0]["attempt_count"] == 1)
    rows = shop.rows()
    assert [row["next_attempt_at"] is None for row in rows] == [False, True, True, True]
    assert shop.cancel(rows[2]["id"]).status == 200  # from the midst: the others wait on
    assert shop.statuses() == ["pending", "pending", "cancelled", "pending"]
    assert shop.came() == [0]
    assert shop.cancel(rows[0]["id"]).status == 200
    shop.wait("cancelled", "succeeded", "cancelled", "succeeded")
    assert shop.came() == [0, 1, 3]
    assert shop.waiting() == (0, 0)


def test_when_the_first_of_an_ordering_key_is_cancelled_the_next_of_that_key_goes(house):
    shop = Shop(house, "keyed", retry=LATER)
    shop.answers(lambda request: answer(500 if json.loads(request.body)["data"] in ("x0", "y0") else 200))
    for key in "xy":
        shop.send(f"{key}0", f"{key}1", f"{key}2", ordering_key=key)
    wait_for(lambda: sorted(shop.came()) == ["x0", "y0"])
    wait_for(lambda: sum(row["attempt_count"] for row in shop.rows()) == 2)
    first = shop.rows()[0]
    assert shop.cancel(first["id"]).status == 200
    wait_for(lambda: shop.statuses() == ["cancelled", "succeeded", "succeeded", "pending", "pending", "pending"])
    assert [each for each in shop.came() if each[0] == "x"] == ["x0", "x1", "x2"]
    assert [each for each in shop.came() if each[0] == "y"] == ["y0"]


# --- all of them once more --------------------------------------------------------------------------------------


def test_a_replay_makes_what_failed_anew_by_the_whole_schedule(shop):
    shop.answers(answer(500))
    shop.send(*range(600))
    wait_for(lambda: shop.waiting() == (0, 0))
    shop.answers(answer())
    shop.send("good")
    wait_for(lambda: shop.waiting() == (0, 0))
    assert shop.replay(dry_run=True).json == {"count": 600}
    assert len(shop.came()) == 601
    shop.api.patch(shop.at, {"retry": ["10ms"]})
    second = []

    def script(request):
        data = json.loads(request.body)["data"]
        if data in second:
            return answer()
        second.append(data)
        return answer(503 if data == 5 else 404) if data in (5, 6) else answer()

    shop.answers(script)
    reply = shop.replay()
    assert (reply.status, reply.json) == (200, {"count": 600})
    wait_for(lambda: shop.waiting() == (0, 0))
    rows = [row for page in shop.api.pages(f"{shop.at}/deliveries", 250) for row in page][::-1]
    assert {row["status"] for row in rows} == {"succeeded"}
    assert [row["attempt_count"] for row in rows[:601]] == [2] * 5 + [3, 3] + [2] * 593 + [1]
    assert shop.replay(dry_run=True).json == shop.replay().json == {"count": 0}


def test_a_replay_asked_for_twice_sends_nothing_twice(shop):
    shop.answers(answer(500))
    shop.send(*range(40))
    shop.wait(*["failed"] * 40)
    shop.api.patch(shop.at, {"max_in_flight": 1})
    gate = shop.answers(Gate())
    assert shop.replay().json == {"count": 40}
    replies = []
    askers = [threading.Thread(target=lambda: replies.append(shop.replay().json["count"])) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert replies == [0] * 4
    assert shop.waiting() == (40, 0)
    gate.open()
    shop.wait(*["succeeded"] * 40)
    assert sorted(shop.came()) == sorted([*range(40)] * 2)
    assert shop.waiting() == (0, 0)


def test_replays_at_the_same_time_share_the_work(shop):
    shop.answers(answer(500))
    shop.send(*range(1200))
    wait_for(lambda: shop.waiting() == (0, 0))
    shop.api.patch(shop.at, {"status": "paused"})
    replies = []
    askers = [threading.Thread(target=lambda: replies.append(shop.replay().json["count"])) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert sum(replies) == 1200
    assert shop.waiting() == (0, 1200)
    shop.answers(answer())
    shop.api.patch(shop.at, {"status": "active"})
    wait_for(lambda: shop.waiting() == (0, 0))
    assert len(shop.came()) == 2400


def test_a_replay_takes_only_what_matches_time_type_and_status(shop):
    codes = {"bad": 500, "good": 200, "test": 500}
    shop.answers(lambda request: answer(codes[json.loads(request.body)["data"]]))
    for type in ("a", "b"):
        shop.send("bad", type=type)
        shop.send("good", type=type)
        wait_for(lambda: shop.waiting() == (0, 0))
        time.sleep(0.005)
    shop.api.post(f"{shop.at}/test", {"type": "a", "data": "test"})
    shop.api.patch(shop.at, {"status": "paused"})
    shop.send("good", type="c")
    shop.api.patch(shop.at, {"status": "active", "held": "discard"})
    rows = shop.wait("failed", "succeeded", "failed", "succeeded", "failed", "cancelled")
    at = [row["created_at"] for row in rows]

    def count(**wish):
        reply = shop.replay(dry_run=True, **wish)
        assert reply.status == 200, reply.body
        return reply.json["count"]

    everything = ["failed", "succeeded", "cancelled"]
    assert (count(), count(status=["failed"]), count(status=["succeeded"]), count(status=everything)) == (2, 2, 2, 5)
    assert (count(status=["failed", "failed"]), count(type="a"), count(type="a", status=everything)) == (2, 1, 2)
    assert (count(since=at[2]), count(since=at[2], until=at[2]), count(until=at[2])) == (1, 0, 1)
    assert count(since=at[2], until=at[3], status=everything) == (1 if at[2] != at[3] else 0)
    assert (count(since="0s"), count(since="9999-01-01T00:00:00Z"), count(type="nothing")) == (0, 0, 0)
    assert shop.statuses() == [row["status"] for row in rows]
    codes["bad"] = 200
    assert shop.replay(since=at[2], type="b").json == {"count": 1}
    shop.wait("failed", "succeeded", "succeeded", "succeeded", "failed", "cancelled")
    assert shop.replay(status=["cancelled"]).json == {"count": 1}
    shop.wait("failed", "succeeded", "succeeded", "succeeded", "failed", "succeeded")
    came = len(shop.came())
    assert shop.replay(status=["succeeded"], type="c").json == {"count": 1}
    wait_for(lambda: len(shop.came()) == came + 1)
    wait_for(lambda: shop.waiting() == (0, 0))
    assert len(shop.one(shop.rows()[5]["id"])["attempts"]) == 2


def test_every_mistake_of_a_replay_is_named(shop):
    reply = shop.replay(since="x", until=5, status=["pending"], type="no type", dry_run="yes", colour=1)
    assert is_problem(reply, 422, "invalid_field")
    assert fields_of(reply) == {"since", "until", "status", "type", "dry_run", "colour"}
    assert fields_of(shop.api.post(f"{shop.at}/replay", {})) == {"since"}
    for status in ([], "failed", [5], [["failed"]], {}, None):
        assert fields_of(shop.replay(status=status)) == {"status"}


def test_a_replay_for_a_paused_webhook_waits_held(shop):
    shop.answers(answer(500))
    shop.send(1, 2)
    shop.wait("failed", "failed")
    shop.answers(answer())
    shop.api.patch(shop.at, {"status": "paused"})
    assert shop.replay().json == {"count": 2}
    assert shop.statuses() == ["held", "held"]
    assert shop.waiting() == (0, 2)
    shop.api.patch(shop.at, {"status": "active"})
    shop.wait("succeeded", "succeeded")


@pytest.mark.parametrize("by", ["webhook", "key"])
def test_a_replay_of_what_is_ordered_keeps_the_order(house, by):
    shop = in_order(house, f"replay_by_{by}") if by == "webhook" else Shop(house, f"replay_by_{by}", retry=[])
    key = {} if by == "webhook" else {"ordering_key": "k"}
    shop.answers(answer(500))
    shop.send(*range(30), **key)
    shop.wait(*["failed"] * 30)
    gate = shop.answers(Gate())
    assert shop.replay().json == {"count": 30}
    shop.house.taken.wait_at(shop.path, 31)
    shop.send(30, 31, **key)  # what comes now goes behind what is made anew
    gate.open()
    shop.wait(*["succeeded"] * 32)
    assert shop.came()[30:] == list(range(32))
    assert gate.most == 1


def test_a_replay_of_two_statuses_keeps_the_order_of_both(house):
    shop = in_order(house, "replay_two")
    shop.answers(lambda request: answer(500 if json.loads(request.body)["data"] % 2 else 200))
    shop.send(*range(10))
    shop.wait(*["succeeded", "failed"] * 5)
    shop.answers(answer())
    assert shop.replay(status=["failed", "succeeded"]).json == {"count": 10}
    wait_for(lambda: shop.waiting() == (0, 0))
    assert shop.came()[10:] == list(range(10))


def test_replayed_deliveries_survive_kill_9(tmp_path):
    taken = Told()
    served = serve(tmp_path)
    try:
        taken.says["/x"] = answer(500)
        made = served.admin.make(taken.url("/x"), retry=[], max_in_flight=2)
        path = f"/v1/webhooks/{made['id']}"
        served.running.submit(*[b'{"type":"a","data":%d}' % number for number in range(50)])
        wait_for(lambda: len(served.admin.data(f"{path}/deliveries?status=failed&limit=250")) == 50)
        gate = taken.says["/x"] = Gate()
        assert served.admin.post(f"{path}/replay", {"since": "1h"}).json == {"count": 50}
        taken.wait_at("/x", 52)
        served.running.end(9)
        gate.open()
        served.running.start()
        served.running.settled()
        rows = served.admin.data(f"{path}/deliveries?limit=250")
        assert {row["status"] for row in rows} == {"succeeded"}
        assert 100 <= len(taken.at("/x")) <= 102
        assert served.running.end() == 0
    finally:
        served.running.close()
        taken.close()


def test_nothing_is_left_pending_or_held_by_what_people_asked_for(house):
    shop = Shop(house, "figures", retry=[])
    figures = ["hookrelay_pending_deliveries", "hookrelay_held_deliveries", "hookrelay_in_flight_attempts"]
    wait_for(lambda: house.running.metric("hookrelay_in_flight_attempts") == 0)
    before = [house.running.metric(name) for name in figures]
    shop.answers(answer(500))
    shop.send(*range(10))
    for row in shop.wait(*["failed"] * 10)[:5]:
        shop.retry(row["id"])
    shop.wait(*["failed"] * 10)
    shop.api.patch(shop.at, {"status": "paused"})
    shop.replay()
    shop.send(*range(5))
    rows = shop.rows()
    assert house.running.metric("hookrelay_held_deliveries") == before[1] + 15
    for row in rows[::2]:
        assert shop.cancel(row["id"]).status == 200
    assert house.running.metric("hookrelay_held_deliveries") == before[1] + 7
    for row in rows[:4]:
        shop.retry(row["id"])
    assert house.running.metric("hookrelay_held_deliveries") == before[1] + 9
    shop.answers(answer())
    shop.api.patch(shop.at, {"status": "active"})
    wait_for(lambda: shop.waiting() == (0, 0))
    assert {row["status"] for row in shop.rows()} == {"succeeded", "cancelled"}
    wait_for(lambda: [house.running.metric(name) for name in figures] == before)
