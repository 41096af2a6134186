"""A lane obeys its receiver: Retry-After, slowing down, 410, and failing for too long."""

from itertools import pairwise
from typing import Any

import pytest
import trio
from builders import START_MS, event, wall, webhook
from doubles import HANG, Receiver, declare, new_store, relaying

from hookrelay.model import Delivery
from hookrelay.net.failure import AttemptFailure
from hookrelay.rules.health import LONGEST_PAUSE_S
from hookrelay.store import events

BUSY_30 = b"HTTP/1.1 503 Busy\r\nRetry-After: 30"


def times(receiver: Receiver, host: str = "r1.example") -> list[float]:
    return [request.at for request in receiver.of(host)]


# --- Retry-After ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [503, 429, 500, 404, 301])
async def test_retry_after_on_any_failure_holds_the_whole_webhook(autojump_clock, code: int):
    receiver = Receiver()
    receiver.answers(b"HTTP/1.1 %d Said\r\nretry-after: 30" % code, 200)
    async with relaying(receiver, webhook(delays=(0.0, 1.0, 1.0))) as relay:
        await relay.accept()
        await trio.sleep(5)
        await relay.accept(20)
        await relay.settled()
    asked = receiver.requests[0].ended_at
    assert asked is not None
    assert min(times(receiver)[1:]) == pytest.approx(asked + 30, abs=0.05)
    assert min(times(receiver)[1:]) >= asked + 30 - 0.001


async def test_a_hold_outlives_the_daemon(autojump_clock):
    receiver = Receiver()
    receiver.answers(BUSY_30, 200)
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await declare(store, [webhook()])
        async with relaying(receiver, webhook(delays=(0.0, 1.0, 1.0)), store=store) as relay:
            await relay.accept(1)
            await trio.sleep(10)
        async with relaying(receiver, webhook(delays=(0.0, 1.0, 1.0)), store=store) as relay:
            await relay.accept(3)
            await relay.settled()
        store.close()
    assert min(times(receiver)[1:]) - times(receiver)[0] == pytest.approx(30, abs=0.1)


# --- slowing down -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [503, 429, HANG, AttemptFailure("connect_timeout", "no answer")])
async def test_a_dead_receiver_with_many_waiting_gets_one_probe_a_step(autojump_clock, reply: Any):
    receiver = Receiver()
    if isinstance(reply, AttemptFailure):
        receiver.refuses(*[reply] * 100_000)
    else:
        receiver.answers(reply)
    hook = webhook(delays=(0.0, 5.0, 300.0, 1800.0), timeout_s=10.0)
    async with relaying(receiver, hook) as relay:
        await relay.accept(5000)
        await trio.sleep(3600)
        attempts = relay.metrics.attempts.total()
        assert attempts <= 8 + 4 + 2 + 3600 / LONGEST_PAUSE_S + 1
        assert attempts >= 3600 / (LONGEST_PAUSE_S + 10)
        receiver.refusals.clear()
        receiver.recover()
        await relay.settled()
    assert relay.metrics.deliveries["succeeded"] == 5000


async def test_a_single_delivery_is_tried_when_its_schedule_says_however_slow_the_webhook_is(autojump_clock):
    receiver = Receiver()
    receiver.answers(503)
    async with relaying(receiver, webhook(delays=(0.0, 1.0, 2.0, 4.0, 30.0), max_in_flight=1)) as relay:
        await relay.accept()
        await relay.settled()
    waits = [later - earlier for earlier, later in pairwise(times(receiver))]
    assert waits == pytest.approx([1, 2, 4, 30], rel=0.11)


async def test_a_receiver_that_recovers_is_back_at_full_speed_soon(autojump_clock):
    receiver = Receiver()
    receiver.answers(*[503] * 20, 200, seconds=0.1)
    async with relaying(receiver, webhook(delays=(0.0, 1.0, 1.0, 1.0, 1.0), max_in_flight=8)) as relay:
        await relay.accept(400)
        await relay.settled()
    assert relay.metrics.deliveries["succeeded"] == 400
    assert receiver.most_at_once["r1.example"] == 8
    good = [request.at for request in receiver.requests if request.code == 200]
    assert good[-1] - good[0] < 2 * 400 * 0.1 / 8 + 3


async def test_a_slowed_webhook_keeps_little_in_memory(autojump_clock):
    receiver = Receiver()
    receiver.answers(503)
    async with relaying(receiver, webhook(delays=(0.0, 60.0, 60.0))) as relay:
        await relay.accept(2000)
        await trio.sleep(30)
        (lane,) = relay.dispatcher._lanes.values()
        assert len(lane._shelf) <= 4
        receiver.recover()
        await relay.settled()
    assert len({request.id for request in receiver.requests if request.code == 200}) == 2000


# --- disabling --------------------------------------------------------------------------------------------------


async def test_410_disables_the_webhook_and_holds_what_waits(autojump_clock):
    receiver = Receiver()
    receiver.answers(410)
    async with relaying(receiver, webhook(max_in_flight=1)) as relay:
        await relay.accept(10)
        await trio.sleep(100)
        await relay.accept(5)
        await trio.sleep(100)
        assert len(receiver.requests) == 1
        assert (relay.dispatcher.pending(), relay.dispatcher.held()) == (0, 15)
        assert [(hook.status, hook.disabled_reason) for hook in relay.disabled] == [("disabled", "gone")]
        assert [line["event"] for line in relay.told] == ["attempt_failed", "webhook_disabled", "audit"]
        ((kind, told),) = relay.announced
        assert (kind, told["webhook_id"], told["reason"]) == ("hookrelay.webhook.disabled", webhook().id, "gone")

        receiver.recover()
        relay.dispatcher.replace_webhooks([webhook(max_in_flight=1)])
        await relay.settled()
    assert relay.metrics.deliveries["succeeded"] == 15
    fresh = [request.id for request in receiver.requests[1:] if request.attempt == 1]
    assert fresh == sorted(fresh)


