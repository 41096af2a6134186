"""What a reload and a stop do to lanes at work."""

from collections import Counter

import pytest
import trio
from builders import START_S, wall, webhook
from doubles import HANG, Receiver, new_store, relaying
from msgspec import structs

from hookrelay.rules.sign import verify
from hookrelay.store import queue

OLD, NEW = webhook(), webhook(url="https://new.example/else", secrets=(b"another secret of thirty-two byte",))


# --- reload -----------------------------------------------------------------------------------------------------


async def test_a_changed_webhook_gets_the_rest_at_its_new_url_and_by_its_new_secret(autojump_clock):
    receiver = Receiver()
    receiver.answers(200, seconds=3.0)
    async with relaying(receiver, structs.replace(OLD, max_in_flight=2)) as relay:
        made = await relay.accept(10)
        await trio.sleep(1)
        relay.dispatcher.replace_webhooks([NEW])
        await relay.settled()
        assert relay.dispatcher.held() == 0
    old, new = receiver.of("r1.example"), receiver.of("new.example")
    assert [request.code for request in old] == [200, 200]  # what was in flight went on to its end
    assert (len(new), new[0].line) == (8, "POST /else HTTP/1.1")
    assert Counter(request.id for request in receiver.requests) == Counter(each.event.id for each in made)
    for request, hook in ((old[0], OLD), (new[0], NEW)):
        stamp, signature = int(request.headers["webhook-timestamp"]), request.headers["webhook-signature"]
        assert stamp == int(START_S + request.at)
        assert verify(hook.secrets, request.id, stamp, request.body, signature, now_s=stamp)


async def test_a_failure_of_the_old_webhook_is_tried_again_by_the_new_one(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, seconds=3.0)
    async with relaying(receiver, OLD) as relay:
        await relay.accept()
        await trio.sleep(1)
        relay.dispatcher.replace_webhooks([NEW])
        await relay.settled()
    assert [(request.host, request.attempt) for request in receiver.requests] == [("r1.example", 1), ("new.example", 2)]


async def test_what_comes_while_a_changed_webhooks_lane_ends_is_delivered_by_the_next(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, OLD) as relay:
        await relay.accept()
        await trio.sleep(1)
        relay.dispatcher.replace_webhooks([NEW])
        later = await relay.accept(20)
        receiver.recover()
        await relay.settled()
    assert Counter(request.id for request in receiver.of("new.example")) == Counter(each.event.id for each in later)


async def test_an_unchanged_webhook_is_not_disturbed(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, OLD, webhook(2)) as relay:
        await relay.accept(to=(1, 2))
        await relay.settled()
        relay.dispatcher.replace_webhooks([webhook(2), NEW])
        await relay.accept(to=(1, 2))
        await relay.settled()
    assert [request.connection for request in receiver.of("r2.example")] == [
        receiver.of("r2.example")[0].connection
    ] * 2
    assert len(receiver.of("new.example")) == 1


async def test_nothing_more_is_sent_to_a_removed_webhook_and_its_lane_ends(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, structs.replace(OLD, max_in_flight=1)) as relay:
        await relay.accept(5)
        await trio.sleep(1)
        relay.dispatcher.replace_webhooks([])
        await relay.accept()
        receiver.recover()
        await trio.sleep(1)
        assert list(relay.dispatcher.overdue()) == []
        assert receiver.open_connections == 0
        assert len(await relay.waiting()) == 5
    assert [request.code for request in receiver.requests] == [200]


async def test_deliveries_of_a_removed_webhook_that_were_cancelled_are_held_no_more(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, structs.replace(OLD, max_in_flight=1)) as relay:
        await relay.accept(5)
        await trio.sleep(1)
        relay.dispatcher.replace_webhooks([])
        count = await relay.store.change(queue.cancel_waiting, 1, int(wall() * 1000), 500)
        relay.dispatcher.forget(1, count)
        receiver.recover()
        await trio.sleep(1)
        assert count == 5
        assert (relay.dispatcher.pending(), relay.dispatcher.held()) == (0, 0)


async def test_a_webhook_that_was_removed_and_came_back_owes_nothing_that_was_cancelled_between(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, structs.replace(OLD, max_in_flight=1)) as relay:
        await relay.accept(5)
        await trio.sleep(1)
        relay.dispatcher.replace_webhooks([])
        count = await relay.store.change(queue.cancel_waiting, 1, int(wall() * 1000), 500)
        relay.dispatcher.forget(1, count)
        relay.dispatcher.replace_webhooks([OLD])
        receiver.recover()
        (fresh,) = await relay.accept()
        await trio.sleep(200)
        assert (relay.dispatcher.pending(), relay.dispatcher.held()) == (0, 0)
        assert list(relay.dispatcher.overdue()) == []
    assert [request.id for request in receiver.requests[1:]] == [fresh.event.id]


