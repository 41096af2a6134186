import json
from collections.abc import Callable, Sequence
from typing import Any

import apsw
import pytest
import trio
from builders import START_MS, wall, webhook
from doubles import LateStore, new_store

from hookrelay.feed import Feed
from hookrelay.ingest import UNSTORED_LIMIT, Ingest, Limits
from hookrelay.model import Delivery, Webhook
from hookrelay.rules.match import Catalog
from hookrelay.store import events
from hookrelay.store.chains import BLOCKED_MS, WHOLE
from hookrelay.store.db import Store
from hookrelay.telemetry.metrics import Metrics

GOOD = b'{"type":"booking.created","data":{"n":1}}'


class Desk:
    """An Ingest over a store, and what it offered."""

    def __init__(
        self, store: Store, hooks: Sequence[Webhook] = (), clock: Callable[[], float] = wall, **limits: Any
    ) -> None:
        self.store = store
        self.metrics = Metrics()
        self.offered: list[tuple[int, Delivery]] = []
        self.ingest = Ingest(
            store,
            Catalog(hooks),
            Limits(**limits),
            offer_many=lambda event, numbers, made: self.offered.extend(made),
            offer=lambda hook, made: self.offered.append((hook, made)),
            metrics=self.metrics,
            wall=clock,
            feed=Feed(),
        )

    async def submit(self, *lines: bytes | None) -> list[Any]:
        """The answers to `lines`, which were submitted together."""
        answer: list[bytes] = []
        done = trio.Event()
        self.ingest.submit(lines, lambda text: (answer.append(text), done.set())[1])
        await done.wait()
        (text,) = answer
        assert text.endswith(b"\n")
        return [json.loads(line) for line in text.splitlines()]

    async def stored(self) -> list[tuple[Any, ...]]:
        return await self.store.read(lambda conn: list(conn.execute("SELECT seq, timestamp, data FROM event")))


@pytest.fixture
async def store(nursery):
    store = new_store()
    await nursery.start(store.run)
    return store


# --- taken ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_the_answer_tells_how_many_webhooks_match_and_each_gets_its_delivery_after_that_is_on_disk(
    autojump_clock, store: Store, count: int
):
    hooks = [webhook(number) for number in range(1, count + 1)]
    desk = Desk(store, [*hooks, webhook(9, tenant="acme"), webhook(10, events=("payment.*",))])
    (answer,) = await desk.submit(GOOD)
    assert answer == {"id": store.ids.make("evt", START_MS, 1), "deliveries": count}
    assert [(hook, made.seq, made.event.id, made.due_ms) for hook, made in desk.offered] == [
        (hook.seq, number, answer["id"], START_MS) for number, hook in enumerate(hooks, 1)
    ]
    found = await store.read(lambda conn: list(conn.execute("SELECT seq, webhook, state, due_ms FROM delivery")))
    assert found == [(number, number, "pending", START_MS) for number in range(1, count + 1)]
    assert desk.metrics.events == {"accepted": 1, "duplicate": 0, "refused": 0}


async def test_nothing_is_offered_or_answered_before_it_is_on_disk(autojump_clock, store: Store):
    desk = Desk(store, [webhook()])
    answers: list[bytes] = []
    desk.ingest.submit([GOOD], answers.append)
    assert (answers, desk.offered) == ([], [])
    await trio.sleep(1)
    assert (len(answers), len(desk.offered)) == (1, 1)


async def test_paused_and_disabled_webhooks_count_too(autojump_clock, store: Store):
    desk = Desk(store, [webhook(1), webhook(2, status="paused"), webhook(3, status="disabled")])
    assert (await desk.submit(GOOD))[0]["deliveries"] == 3
    assert [hook for hook, _ in desk.offered] == [1, 2, 3]


async def test_a_new_catalogue_counts_for_the_next_line(autojump_clock, store: Store):
    desk = Desk(store)
    assert (await desk.submit(GOOD))[0]["deliveries"] == 0
    desk.ingest.catalog = Catalog([webhook()])
    assert (await desk.submit(GOOD))[0]["deliveries"] == 1