async def test_an_answer_to_what_the_webhook_was_before_it_changed_does_not_disable_it(autojump_clock):
    receiver = Receiver()
    receiver.answers(410, seconds=5.0)
    async with relaying(receiver, webhook()) as relay:
        await relay.accept()
        await trio.sleep(1)
        relay.dispatcher.replace_webhooks([webhook(url="https://new.example/hook")])
        await relay.settled()
        assert relay.disabled == []
    assert [request.code for request in receiver.of("new.example")] == [200]


async def test_only_failures_for_long_enough_disable_and_say_so(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with relaying(receiver, webhook(delays=(0.0, *[20.0] * 30)), disable_after_s=300.0) as relay:
        await relay.accept()
        await trio.sleep(1000)
        ((kind, told),) = relay.announced
        assert (kind, told["reason"]) == ("hookrelay.webhook.disabled", "failing")
        assert 15 <= told["failures"] <= 18
        assert (relay.dispatcher.pending(), relay.dispatcher.held()) == (0, 1)


async def test_how_long_a_webhook_has_failed_outlives_the_daemon(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    hook = webhook(delays=(0.0, *[20.0] * 60))
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await declare(store, [webhook()])
        for _ in range(5):  # by luck no attempt may fall into the last 20 s of fewer
            async with relaying(receiver, hook, store=store, disable_after_s=300.0) as relay:
                if not receiver.requests:
                    await relay.accept()
                await trio.sleep(80)
        rows = await store.read(lambda conn: conn.execute("SELECT status, disabled_reason FROM webhook").fetchall())
        store.close()
    assert rows == [("disabled", "failing")]


async def test_a_clock_that_was_set_ahead_between_two_daemons_disables_no_webhook(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    hook = webhook(delays=(0.0, *[5.0] * 200))
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await declare(store, [hook])
        async with relaying(receiver, hook, store=store, disable_after_s=300.0) as relay:
            await relay.accept()
            await trio.sleep(80)
        ended_ms = int(wall() * 1000)
        assert len(receiver.requests) > 10
        async with relaying(
            receiver, hook, store=store, disable_after_s=300.0, clock=lambda: wall() + 3e8, last_written_ms=ended_ms
        ):
            await trio.sleep(100)
            assert await store.read(lambda conn: conn.execute("SELECT status FROM webhook").get) == "active"
            await trio.sleep(200)
            assert await store.read(lambda conn: conn.execute("SELECT status FROM webhook").get) == "disabled"
        store.close()


async def test_a_delivery_that_fails_for_good_is_announced_but_no_announcement_is(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with relaying(receiver, webhook(delays=(0.0,))) as relay:
        (made,) = await relay.accept()
        await relay.settled()
        ((kind, told),) = relay.announced
        assert kind == "hookrelay.delivery.failed"
        assert (told["event_id"], told["attempt_count"], told["response_code"]) == (made.event.id, 1, 500)
        seq, first = relay.store.take_numbers(1)
        one = event(seq, tenant="hookrelay", type=kind, created_ms=START_MS, ids=relay.store.ids)
        await relay.store.write(events.insert, [events.Entry(one, None, (1,), first)])
        relay.dispatcher.offer(1, Delivery(first, one, due_ms=START_MS))
        await relay.settled()
        assert len(relay.announced) == 1
        assert relay.metrics.deliveries["failed"] == 2


# --- clocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back_s", [7200.0, 3e8])
async def test_a_clock_set_back_delays_no_retry(autojump_clock, back_s: float):
    ahead = [0.0]
    receiver = Receiver()
    receiver.answers(500, 500, 500, 200)
    hook = webhook(delays=(0.0, 100.0, 100.0, 100.0))
    async with relaying(receiver, hook, clock=lambda: wall() + ahead[0]) as relay:
        await relay.accept()
        await trio.sleep(10)
        ahead[0] = -back_s
        await trio.sleep(150)
        ahead[0] = -back_s / 2
        await relay.settled()
        await relay.accept()  # and what comes now goes at once
        await relay.settled(1)
    first, *rest, last = times(receiver)
    assert [at - first for at in rest] == pytest.approx([100, 200, 300], abs=31)
    assert last - rest[-1] < 60


async def test_what_a_daemon_with_a_clock_far_ahead_put_off_waits_no_longer_than_the_schedule(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, 200)
    store = new_store()
    hook = webhook(delays=(0.0, 100.0))
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await declare(store, [hook])
        async with relaying(receiver, hook, store=store, clock=lambda: wall() + 3e8) as relay:
            await relay.accept()
            await trio.sleep(10)
        far_ahead_ms = int(wall() + 3e8) * 1000
        await store.change(lambda conn: conn.execute("UPDATE delivery SET due_ms = max(due_ms, ?)", (far_ahead_ms,)))
        async with relaying(receiver, hook, store=store) as relay:
            await relay.keep(offer=False)
            await store.change(
                lambda conn: conn.execute("UPDATE delivery SET due_ms = ? WHERE strikes = 0", (far_ahead_ms,))
            )
            relay.dispatcher.expect(1, 1, 0)
            began_s = trio.current_time()
            await relay.settled()
        store.close()
    _, fresh, retried = times(receiver)
    assert fresh - began_s < 10  # what was never tried waits for nothing
    assert retried - began_s == pytest.approx(110, abs=5)
