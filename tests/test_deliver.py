import time
from collections.abc import Sequence
from typing import Any

import apsw
import pytest
import trio
from builders import SECRET, START_MS, START_S, delivery, event, outcome, wall, webhook
from doubles import Receiver, declare, listening_log, new_store
from standardwebhooks.webhooks import Webhook as Standard

from hookrelay import __version__
from hookrelay.clock import NeverBack
from hookrelay.deliver import Deliverer, Outside
from hookrelay.feed import Feed
from hookrelay.model import Delivery, Outcome, Verdict
from hookrelay.net.dial import Origin
from hookrelay.net.post import Poster
from hookrelay.rules.sign import verify
from hookrelay.store import events, history, queue
from hookrelay.store.db import Store
from hookrelay.tally import Tally
from hookrelay.telemetry.metrics import Metrics
from hookrelay.units import format_time

HOOK = webhook(delays=(0.0, 5.0, 300.0), headers=(("X-Key", "the customer's own secret"),))


class Bench:
    """A Deliverer over a store that has one event with one delivery, and what it tells."""

    def __init__(self, store: Store, roll: float = 0.5) -> None:
        self.store = store
        self.metrics = Metrics()
        log, self.told = listening_log()
        self.answers: list[tuple[Delivery, Verdict, object]] = []
        self.announced: list[tuple[str, Any]] = []
        self.deliverer = Deliverer(
            HOOK,
            Outside(
                store=store,
                metrics=self.metrics,
                log=log,
                wall=wall,
                due=NeverBack(wall),
                announce=lambda type, data: self.announced.append((type, data)),
                feed=Feed(),
                tally=Tally(store, lambda seq: None, wall),
                roll=lambda: roll,
            ),
        )

    def record(self, made: Delivery, outcome: Outcome) -> None:
        self.deliverer.record(
            made,
            outcome,
            trio.current_time(),
            lambda made, verdict, answer: self.answers.append((made, verdict, answer)),
        )

    async def shown(self) -> Any:
        await self.store.change(lambda conn: None)
        return await self.store.read(history.delivery, 1)


async def bench(nursery: trio.Nursery, **options: Any) -> Bench:
    store = new_store()
    await nursery.start(store.run)
    await declare(store, [HOOK])
    await store.write(events.insert, [events.Entry(event(ids=store.ids), None, (1,), 1)])
    return Bench(store, **options)


# --- what is sent -----------------------------------------------------------------------------------------------


async def post(made: Delivery) -> tuple[dict[str, str], bytes, Outcome]:
    receiver = Receiver()
    deliverer = Bench(new_store()).deliverer
    poster = Poster(receiver, Origin("https", "r1.example", 443))
    with trio.CancelScope(deadline=trio.current_time() + 30) as scope:
        answer = await deliverer.deliver(made, poster, scope)
    poster.hang_up()
    (request,) = receiver.requests
    assert request.line == "POST /hook HTTP/1.1"
    return request.headers, request.body, answer


async def test_an_attempt_for_which_there_is_no_memory_is_a_local_fault(autojump_clock):
    class Starving:
        async def post(self, request: bytes, started_ms: int, scope: trio.CancelScope) -> Outcome:
            raise MemoryError

    with trio.CancelScope() as scope:
        answer = await Bench(new_store()).deliverer.deliver(delivery(event=event()), Starving(), scope)
    assert (answer.error, answer.started_ms) == ("local_fault", START_MS)
    assert "no memory" in answer.detail


async def test_a_request_has_the_headers_and_body_of_the_contract(autojump_clock):
    await trio.sleep(77.7)
    one = event(data=b'{"b":1, "a":[2.50]}', timestamp="2026-02-26T10:00:00Z")
    headers, body, answer = await post(delivery(event=one, attempt_count=4, strikes=1))
    signature = headers.pop("webhook-signature")
    assert verify([SECRET], one.id, START_S + 77, body, signature, now_s=START_S + 77)
    assert headers == {
        "host": "r1.example",
        "content-type": "application/json",
        "user-agent": f"hookrelay/{__version__}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "x-key": "the customer's own secret",
        "webhook-id": one.id,
        "idempotency-key": one.id,
        "webhook-timestamp": str(START_S + 77),
        "webhook-attempt": "5",
        "content-length": str(len(body)),
    }
    assert body == (
        b'{"id":"%b","type":"booking.created","timestamp":"2026-02-26T10:00:00Z","data":{"b":1, "a":[2.50]}}'
        % one.id.encode()
    )
    assert (answer.error, answer.response_code, answer.started_ms) == (None, 200, START_MS + 77_700)


async def test_a_receiver_that_checks_by_the_reference_library_is_content():
    now = int(time.time())
    receiver = Receiver()
    store = new_store()
    outside = Outside(
        store=store,
        metrics=Metrics(),
        log=listening_log()[0],
        wall=lambda: float(now),
        due=NeverBack(wall),
        announce=lambda type, data: None,
        feed=Feed(),
        tally=Tally(store, lambda seq: None, wall),
    )
    deliverer = Deliverer(HOOK, outside)
    poster = Poster(receiver, Origin("https", "r1.example", 443))
    with trio.CancelScope() as scope:
        await deliverer.deliver(delivery(event=event()), poster, scope)
    poster.hang_up()
    (request,) = receiver.requests
    told = Standard(SECRET).verify(request.body, request.headers)
    assert (told["type"], told["data"]) == ("booking.created", {"n": 1})


# --- what is recorded -------------------------------------------------------------------------------------------