async def test_an_event_happened_when_it_says_or_else_now(autojump_clock, store: Store):
    desk = Desk(store)
    await desk.submit(GOOD)
    await trio.sleep(1.5)
    await desk.submit(GOOD, b'{"type":"a","data":[ 1 ],"timestamp":"2026-02-26T12:00:00.5+02:00"}')
    assert await desk.stored() == [
        (1, "2027-01-15T08:00:00.000Z", b'{"n":1}'),
        (2, "2027-01-15T08:00:01.500Z", b'{"n":1}'),
        (3, "2026-02-26T10:00:00.5Z", b"[ 1 ]"),
    ]


# --- said twice -------------------------------------------------------------------------------------------------


def keyed(key: str = "k1", **fields: Any) -> bytes:
    return json.dumps({"type": "booking.created", "data": 1, "idempotency_key": key, **fields}).encode()


async def test_the_same_again_is_answered_as_before_and_nothing_new_happens(autojump_clock, store: Store):
    desk = Desk(store, [webhook()])
    (first,) = await desk.submit(keyed())
    desk.ingest.catalog = Catalog([])
    await trio.sleep(6 * 86400)
    assert await desk.submit(keyed(), keyed("k2"), keyed("k2")) == [
        first | {"duplicate": True},
        second := {"id": store.ids.make("evt", START_MS + 6 * 86_400_000, 3), "deliveries": 0},
        second | {"duplicate": True},
    ]
    assert [made.event.id for _, made in desk.offered] == [first["id"]]
    assert desk.metrics.events == {"accepted": 2, "duplicate": 2, "refused": 0}


async def test_a_key_counts_for_its_tenant_and_as_long_as_the_window(autojump_clock, store: Store):
    desk = Desk(store, window_s=60.0)
    await desk.submit(keyed())
    assert "duplicate" not in (await desk.submit(keyed(tenant="acme")))[0]
    await trio.sleep(59)
    assert (await desk.submit(keyed()))[0]["duplicate"] is True
    await trio.sleep(2)
    assert "duplicate" not in (await desk.submit(keyed(data=2)))[0]


@pytest.mark.parametrize("other", [{"data": 2}, {"type": "booking.changed"}])
async def test_a_key_with_other_content_is_a_conflict(autojump_clock, store: Store, other: dict[str, Any]):
    desk = Desk(store, [webhook()])
    await desk.submit(keyed())
    (answer,) = await desk.submit(keyed(**other))
    assert answer == {
        "error": {
            "code": "idempotency_conflict",
            "detail": "this idempotency key was used before with another type or data: "
            "send a new key with new content, or the same content to ask for the same answer",
            "field": "idempotency_key",
        }
    }
    assert len(desk.offered) == 1
    assert desk.metrics.events == {"accepted": 1, "duplicate": 0, "refused": 1}


# --- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "field", "says"),
    [
        (b"not json", "invalid_json", None, "character 1"),
        (b'\xef\xbb\xbf{"type":"a","data":1}', "invalid_json", None, "byte-order mark"),
        (b'{"type":"a","data":NaN}', "invalid_json", None, "NaN"),
        (b'{"type":"a","data":Infinity}', "invalid_json", None, "Infinity"),
        (b'{"type":"a","data":1} x', "invalid_json", None, "Extra data"),
        (b'{"type":"a","data":"\xff"}', "invalid_json", None, "UTF-8"),
        (b'{"type":"a","data":' + b"[" * 64 + b"]" * 64 + b"}", "invalid_json", None, "64 levels"),
        (b"[]", "invalid_event", None, "JSON object"),
        (b'{"data":1}', "invalid_event", "type", "missing"),
        (b'{"type":"a"}', "invalid_event", "data", "missing"),
        (b'{"type":"a b","data":1}', "invalid_event", "type", "booking.created"),
        (b'{"type":"a","data":1,"tenant":""}', "invalid_event", "tenant", "1 to 128"),
        (b'{"type":"a","data":1,"colour":"red"}', "invalid_event", "colour", "colour"),
        (b'{"type":"a","data":1,"timestamp":"today"}', "invalid_event", "timestamp", "RFC 3339"),
        (b'{"type":"a","data":"' + b"x" * 200 + b'"}', "too_large", None, "at most 200"),
        (None, "too_large", None, "200B"),
        (b'{"type":"booking.creatd","data":1}', "unknown_event_type", "type", "booking.created"),
    ],
)
async def test_a_bad_line_is_refused_with_its_code_and_what_would_be_right(
    autojump_clock, store: Store, line: bytes | None, code: str, field: str | None, says: str
):
    desk = Desk(store, [webhook()], max_size=200, known_types=frozenset({"a", "booking.created"}))
    (answer,) = await desk.submit(line)
    detail = answer["error"]["detail"]
    assert answer == {"error": {"code": code, "detail": detail} | ({"field": field} if field else {})}
    assert says in detail
    assert await desk.stored() == []
    assert desk.metrics.events == {"accepted": 0, "duplicate": 0, "refused": 1}


