"""Many lanes, one budget of connections: whatever hangs, others get theirs."""

from collections import defaultdict

import trio
from builders import webhook
from doubles import HANG, Receiver, relaying


def times(receiver: Receiver, host: str = "r1.example") -> list[float]:
    return [request.at for request in receiver.of(host)]


# --- one budget of connections ----------------------------------------------------------------------------------


async def test_a_webhook_that_hangs_never_takes_the_whole_budget(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG, host="r1.example")
    async with relaying(receiver, webhook(1, max_in_flight=100), webhook(2), max_connections=16) as relay:
        await relay.accept(100, to=(1,))
        await trio.sleep(1)
        assert len(receiver.of("r1.example")) == 6
        began = trio.current_time()
        await relay.accept(50, to=(2,))
        await trio.sleep(1)
        assert len(receiver.of("r2.example")) == 50
        assert times(receiver, "r2.example")[0] - began < 0.1


async def test_500_hanging_webhooks_leave_a_healthy_one_at_its_usual_latency(autojump_clock):
    receiver = Receiver()
    hogs = range(2, 502)
    for number in hogs:
        receiver.answers(HANG, host=f"r{number}.example")
    async with relaying(receiver, *map(webhook, range(1, 502)), max_connections=300) as relay:
        await relay.accept()
        await relay.settled()  # the healthy one is known to be so; it has lost its connection by now
        await trio.sleep(100)
        await relay.accept(20, to=hogs)
        await trio.sleep(5)
        assert len(receiver.requests) < 1 + 300
        before = {}
        for _ in range(20):
            (made,) = await relay.accept()
            before[made.event.id] = trio.current_time()
            await trio.sleep(0.5)
        healthy = receiver.of("r1.example")[1:]
        assert {request.id for request in healthy} == set(before)
        assert max(request.at - before[request.id] for request in healthy) < 0.1


async def test_an_idle_connection_makes_room_for_a_webhook_without_one(autojump_clock):
    receiver = Receiver()
    async with relaying(receiver, *map(webhook, range(1, 31)), max_connections=10) as relay:
        for number in range(1, 31):
            await relay.accept(to=(number,))
            await trio.sleep(1)
        assert len(receiver.requests) == 30
        assert receiver.open_connections <= 10


async def test_webhooks_beyond_the_budget_get_their_turn(autojump_clock):
    receiver = Receiver()
    hooks = [webhook(number, max_in_flight=4) for number in range(1, 41)]
    for number in range(1, 41):
        receiver.answers(200, host=f"r{number}.example", seconds=0.5)
    async with relaying(receiver, *hooks, max_connections=8) as relay:
        await relay.accept(10, to=range(1, 41))
        await relay.settled()
        assert receiver.open_connections <= 9
    came = defaultdict(int)
    for request in receiver.requests:
        came[request.host] += 1
    assert set(came.values()) == {10}
    assert len(came) == 40