async def test_a_first_success_is_recorded_counted_and_not_logged(autojump_clock):
    async with trio.open_nursery() as nursery:
        one = await bench(nursery)
        await trio.sleep(2)
        made = delivery(event=event(ids=one.store.ids))
        one.record(made, outcome(response_head=b"HTTP/1.1 200 OK", response_body=b"thanks"))
        row, _, _, attempts = await one.shown()
        one.store.close()
    assert one.answers == [(made, Verdict("succeeded", 0), [None])]
    assert (row.state, row.due_ms, row.attempt_count, row.response_code) == ("succeeded", None, 1, 200)
    assert [(each.number, each.response_body) for each in attempts] == [(1, b"thanks")]
    assert one.told == []
    metrics = one.metrics
    assert metrics.attempts == {"success": 1}
    assert metrics.webhook_attempts == {(HOOK.id, "success"): 1}
    assert metrics.deliveries["succeeded"] == 1
    assert metrics.attempt_seconds.sum == 0.25
    assert (sum(metrics.latency_seconds.counts), metrics.latency_seconds.sum) == (1, 2.0)


async def test_a_success_after_a_failure_says_nothing_about_latency(autojump_clock):
    async with trio.open_nursery() as nursery:
        one = await bench(nursery)
        one.record(delivery(event=event(), attempt_count=1, strikes=1), outcome())
        row, _, _, attempts = await one.shown()
        one.store.close()
    assert (row.state, row.attempt_count) == ("succeeded", 2)
    assert [each.number for each in attempts] == [2]
    assert sum(one.metrics.latency_seconds.counts) == 0


@pytest.mark.parametrize(
    ("error", "strikes", "after", "roll", "wait_ms"),
    [
        ("http_status", 0, 1, 0.5, 5_000),
        ("timeout", 0, 1, 0.0, 4_500),
        ("reset", 1, 2, 0.999999, 330_000),
        ("interrupted", 1, 1, 0.5, 0),
        ("local_fault", 1, 1, 0.5, 1_500),
    ],
)
async def test_a_failure_is_recorded_with_the_next_due_time_and_logged(
    autojump_clock, error: Any, strikes: int, after: int, roll: float, wait_ms: int
):
    async with trio.open_nursery() as nursery:
        one = await bench(nursery, roll=roll)
        await trio.sleep(10)
        made = delivery(event=event(ids=one.store.ids), attempt_count=strikes + 3, strikes=strikes)
        one.record(made, outcome(error, detail="what went wrong"))
        row, _, _, attempts = await one.shown()
        one.store.close()
    due_ms = START_MS + 10_000 + wait_ms
    assert one.answers == [(made, Verdict("pending", after, due_ms), [None])]
    assert (row.state, row.due_ms, row.attempt_count, row.error_code) == ("pending", due_ms, strikes + 4, error)
    assert [(each.number, each.error_code, each.error_detail) for each in attempts] == [
        (strikes + 4, error, "what went wrong")
    ]
    assert one.told == [
        {
            "event": "attempt_failed",
            "log_level": "info",
            "delivery": one.store.ids.make("dlv", START_MS, 1),
            "event_id": made.event.id,
            "webhook": HOOK.id,
            "webhook_name": "r1.example",
            "tenant": HOOK.tenant,
            "attempt": strikes + 4,
            "error": error,
            "detail": "what went wrong",
            "response_code": 500 if error == "http_status" else None,
            "next_attempt_at": format_time(due_ms),
        }
    ]
    assert one.metrics.attempts == {"success": 0, error: 1}
    assert one.metrics.deliveries.total() == 0
    assert one.metrics.local_faults.total() == (error == "local_fault")


async def test_the_last_failure_ends_the_delivery_and_is_a_warning(autojump_clock):
    async with trio.open_nursery() as nursery:
        one = await bench(nursery)
        one.record(delivery(event=event(), attempt_count=2, strikes=2), outcome("http_status"))
        row, _, _, _ = await one.shown()
        one.store.close()
    assert (row.state, row.due_ms) == ("failed", None)
    assert [(line["event"], line["log_level"], line["next_attempt_at"]) for line in one.told] == [
        ("delivery_failed", "warning", None)
    ]
    assert one.metrics.deliveries["failed"] == 1


async def test_neither_payload_nor_secret_is_logged(autojump_clock):
    async with trio.open_nursery() as nursery:
        one = await bench(nursery)
        made = delivery(event=event(data=b'"the customers business"'))
        one.record(made, outcome("http_status", response_body=b"stack trace", response_head=b"HTTP/1.1 500 X"))
        one.store.close()
    told = str(one.told)
    for secret in ("business", "customer", SECRET.decode(), "stack trace", "signature"):
        assert secret not in told


async def test_an_outcome_that_cannot_be_written_just_now_is_written_when_it_can(autojump_clock):
    async with trio.open_nursery() as nursery:
        one = await bench(nursery)
        until = trio.current_time() + 10

        def record(conn: apsw.Connection, rows: Sequence[queue.Result]) -> list[None]:
            if trio.current_time() < until:
                raise apsw.FullError
            return written(conn, rows)

        written = queue.record
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(queue, "record", record)
            one.record(delivery(event=event()), outcome())
        await trio.sleep(9)
        assert one.answers == []
        assert one.store.trouble is not None
        one.store.close()
    assert [verdict.state for _, verdict, _ in one.answers] == ["succeeded"]


async def test_a_bug_under_the_record_is_told_to_the_caller(autojump_clock):
    async with trio.open_nursery() as nursery:
        one = await bench(nursery)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(queue, "record", _broken)
            one.record(delivery(event=event()), outcome())
        await trio.sleep(1)
        one.store.close()
    ((_, _, answer),) = one.answers
    assert isinstance(answer, ZeroDivisionError)


def _broken(conn: object, rows: Sequence[object]) -> list[None]:
    raise ZeroDivisionError