async def test_good_and_bad_lines_are_answered_in_their_order(autojump_clock, store: Store):
    desk = Desk(store, [webhook()])
    answers = await desk.submit(b"x", GOOD, None, keyed(), keyed(data=2), b"{}", GOOD, keyed())
    assert [answer.get("error", {}).get("code") or answer["deliveries"] for answer in answers] == [
        "invalid_json", 1, "too_large", 1, "idempotency_conflict", "invalid_event", 1, 1,
    ]  # fmt: skip
    assert answers[7] == answers[3] | {"duplicate": True}
    assert [made.event.id for _, made in desk.offered] == [answers[place]["id"] for place in (1, 3, 6)]


@pytest.mark.parametrize("ahead_s", [3e8, 7200.0, -7200.0, -3e8])
async def test_no_jump_of_the_clock_has_a_key_forgotten(autojump_clock, store: Store, ahead_s: float):
    jump = [0.0]
    desk = Desk(store, clock=lambda: wall() + jump[0])
    (first,) = await desk.submit(keyed())
    jump[0] = ahead_s
    (again,) = await desk.submit(keyed())
    (after,) = await desk.submit(keyed("later"))
    assert (await desk.submit(keyed("later")))[0]["id"] == after["id"]
    jump[0] = 0.0
    (last,) = await desk.submit(keyed())
    assert again["id"] == last["id"] == first["id"]


async def test_no_event_is_taken_while_space_is_low_and_then_it_is_again(autojump_clock, store: Store):
    desk = Desk(store)
    store.is_low = True
    assert await desk.submit(GOOD, b"x") == [
        {
            "error": {
                "code": "store_full",
                "detail": "the disk has too little room left: send the event again when there is some",
            }
        },
        *(await desk.submit(b"x")),
    ]
    store.is_low = False
    assert (await desk.submit(GOOD))[0]["deliveries"] == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [(apsw.FullError, "store_full"), (apsw.IOError, "unavailable"), (apsw.ReadOnlyError, "unavailable")],
)
async def test_what_the_disk_does_not_take_is_refused_and_the_next_is_taken(
    autojump_clock, store: Store, fault: type[Exception], code: str, monkeypatch: pytest.MonkeyPatch
):
    desk = Desk(store, [webhook()])

    def broken(conn: apsw.Connection, rows: Sequence[events.Entry]) -> list[Any]:
        raise fault("not now")

    with monkeypatch.context() as patch:
        patch.setattr(events, "insert", broken)
        answers = await desk.submit(GOOD, GOOD)
    assert [answer["error"]["code"] for answer in answers] == [code, code]
    assert desk.offered == []
    assert (await desk.submit(GOOD))[0]["deliveries"] == 1
    assert desk.metrics.events == {"accepted": 1, "duplicate": 0, "refused": 2}


async def test_a_daemon_that_stops_says_so(autojump_clock, store: Store):
    desk = Desk(store)
    await desk.submit(GOOD)
    store.close()
    assert await desk.submit(GOOD) == [
        {"error": {"code": "unavailable", "detail": "the daemon is stopping: send the event again"}}
    ]


