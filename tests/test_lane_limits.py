"""A lane obeys its webhook's limits: rate, order, and first attempts before retries."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import trio
from builders import START_MS, event, wall, webhook
from doubles import HANG, Receiver, Relay, new_store, relaying

from hookrelay.model import Delivery
from hookrelay.net.failure import AttemptFailure
from hookrelay.store import events
from hookrelay.store.chains import BLOCKED_MS, WHOLE
from hookrelay.store.db import Store


def times(receiver: Receiver, host: str = "r1.example") -> list[float]:
    return [request.at for request in receiver.of(host)]


# --- rate limit -------------------------------------------------------------------------------------------------


async def test_a_rate_limit_lets_its_burst_through_and_then_one_after_the_other(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, webhook(rate_limit="10/s burst 5", max_in_flight=50)) as relay:
        began = trio.current_time()
        await relay.accept(50)
        await relay.settled()
    at = [each - began for each in times(receiver)]
    assert at == pytest.approx([max(0, number - 4) * 0.1 for number in range(50)], abs=0.02)
    assert relay.metrics.rate_limit_waits >= 45


@pytest.mark.parametrize(("ago_s", "burst"), [(None, 5), (3600, 5), (0.25, 3), (0, 1), (-3600, 1)])
async def test_a_daemon_that_follows_another_adds_no_burst_to_what_that_may_have_sent(
    autojump_clock, ago_s: float | None, burst: int
):
    receiver = Receiver()
    last_written_ms = None if ago_s is None else START_MS - round(ago_s * 1000)
    hook = webhook(rate_limit="10/s burst 5", max_in_flight=50)
    async with relaying(receiver, hook, last_written_ms=last_written_ms) as relay:
        began = trio.current_time()
        await relay.accept(10)
        await relay.settled()
    assert sum(at - began < 0.01 for at in times(receiver)) == burst
    assert times(receiver)[-1] - began == pytest.approx((10 - burst) * 0.1, abs=0.06)


async def test_retries_count_against_the_rate_as_well(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, seconds=0.0)
    async with relaying(receiver, webhook(rate_limit="1/s", delays=(0.0, 0.0, 0.0))) as relay:
        await relay.accept(4)
        await relay.settled()
    assert all(later - earlier >= 0.999 for earlier, later in pairwise(times(receiver)))
    assert len(receiver.requests) == 12


async def test_a_bucket_outlives_its_lane(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, webhook(rate_limit="1/h")) as relay:
        await relay.accept()
        await relay.settled()
        await trio.sleep(600)
        assert list(relay.dispatcher.overdue()) == []
        await relay.accept()
        await relay.settled(4000)
    first, second = times(receiver)
    assert second - first == pytest.approx(3600, abs=0.1)


async def test_a_clock_that_jumps_makes_no_burst_over_the_rate(autojump_clock):
    ahead = [0.0]
    receiver = Receiver()
    async with relaying(receiver, webhook(rate_limit="1/s"), clock=lambda: wall() + ahead[0]) as relay:
        await relay.accept(20)
        await trio.sleep(3.5)
        ahead[0] = 40_000_000.0
        await trio.sleep(3)
        ahead[0] = -40_000_000.0
        await relay.settled()
    assert all(later - earlier >= 0.999 for earlier, later in pairwise(times(receiver)))


async def test_a_limited_webhook_delays_no_other(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, webhook(1, rate_limit="1/m"), webhook(2)) as relay:
        await relay.accept(100, to=(1, 2))
        await trio.sleep(2)
        assert len(receiver.of("r2.example")) == 100
        assert len(receiver.of("r1.example")) == 1


# --- order ------------------------------------------------------------------------------------------------------


async def accept(relay: Relay, chain: str | None, count: int = 1, data: bytes = b"1") -> list[str]:
    """Store events with one chain and offer their deliveries, as ingest does; their ids."""
    ids = []
    for _ in range(count):
        seq, first = relay.store.take_numbers(1)
        one = event(seq, created_ms=int(wall() * 1000), ids=relay.store.ids, data=data)
        (receipt,) = await relay.store.write(events.insert, [events.Entry(one, None, (1,), first, (chain,))])
        assert isinstance(receipt, events.Receipt)
        due_ms = BLOCKED_MS + first if receipt.blocked else one.created_ms
        relay.dispatcher.offer(1, Delivery(first, one, due_ms=due_ms, chain=chain))
        ids.append(one.id)
    return ids


async def test_a_later_event_of_a_key_waits_for_the_end_of_the_earlier_and_other_keys_go_on(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, 500, 200)
    async with relaying(receiver, webhook(delays=(0.0, 100.0, 100.0))) as relay:
        first = await accept(relay, "a", 3)
        await trio.sleep(1)
        second = await accept(relay, "b")
        await trio.sleep(1)
        assert [request.id for request in receiver.requests] == [first[0], *second]
        await relay.settled()
    came = [request.id for request in receiver.requests if request.id in first]
    assert came == [first[0], first[0], *first[1:]]


async def test_what_fails_for_good_lets_the_next_of_its_key_go(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, 500, 200)
    async with relaying(receiver, webhook(delays=(0.0, 10.0))) as relay:
        ids = await accept(relay, "a", 2)
        await relay.settled()
    assert [request.id for request in receiver.requests] == [ids[0], ids[0], ids[1]]
    assert relay.metrics.deliveries == {"succeeded": 1, "failed": 1, "cancelled": 0}


async def test_an_ordered_webhook_gets_one_at_a_time_in_the_order_of_acceptance(autojump_clock):
    receiver = Receiver()
    receiver.answers(200, 500, 200, 200, AttemptFailure("reset", "gone"), 200)
    async with relaying(receiver, webhook(ordered=True, delays=(0.0, 5.0, 50.0))) as relay:
        ids = await accept(relay, WHOLE, 6)
        await relay.settled()
    came = [request.id for request in receiver.requests]
    assert list(dict.fromkeys(came)) == ids
    assert receiver.most_at_once["r1.example"] == 1


async def test_order_outlives_the_daemon(autojump_clock):
    receiver = Receiver()
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        async with relaying(Receiver(), store=store) as nobody:
            ids = await accept(nobody, "a", 50)
        async with relaying(receiver, webhook(), store=store) as relay:
            await relay.settled()
        store.close()
    assert [request.id for request in receiver.requests] == ids


# --- first attempts before retries ------------------------------------------------------------------------------


async def test_first_attempts_go_before_retries_of_the_same_webhook(autojump_clock):
    receiver = Receiver()
    receiver.answers(*[500] * 600, 200)
    async with relaying(receiver, webhook(max_in_flight=1, delays=(0.0, 100.0))) as relay:
        await relay.accept(600)
        await trio.sleep(60)
        receiver.answers(HANG)
        await trio.sleep(60)  # all retries are due, one of them hangs
        old = {request.id for request in receiver.requests}
        fresh = await relay.accept(600)
        receiver.recover()
        await relay.settled()
    assert [request.id for request in receiver.requests[601:1201]] == [each.event.id for each in fresh]
    assert {request.id for request in receiver.requests[1201:]} <= old


class SlowReads(Store):
    """What readers answer arrives late."""

    read_s = 0.0

    async def read(self, job: Callable[..., Any], *args: Any, keep: bool = False) -> Any:
        answer = await super().read(job, *args, keep=keep)
        await trio.sleep(self.read_s)
        return answer


async def test_no_retry_overtakes_a_first_attempt_that_a_page_is_about_to_bring(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, seconds=0.0)
    store = new_store(SlowReads)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        async with relaying(receiver, webhook(max_in_flight=1, delays=(0.0, 100.0)), store=store) as relay:
            await relay.accept(3)
            await trio.sleep(88)
            receiver.answers(200, seconds=29.0)
            await relay.accept()  # keeps the worker busy while the retries fall due
            await trio.sleep(27)
            receiver.answers(200, seconds=1.0)
            store.read_s = 40.0
            await relay.keep(2, offer=False)
            relay.dispatcher.expect(1, 2, 0)
            await relay.settled()
        store.close()
    assert [request.attempt for request in receiver.requests] == [1, 1, 1, 1, 1, 1, 2, 2, 2]


async def test_a_first_attempt_that_came_while_memory_was_full_of_retries_is_waited_for_by_none_for_ever(
    autojump_clock,
):
    receiver = Receiver()
    receiver.answers(500, seconds=0.0)
    async with relaying(receiver, webhook(max_in_flight=1, delays=(0.0, 100.0))) as relay:
        await relay.accept(12, data=b'"%b"' % (b"x" * 250_000))
        await trio.sleep(88)
        receiver.answers(200, seconds=29.0)
        await relay.accept()  # keeps the worker busy while the retries fall due
        await trio.sleep(27)
        receiver.answers(200, seconds=1.0)
        await relay.accept()
        await relay.settled(120)
    assert Counter(request.attempt for request in receiver.requests) == {1: 14, 2: 12}
