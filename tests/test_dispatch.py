from collections import Counter
from datetime import datetime
from itertools import pairwise
from math import ceil

import pytest
import trio
from builders import START_S, wall, webhook
from doubles import HANG, Receiver, declare, new_store, relaying

from hookrelay.lane import IDLE_S
from hookrelay.model import LocalTrouble
from hookrelay.net.failure import AttemptFailure
from hookrelay.store import history

# --- how many, and which first ----------------------------------------------------------------------------------


async def test_a_webhook_never_has_more_than_max_in_flight_attempts_and_uses_them_all(autojump_clock):
    receiver = Receiver()
    receiver.answers(200, seconds=1.0)
    async with relaying(receiver, webhook(max_in_flight=3)) as relay:
        await relay.accept(20)
        await relay.settled()
    assert receiver.most_at_once["r1.example"] == 3
    assert len(receiver.requests) == 20
    assert receiver.requests[-1].at == pytest.approx(6.0, abs=0.2)  # seven rounds of one second


async def test_each_worker_keeps_its_connection_from_delivery_to_delivery(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, webhook(max_in_flight=2)) as relay:
        await relay.accept(50)
        await relay.settled()
    assert len(receiver.requests) == 50
    assert receiver.dialled == 2


async def test_what_is_due_first_goes_first(autojump_clock):
    receiver = Receiver()
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        async with relaying(Receiver(), store=store) as nobody:
            stored = [(await nobody.keep(ago_ms=ago))[0][1] for ago in (1000, 9000, 3000, 0, 5000)]
        async with relaying(receiver, webhook(max_in_flight=1), store=store) as relay:
            fresh = await relay.accept(3)
            await relay.settled()
        store.close()
    due_first = sorted(stored, key=lambda each: each.due_ms)
    assert [request.id for request in receiver.requests] == [each.event.id for each in (*due_first, *fresh)]


async def test_what_waited_in_the_store_at_the_start_is_delivered(autojump_clock):
    receiver = Receiver()
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        async with relaying(Receiver(), store=store) as nobody:
            stored = await nobody.keep(700, to=(1, 2), offer=False)
        async with relaying(receiver, webhook(1), webhook(2), store=store) as relay:
            assert relay.dispatcher.pending() == 1400
            await relay.settled()
        store.close()
    for host in ("r1.example", "r2.example"):
        assert Counter(request.id for request in receiver.of(host)) == Counter(each.event.id for _, each in stored[::2])


async def test_a_webhook_that_hangs_delays_no_other(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, webhook(1), webhook(2)) as relay:
        before = trio.current_time()
        await relay.accept(1000, to=(1, 2))
        await trio.sleep(2)
        assert len(receiver.of("r2.example")) == 1000
        assert receiver.of("r2.example")[-1].at - before < 1.5
        assert len(receiver.of("r1.example")) == 8


# --- retries ----------------------------------------------------------------------------------------------------


async def test_a_failing_receiver_is_asked_again_when_the_schedule_says_and_then_never_again(autojump_clock):
    delays = (0.0, 5.0, 300.0, 7200.0)
    receiver = Receiver()
    receiver.answers(500)
    async with relaying(receiver, webhook(delays=delays)) as relay:
        await relay.accept()
        await relay.settled(10_000)
        await trio.sleep(40 * 86400)
        assert await relay.waiting() == []
    assert [request.attempt for request in receiver.requests] == [1, 2, 3, 4]
    assert len({request.id for request in receiver.requests}) == 1
    told = [line["next_attempt_at"] for line in relay.told]
    assert told[-1] is None
    told_ms = [datetime.fromisoformat(text).timestamp() * 1000 for text in told[:-1]]
    for (earlier, later), delay, due_ms in zip(pairwise(receiver.requests), delays[1:], told_ms, strict=True):
        assert earlier.ended_at is not None
        assert 0.9 * delay - 0.002 <= later.at - earlier.ended_at <= 1.1 * delay + 0.02
        assert later.at == pytest.approx(due_ms / 1000 - START_S, abs=0.01)
    assert [line["event"] for line in relay.told] == ["attempt_failed"] * 3 + ["delivery_failed"]
    assert relay.metrics.deliveries == {"succeeded": 0, "failed": 1, "cancelled": 0}


async def test_many_retries_spread_over_the_whole_of_their_jitter(autojump_clock):
    receiver = Receiver()
    receiver.answers(*[500] * 200, 200, seconds=0.0)
    async with relaying(receiver, webhook(delays=(0.0, 1000.0), max_in_flight=200)) as relay:
        await relay.accept(200)
        await relay.settled()
    waits = [request.at for request in receiver.requests if request.attempt == 2]
    assert 899 < min(waits) < 920
    assert 1080 < max(waits) < 1101


async def test_a_delivery_that_succeeds_at_a_later_attempt_is_done(autojump_clock):
    receiver = Receiver()
    receiver.answers(503, AttemptFailure("protocol_error", "no HTTP"), 204)
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await declare(store, [webhook()])
        async with relaying(receiver, webhook(), store=store) as relay:
            (made,) = await relay.accept()
            await relay.settled()
            found = await store.read(history.delivery, made.seq)
        store.close()
    assert found is not None
    assert (found[0].state, found[0].attempt_count, found[0].response_code) == ("succeeded", 3, 204)
    assert [attempt.error_code for attempt in found[3]] == ["http_status", "protocol_error", None]