@pytest.mark.parametrize("status", ["paused", "disabled"])
async def test_what_is_held_counts_as_held_and_is_delivered_when_its_webhook_is_active_again(
    autojump_clock, status: str
):
    receiver = Receiver()
    store = new_store()
    held = structs.replace(OLD, status=status)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        async with relaying(Receiver(), store=store) as nobody:
            await nobody.keep(3, offer=False)
        async with relaying(receiver, held, store=store) as relay:
            await relay.accept(2)
            await trio.sleep(100)
            assert receiver.requests == []
            assert (relay.dispatcher.pending(), relay.dispatcher.held()) == (0, 5)
            relay.dispatcher.replace_webhooks([OLD])
            await trio.sleep(1)
            assert (relay.dispatcher.pending(), relay.dispatcher.held()) == (0, 0)
        store.close()
    assert len(receiver.requests) == 5


async def test_a_webhook_that_is_paused_at_work_keeps_the_rest_as_held(autojump_clock):
    receiver = Receiver()
    receiver.answers(200, seconds=3.0)
    async with relaying(receiver, structs.replace(OLD, max_in_flight=2)) as relay:
        await relay.accept(10)
        await trio.sleep(1)
        relay.dispatcher.replace_webhooks([structs.replace(OLD, max_in_flight=2, status="paused")])
        await trio.sleep(60)
        assert (relay.dispatcher.pending(), relay.dispatcher.held()) == (0, 8)
    assert [request.code for request in receiver.requests] == [200, 200]


# --- stop -------------------------------------------------------------------------------------------------------


async def test_at_a_stop_what_is_in_flight_may_end_and_nothing_more_starts(autojump_clock):
    receiver = Receiver()
    receiver.answers(200, seconds=3.0)
    async with relaying(receiver, structs.replace(OLD, max_in_flight=2)) as relay:
        await relay.accept(10)
        await trio.sleep(1)
        relay.dispatcher.stop(25.0)
        await relay.ended.wait()
        assert trio.current_time() == pytest.approx(3.0, abs=0.1)
        assert len(await relay.waiting()) == 8
    assert [request.code for request in receiver.requests] == [200, 200]
    assert receiver.open_connections == 0


async def test_a_stop_has_idle_lanes_end_at_once(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, OLD) as relay:
        await relay.accept()
        await relay.settled()
        before = trio.current_time()
        relay.dispatcher.stop(25.0)
        await relay.ended.wait()
        assert trio.current_time() - before < 0.1


async def test_what_a_stop_must_cut_is_interrupted_with_no_strike_and_due_at_once(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, HANG)
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        async with relaying(receiver, OLD, store=store) as relay:
            await relay.accept()
            await trio.sleep(10)
            before = trio.current_time()
            relay.dispatcher.stop(7.0)
            await relay.ended.wait()
            assert trio.current_time() - before == pytest.approx(7.0, abs=0.01)
            await trio.sleep(0.1)
            (waiting,) = await relay.waiting()
            assert (waiting.attempt_count, waiting.strikes) == (2, 1)
            assert waiting.due_ms <= int(wall() * 1000)
        assert [line["error"] for line in relay.told] == ["http_status", "interrupted"]
        receiver.recover()
        async with relaying(receiver, OLD, store=store) as relay:
            await relay.settled()
        store.close()
    assert [(request.attempt, request.code) for request in receiver.requests] == [(1, 500), (2, None), (3, 200)]


async def test_an_answer_whose_body_a_stop_cuts_is_no_interruption(autojump_clock):
    receiver = Receiver()
    receiver.answers(200, body_s=60.0)
    async with relaying(receiver, OLD) as relay:
        await relay.accept()
        await trio.sleep(1)
        relay.dispatcher.stop(0.5)
        await relay.ended.wait()
        await trio.sleep(0.1)
        assert await relay.waiting() == []
    assert relay.metrics.attempts == {"success": 1}


@pytest.mark.parametrize(("second", "ends_at"), [(2.0, 4.0), (60.0, 26.0)])
async def test_a_second_stop_shortens_the_first_and_never_lengthens_it(autojump_clock, second: float, ends_at: float):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, structs.replace(OLD, timeout_s=300.0)) as relay:
        await relay.accept()
        await trio.sleep(1)
        relay.dispatcher.stop(25.0)
        await trio.sleep(1)
        relay.dispatcher.stop(second)
        await relay.ended.wait()
        assert trio.current_time() == pytest.approx(ends_at, abs=0.1)


async def test_an_event_that_comes_during_the_stop_waits_for_the_next_start(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with relaying(receiver, OLD, webhook(2)) as relay:
        await relay.accept()
        await trio.sleep(1)
        relay.dispatcher.stop(25.0)
        await trio.lowlevel.checkpoint()
        await relay.accept(to=(1, 2))
        receiver.recover()
        await relay.ended.wait()
        assert len(receiver.requests) == 1
        assert (len(await relay.waiting(1)), len(await relay.waiting(2))) == (1, 1)