async def test_what_was_taken_before_the_stop_is_stored_and_answered(autojump_clock, store: Store):
    desk = Desk(store, [webhook()])
    answers: list[bytes] = []
    desk.ingest.submit([GOOD], answers.append)
    store.close()
    await trio.sleep(1)
    assert json.loads(answers[0])["deliveries"] == 1


# --- back-pressure ----------------------------------------------------------------------------------------------


async def test_nobody_is_read_while_too_much_is_on_its_way_to_the_disk(autojump_clock, store: Store):
    desk = Desk(store, max_size=UNSTORED_LIMIT)
    big = b'{"type":"a","data":"' + b"x" * (UNSTORED_LIMIT // 2) + b'"}'
    answers: list[bytes] = []
    await desk.ingest.room()
    desk.ingest.submit([big], answers.append)
    with trio.fail_after(0):
        await desk.ingest.room()
    desk.ingest.submit([big], answers.append)
    assert answers == []
    await desk.ingest.room()
    assert len(answers) == 2


# --- order ------------------------------------------------------------------------------------------------------


def ordered(key: str) -> bytes:
    return json.dumps({"type": "booking.created", "data": 1, "ordering_key": key}).encode()


async def test_of_an_ordering_key_one_delivery_is_due_and_the_others_are_offered_as_waiting(
    autojump_clock, store: Store
):
    desk = Desk(store, [webhook(1), webhook(2)])
    await desk.submit(ordered("a"), ordered("b"), ordered("a"), GOOD)
    await desk.submit(ordered("a"))
    found = [(hook, made.chain, made.due_ms >= BLOCKED_MS) for hook, made in desk.offered]
    for hook in (1, 2):
        assert [row[1:] for row in found if row[0] == hook] == [
            ("a", False),
            ("b", False),
            ("a", True),
            (None, False),
            ("a", True),
        ]


async def test_an_ordered_webhook_has_one_chain_whatever_the_keys_and_others_have_theirs(autojump_clock, store: Store):
    desk = Desk(store, [webhook(1, ordered=True), webhook(2)])
    await desk.submit(ordered("a"), ordered("b"), GOOD)
    found = [(hook, made.chain, made.due_ms >= BLOCKED_MS) for hook, made in desk.offered]
    assert [row[1:] for row in found if row[0] == 1] == [(WHOLE, False), (WHOLE, True), (WHOLE, True)]
    assert [row[1:] for row in found if row[0] == 2] == [("a", False), ("b", False), (None, False)]


# --- announcements ----------------------------------------------------------------------------------------------


async def test_an_announcement_is_an_event_for_operators_webhooks_and_nothing_where_there_are_none(
    autojump_clock, store: Store
):
    desk = Desk(store, [webhook(1), webhook(2, tenant="hookrelay", events=("hookrelay.delivery.*",))])
    desk.ingest.announce("hookrelay.webhook.disabled", {"webhook_id": "wh_1"})
    desk.ingest.announce("hookrelay.delivery.failed", {"delivery_id": "dlv_1"})
    await store.change(lambda conn: None)
    ((hook, made),) = desk.offered
    assert (hook, made.event.tenant, made.event.data) == (2, "hookrelay", b'{"delivery_id":"dlv_1"}')
    assert len(await desk.stored()) == 1


async def test_an_announcement_is_taken_though_space_is_low(autojump_clock, store: Store):
    desk = Desk(store, [webhook(1, tenant="hookrelay")])
    store.is_low = True
    desk.ingest.announce("hookrelay.delivery.failed", {})
    await store.change(lambda conn: None)
    assert len(desk.offered) == 1


async def test_an_announcement_that_the_disk_does_not_take_waits_until_it_does(autojump_clock, nursery):
    store = new_store(LateStore)
    await nursery.start(store.run)
    desk = Desk(store, [webhook(1, tenant="hookrelay")])
    store.is_failing = True
    desk.ingest.announce("hookrelay.delivery.failed", {})
    await trio.sleep(100)
    assert desk.offered == []
    store.is_failing = False
    await trio.sleep(5)
    assert len(desk.offered) == 1
    assert len(await desk.stored()) == 1