async def test_an_attempt_ends_at_its_deadline_on_the_grid_and_uses_a_strike(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, webhook(timeout_s=10.3, delays=(0.0, 100.0, 100.0))) as relay:
        await trio.sleep(0.0123)
        await relay.accept()
        await trio.sleep(15)
        first = receiver.requests[0]
        assert first.ended_at == pytest.approx(ceil((first.at + 10.3) * 32) / 32, abs=1e-6)
        (waiting,) = await relay.waiting()
        assert (waiting.attempt_count, waiting.strikes) == (1, 1)
        receiver.recover()
        await relay.settled()
    assert [line["error"] for line in relay.told] == ["timeout"]
    assert [request.attempt for request in receiver.requests] == [1, 2]
    assert receiver.requests[1].connection != first.connection


async def test_an_answer_whose_body_outlasts_the_deadline_is_the_answer_it_was(autojump_clock):
    receiver = Receiver()
    receiver.answers(200, body=b"so far", body_s=60.0)
    async with relaying(receiver, webhook(timeout_s=1.0)) as relay:
        await relay.accept()
        await relay.settled(10)
    assert relay.metrics.attempts["success"] == 1
    assert len(receiver.requests) == 1


async def test_a_local_fault_is_counted_in_the_history_but_is_no_strike(autojump_clock):
    receiver = Receiver()
    receiver.refuses(*[AttemptFailure("local_fault", "no descriptors")] * 5)
    receiver.answers(500)
    async with relaying(receiver, webhook(delays=(0.0, 100.0))) as relay:
        await relay.accept()
        await trio.sleep(15)  # each wait is at most 2 s
        (waiting,) = await relay.waiting()
        assert (waiting.attempt_count, waiting.strikes) == (6, 1)
        await relay.settled()
    assert [request.attempt for request in receiver.requests] == [6, 7]
    assert relay.metrics.local_faults.total() == 5
    assert relay.metrics.deliveries["failed"] == 1


async def test_an_attempt_that_ends_at_its_very_deadline_costs_the_next_one_nothing(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, webhook(timeout_s=1.0, max_in_flight=1)) as relay:
        await relay.accept(3)
        await trio.sleep(0.1)
        deadline = ceil((receiver.requests[0].at + 1.0) * 32) / 32
        await trio.sleep_until(deadline - 0.01)
        receiver.recover()
        autojump_clock.jump(0.02)  # the answer is there, and the deadline passed before anybody could look
        await relay.settled()
    first = receiver.requests[0]
    assert first.ended_at is not None
    assert first.ended_at > deadline
    assert relay.told == []
    assert [(request.attempt, request.code) for request in receiver.requests] == [(1, 200)] * 3


# --- idle, and the end of a lane --------------------------------------------------------------------------------


async def test_an_idle_connection_is_closed_after_a_minute_and_then_nothing_is_kept_of_the_lane(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, webhook()) as relay:
        await relay.accept(3)
        await trio.sleep(IDLE_S - 1)
        assert receiver.open_connections > 0
        await trio.sleep(2)
        assert receiver.open_connections == 0
        assert list(relay.dispatcher.overdue()) == []
        await relay.accept()
        await relay.settled()
    assert len(receiver.requests) == 4


async def test_an_event_that_comes_while_connections_are_given_up_is_not_forgotten(autojump_clock):
    receiver = Receiver()
    hooks = [webhook(number, max_in_flight=1) for number in range(1, 33)]
    receiver.hosts.update({f"r{number}.example": receiver.behaviour("r1.example") for number in range(1, 33)})
    async with relaying(receiver, *hooks) as relay:
        await relay.accept(to=range(1, 33))
        await relay.settled()
        done = max(request.ended_at or 0 for request in receiver.requests)
        stored = await relay.keep(to=range(1, 33), offer=False)
        await trio.sleep(done + IDLE_S - trio.current_time())
        for hook, each in stored:
            relay.dispatcher.offer(hook, each)
        await relay.settled(30)
    assert len(receiver.requests) == 64


async def test_a_clock_set_forward_is_noticed_within_a_minute(autojump_clock):
    ahead = [0.0]
    receiver = Receiver()
    receiver.answers(500, 200)
    async with relaying(receiver, webhook(delays=(0.0, 36_000.0)), clock=lambda: wall() + ahead[0]) as relay:
        await relay.accept()
        await trio.sleep(100)  # by now no connection wakes the lane when it is given up
        ahead[0] = 40_000.0
        await relay.settled(61)
    assert len(receiver.requests) == 2


# --- trouble with the store -------------------------------------------------------------------------------------


async def test_no_attempt_starts_while_the_store_is_in_trouble_and_then_all_goes_on_by_itself(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, webhook()) as relay:
        await relay.accept()
        await relay.settled()  # the lane is there, and idle
        stored = await relay.keep(20, offer=False)
        relay.store.trouble = LocalTrouble("store_io", "the disk does not answer")
        for hook, each in stored:
            relay.dispatcher.offer(hook, each)
        await trio.sleep(5)
        assert len(receiver.requests) == 1
        relay.store.trouble = None
        await trio.sleep(3)
        assert len(receiver.requests) == 21


async def test_a_new_lane_waits_for_the_store_too(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, webhook()) as relay:
        stored = await relay.keep(20, offer=False)
        relay.store.trouble = LocalTrouble("store_io", "the disk does not answer")
        for hook, each in stored:
            relay.dispatcher.offer(hook, each)
        await trio.sleep(5)
        assert receiver.requests == []
        relay.store.trouble = None
        await relay.settled(3)
    assert len(receiver.requests) == 20
