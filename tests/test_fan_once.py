"""An event that many webhooks want: offered in slices, and still each of its deliveries goes out once."""

from collections import Counter

import trio
from doubles import HANG, Receiver
from house import House, house

from hookrelay.ingest import AT_ONCE

MANY = AT_ONCE + 40


async def crowd(made: House) -> list[int]:
    """So many webhooks that deliveries of an event for all of them are offered in slices; their keys."""
    return [(await made.make(url=f"https://r{number}.example/hook")).seq for number in range(MANY)]


async def test_a_page_that_shows_what_is_still_to_be_offered_leaves_it_to_the_offer(autojump_clock):
    receiver = Receiver()
    receiver.hosts = {f"r{number}.example": receiver.behaviour("x") for number in range(MANY)}
    receiver.behaviour("x").seconds = 0.0
    async with house(receiver) as made:
        seqs = await crowd(made)
        await made.submit()
        for seq in seqs:
            made.dispatcher.look_again(seq)  # as a retry that falls due just now
        await trio.sleep(10)
        assert Counter(request.host for request in receiver.requests).most_common(1)[0][1] == 1
        assert len(receiver.requests) == MANY
        assert (made.dispatcher.pending(), made.statuses()) == (0, [("succeeded", MANY)])


async def test_what_is_called_off_before_it_was_offered_is_not_sent(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG, host="r0.example")
    async with house(receiver) as made:
        seqs = await crowd(made)
        await made.submit()
        (last,) = (await made.rows(made.registry.catalog.by_seq[seqs[-1]]))[-1:]
        await made.redeliverer.cancel(last)
        await trio.sleep(10)
        assert receiver.of(f"r{MANY - 1}.example") == []
        assert (made.dispatcher.pending(), len(receiver.requests)) == (1, MANY - 1)
        receiver.recover()
        await trio.sleep(1)
        assert made.statuses() == [("cancelled", 1), ("succeeded", MANY - 1)]
        assert made.dispatcher.pending() == 0


async def test_what_is_called_off_before_it_was_offered_and_wanted_again_goes_out_once(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        seqs = await crowd(made)
        await made.submit()
        (last,) = await made.rows(made.registry.catalog.by_seq[seqs[-1]])
        await made.redeliverer.cancel(last)
        (again,) = await made.rows(made.registry.catalog.by_seq[seqs[-1]])
        await made.redeliverer.retry(again)
        await trio.sleep(10)
        assert len(receiver.of(f"r{MANY - 1}.example")) == 1
        assert (made.dispatcher.pending(), made.statuses()) == (0, [("succeeded", MANY)])
